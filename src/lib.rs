//! Cached stages for cis-regulatory models.
//!
//! A pipeline is a graph of stages. Before a stage runs, everything that may change its outputs is
//! written down as an *action manifest*; the digest of that manifest is the *action key*. An *action
//! record* says what a key produced, and a content-addressed store holds the bytes. A run serves what
//! it can, executes the rest, and leaves records from which the lineage of any artifact can be read.
//!
//! Imports point down this table; `tests/it/layers.rs` checks it.
//!
//! | rank | modules | may import |
//! |---:|---|---|
//! | 0 | `name`, `digest`, `device`, `seed`, `signature`, `site`, `huge_pages`, `collective` | nothing of ours |
//! | 1 | `artifact`, `action`, `event` | rank 0, and each other in that order |
//! | 2 | `stage` | ranks 0-1 |
//! | 2 | `data`; `model`; `training`; `report` | rank 0, and `data`, `model` as far as they stand before them |
//! | 3 | `stages` | `stage`, the science, ranks 0-1 |
//! | 3 | `cache` | ranks 0-1 |
//! | 4 | `pipeline` | `stages`, `stage`, ranks 0-1 |
//! | 4 | `provenance` | `cache`, `data`, ranks 0-1 |
//! | 5 | `engine` | `pipeline`, `cache`, `stages`, `stage`, `provenance`, `data`, `model`, ranks 0-1 |
//! | 5 | `pages` | `cache`, `provenance`, `report`, `data`, ranks 0-1 |
//! | 6 | `cli` | anything |

pub mod action;
pub mod artifact;
pub mod collective;
pub mod device;
pub mod digest;
pub mod event;
pub mod huge_pages;
pub mod name;
pub mod seed;
pub mod signature;
pub mod site;

pub mod stage;

pub mod data;
pub mod model;
pub mod report;
pub mod training;

pub mod cache;
pub mod stages;

pub mod pipeline;
pub mod provenance;

pub mod engine;
pub mod pages;

pub mod cli;
