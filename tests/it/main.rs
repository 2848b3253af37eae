//! The integration tests: one binary, one module for each concern.

mod bad_input;
mod caching;
mod docs;
mod engine;
mod failing;
mod flagship;
mod gc;
mod hostile;
mod kill;
mod layers;
mod leakage;
mod lineage;
mod pages;
mod ranks;
mod readme;
mod secrets;
mod serve;
mod shell;
mod size;
mod tables;
mod text_forms;
mod training;
mod workspace;
