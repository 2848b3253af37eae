//! Which actions made some bytes, asked for many times.

use crate::action::{ActionKey, ActionRecord};
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// After so many questions all records are read once: each question looks at the folder of records as a whole.
const MANY: usize = 16;

pub(super) struct Makers<'a> {
    cache: &'a Cache,
    asked: usize,
    /// Digest -> the actions that made it, newest first.
    all: Option<BTreeMap<Digest, Vec<ActionKey>>>,
}

impl<'a> Makers<'a> {
    pub(super) fn new(cache: &'a Cache) -> Self {
        Self { cache, asked: 0, all: None }
    }

    /// The records of the actions other than `key` that made these bytes, newest first.
    pub(super) fn others(&mut self, digest: Digest, key: ActionKey) -> Result<Vec<ActionRecord>, CacheError> {
        self.asked += 1;
        if self.all.is_none() && self.asked > MANY {
            self.all = Some(all(self.cache)?);
        }
        let keys = match &self.all {
            Some(all) => all.get(&digest).cloned().unwrap_or_default(),
            None => self.cache.makers(digest)?,
        };
        let mut records = Vec::new();
        for other in keys.into_iter().filter(|other| *other != key) {
            records.extend(self.cache.record(other)?);
        }
        Ok(records)
    }
}

fn all(cache: &Cache) -> Result<BTreeMap<Digest, Vec<ActionKey>>, CacheError> {
    let mut records = cache.records()?;
    records.sort_by(|a, b| (&b.started, b.key).cmp(&(&a.started, a.key)));
    let mut makers: BTreeMap<Digest, Vec<ActionKey>> = BTreeMap::new();
    for record in &records {
        let digests: BTreeSet<Digest> = record.outputs.values().map(|output| output.digest).collect();
        digests.into_iter().for_each(|digest| makers.entry(digest).or_default().push(record.key));
    }
    Ok(makers)
}
