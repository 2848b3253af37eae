//! Which of the actions behind an artifact a trusted key vouches for.
//!
//! A run's signed statement names the digest of every record that it rests on. A record vouched for names its inputs and
//! outputs by digest, so that the bytes follow.

use super::ProvenanceError;
use super::export::{Facts, statement};
use super::lineage::Lineage;
use super::target::{Audit, audit};
use crate::cache::{Cache, CacheError, Problem};
use crate::digest::Digest;
use crate::name::{RunId, StageName};
use crate::signature::{Opened, Public, Secret, open};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What trusted keys say about a lineage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Vouched {
    /// Actions of the lineage.
    pub actions: u64,
    /// Those whose record a trusted key has signed.
    pub signed: u64,
    pub keys: BTreeSet<String>,
    /// The runs whose statements say so.
    pub runs: BTreeSet<RunId>,
    pub unsigned: BTreeSet<StageName>,
    /// Ids of keys that signed, and are not trusted.
    pub untrusted: BTreeSet<String>,
    /// Envelopes that were changed after they were signed.
    pub problems: Vec<Problem>,
}

/// Signs all that a run rests on, and puts the envelope beside its record.
pub fn sign_run(cache: &Cache, run: &RunId, key: &Secret) -> Result<(), ProvenanceError> {
    let facts = Facts::of(cache, &audit(cache, run.as_str())?)?;
    let envelope = key.sign(&statement(cache, &facts)?);
    let text = serde_json::to_vec_pretty(&envelope).expect("plain data");
    Ok(cache.put_signature(run, &text)?)
}

/// Looks for trusted signatures on the records of a lineage.
pub fn vouched(cache: &Cache, audit: &Audit, trusted: &[Public]) -> Result<Vouched, CacheError> {
    let mut wanted: BTreeMap<Digest, StageName> = BTreeMap::new();
    let mut answer = Vouched::default();
    let mut failed = None;
    let mut visit = |lineage: &Lineage| {
        let Lineage::Made(made) = lineage else { return };
        match cache.record_bytes(&made.record) {
            Ok(Some(bytes)) => {
                wanted.insert(Digest::of(&bytes), made.record.stage.clone());
            }
            Ok(None) => {
                answer.unsigned.insert(made.record.stage.clone());
            }
            Err(error) => failed = Some(error),
        }
    };
    audit.lineages().for_each(|lineage| lineage.visit(&mut visit));
    if let Some(error) = failed {
        return Err(error);
    }
    answer.actions = wanted.len() as u64;
    for run in cache.runs()?.into_iter().rev() {
        let Some((file, text)) = cache.signature(&run)? else { continue };
        match open(&text, trusted) {
            Opened::Broken { why } => answer.problems.push(Problem { file, what: format!("the signature {why}") }),
            Opened::Untrusted { keys } => answer.untrusted.extend(keys),
            Opened::Trusted { key, statement } => {
                let before = wanted.len();
                records(&statement).for_each(|digest| drop(wanted.remove(&digest)));
                if wanted.len() < before {
                    answer.keys.insert(key);
                    answer.runs.insert(run);
                }
            }
        }
    }
    answer.signed = answer.actions - wanted.len() as u64;
    answer.unsigned.extend(wanted.into_values());
    Ok(answer)
}

/// The records that a statement rests on.
fn records(statement: &Value) -> impl Iterator<Item = Digest> {
    let byproducts = statement["predicate"]["runDetails"]["byproducts"].as_array();
    byproducts.into_iter().flatten().filter_map(|product| {
        product["name"].as_str()?.strip_prefix("actions/")?;
        Digest::from_hex(product["digest"]["blake3"].as_str()?).ok()
    })
}
