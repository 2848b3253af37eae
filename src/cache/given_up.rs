//! What was given up: its bytes are gone, its recipe and digest are not.

use super::records::list;
use super::{Cache, CacheError, durable, seal};
use crate::action::ActionKey;
use crate::digest::Digest;
use crate::name::StageName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;

/// One carrying out of `cache gc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GivenUp {
    /// RFC 3339, UTC.
    pub at: String,
    pub actions: Vec<GivenUpAction>,
    pub objects: BTreeSet<Digest>,
}

/// An action whose outputs were given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GivenUpAction {
    /// `None`: objects that no record named.
    pub key: Option<ActionKey>,
    pub stage: Option<StageName>,
    pub bytes: u64,
    /// What it took to make them.
    pub seconds: f64,
}

impl Cache {
    pub(super) fn remember_given_up(&self, given_up: &GivenUp) -> Result<(), CacheError> {
        let (folder, session) = (self.root().join("given-up"), self.session()?);
        fs_err::create_dir_all(&folder)?;
        let temp = session.path();
        let name = temp.parent().and_then(|dir| dir.file_name()).expect("a session has a folder");
        Ok(durable::replace(&temp, &folder.join(name).with_extension("json"), &seal::seal(given_up))?)
    }

    /// Whether an object that is missing was given up, as far as was known when this was first asked.
    pub(super) fn was_given_up(&self, digest: Digest) -> io::Result<bool> {
        if let Some(known) = self.given_up.get() {
            return Ok(known.contains(&digest));
        }
        let known = self.given_up()?;
        Ok(self.given_up.get_or_init(|| known).contains(&digest))
    }

    /// Every object that was ever given up, or left where its record came from; some may be here again. Records that can't be read are left out: what
    /// they name counts as missing.
    pub fn given_up(&self) -> io::Result<BTreeSet<Digest>> {
        let mut objects = self.left_elsewhere()?;
        for entry in list(&self.root().join("given-up"))? {
            let read = fs_err::read(entry.path()).ok().and_then(|bytes| seal::open::<GivenUp>(&bytes).ok());
            objects.extend(read.into_iter().flat_map(|given_up| given_up.objects));
        }
        Ok(objects)
    }
}
