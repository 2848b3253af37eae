//! The integration tests: one binary, one module for each concern.

mod layers;
mod bad_input;
mod caching;
mod failing;
mod flagship;
mod workspace;
