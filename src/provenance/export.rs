//! Lineage in the forms that others' tools read.
//!
//! ```text
//! facts     the lineage laid flat: sources, actions, results, runs
//! prov      W3C PROV, as PROV-JSON
//! in_toto   an in-toto statement with SLSA provenance
//! ro_crate  a folder that is an RO-Crate of the Workflow Run profiles
//! ```

use super::ProvenanceError;
use super::target::Audit;
use crate::cache::Cache;
use serde_json::Value;

mod facts;
mod in_toto;
mod prov;
mod ro_crate;

pub use facts::Facts;
pub use in_toto::statement;
pub use prov::prov;
pub use ro_crate::ro_crate;

/// A form of provenance that is one JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Prov,
    InToto,
}

/// Writes the lineage of an answer as one document.
pub fn document(cache: &Cache, audit: &Audit, form: Document) -> Result<Value, ProvenanceError> {
    let facts = Facts::of(cache, audit)?;
    match form {
        Document::Prov => Ok(prov(&facts)),
        Document::InToto => Ok(statement(cache, &facts)?),
    }
}
