//! Pages about runs, for people: what a run did, with which numbers, and where they came from.
//!
//! ```text
//! run        the page of one run: all chapters
//! steps      its graph and its table of stages
//! results    its metrics and pictures, drawn by `report`
//! agreement  its predictions against measured values
//! list       the runs, newest first
//! live       a run under way, from its events
//! artifact   an artifact's lineage both ways
//! compare    two runs beside one another
//! origin     parameters, lineage, environment, and how to make it again
//! ```
//!
//! Pages are made of records and objects alone. That of a file holds all that it shows, without script; those that
//! `cistage serve` gives link to one another, and that of a run under way has one script.

use crate::cache::CacheError;
use crate::data::DataError;
use crate::provenance::ProvenanceError;
use crate::report::ReportError;

mod agreement;
mod artifact;
mod compare;
mod list;
mod live;
mod origin;
mod results;
mod run;
mod steps;

pub use artifact::artifact_page;
pub use compare::compare_page;
pub use list::list_page;
pub use live::live_page;
pub use run::{run_page, served_run};

/// Why a page can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl From<std::io::Error> for PageError {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error.into())
    }
}
