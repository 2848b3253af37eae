//! Training: epochs over seeded orders of rows, loss, gradient, AdamW; checkpoints, from which a killed one goes on.

pub mod checkpoint;
pub mod course;
pub mod engine;
pub mod fit;
pub mod labels;
pub mod learner;
pub mod loss;
pub mod optimizer;
pub mod schedule;

pub use checkpoint::Checkpoints;
pub use course::{Curves, Epoch};
pub use engine::{Engine, Fused, Part};
pub use fit::{FitError, Fitted, Kept, Options, Rows, Training, Watch};
pub use labels::LabelScale;
pub use learner::{Learner, OnGpu, OnProcessor};
pub use loss::Loss;
pub use optimizer::AdamW;
pub use schedule::{Schedule, Shape};

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod ranks;
#[cfg(test)]
mod resume;
