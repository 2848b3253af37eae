//! Training: epochs over seeded orders of rows, loss, gradient, AdamW.

pub mod fit;
pub mod loss;
pub mod optimizer;
pub mod schedule;

pub use fit::{Curves, Epoch, FitError, Fitted, Kept, Options, Rows, Watch, fit};
pub use loss::Loss;
pub use optimizer::AdamW;
pub use schedule::{Schedule, Shape};

#[cfg(test)]
mod parity;
