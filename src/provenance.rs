//! Where things came from, from records alone: lineage, its verification, and why two actions differ.
//!
//! ```text
//! compared     two runs, stage by stage
//! difference   two manifests, field by field
//! downstream   the lineage forwards: what was made from an artifact
//! export       the lineage in the forms of others
//! history      the runs backwards: the newest earlier execution of a stage
//! signed       which actions of a lineage a trusted key vouches for
//! target       what a user names: a file, a digest, `STAGE.PORT`, a run
//! lineage      the tree back to source files; its JSON
//! makers       which actions made some bytes
//! leakage      what evaluation rows share with training rows
//! mermaid      the tree as a drawing
//! named        the output that `STAGE.PORT` names
//! render       the tree for people
//! verify       every object and record of a lineage, read again
//! ```

use crate::cache::CacheError;

mod compared;
mod difference;
mod downstream;
mod export;
mod history;
mod leakage;
mod lineage;
mod makers;
mod mermaid;
mod named;
mod render;
mod signed;
mod target;
mod verify;

#[cfg(test)]
mod tests;

pub use compared::{Again, compared};
pub use difference::{Because, GIVEN_UP, brief, differences, ending, in_words};
pub use downstream::{Derived, Downstream, downstream};
pub use export::{Document, Facts, document, ro_crate};
pub use history::{Earlier, History};
pub use leakage::{Counting, EVALUATIONS, Leakage, Seen, leakage, lineages};
pub use lineage::{Lineage, Made, MadeBy, SourceFile};
pub use mermaid::{escaped as mermaid_text, mermaid};
pub use named::{Named, named};
pub use render::render;
pub use signed::{Vouched, sign_run, vouched};
pub use target::{Audit, Part, audit, audit_name};
pub use verify::{SourceCheck, SourceState, Verified, source_state, verify};

/// Why a question about the past has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// The user names what no record knows; says what comes nearest. Exit code 2.
    #[error("{0}")]
    Unknown(String),
    /// What the answer needs is damaged or gone. Exit code 3.
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl From<std::io::Error> for ProvenanceError {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error.into())
    }
}
