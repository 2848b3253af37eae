//! The integration tests: one binary, one module for each concern.

mod layers;
mod readme;
