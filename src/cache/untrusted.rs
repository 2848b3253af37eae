//! The readers of what others may have written into a shared cache, for the fuzz targets: no part of what the crate offers.

pub use super::records::check as action_record;
pub use super::runs::{Head, check as run_record};
pub use super::seal::{open, reopen, seal};
