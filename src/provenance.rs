//! Where things came from, from records alone: lineage, its verification, and why two actions differ.

mod difference;

pub use difference::{Because, differences};
