//! The integration tests: one binary, one module for each concern.

mod bad_input;
mod caching;
mod engine;
mod failing;
mod flagship;
mod layers;
mod readme;
mod size;
mod workspace;
