//! What runs rely on, and the gate that keeps it from being given up under their hands.
//!
//! Whoever relies on an object that is there already first says so, then looks whether it is there, both while it holds
//! the gate open. What is given up is taken away while the gate is shut, and nothing that somebody said is among it.

use super::lock;
use super::session::Session;
use crate::digest::Digest;
use fs_err::File;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Gate(PathBuf);

/// Nothing is given up while this lives.
#[derive(Debug)]
pub struct Passage {
    _gate: File,
}

/// What the sessions that live rely on.
#[derive(Debug, Default)]
pub struct Relied {
    /// Action keys and objects.
    pub names: BTreeSet<Digest>,
    /// When the oldest of them began, in nanoseconds since 1970: what was made since may be theirs.
    pub since: Option<i64>,
}

impl Gate {
    pub fn new(root: &Path) -> Self {
        Self(root.join("locks").join("gc.lock"))
    }

    /// Says that `session` relies on these keys or objects; they may be looked for while the passage lives.
    pub fn rely_on(&self, session: &Session, names: &[Digest]) -> io::Result<Passage> {
        let gate = lock::open(&self.0)?;
        gate.file().lock_shared()?;
        session.declare(names)?;
        Ok(Passage { _gate: gate })
    }

    /// Shuts the gate, and tells what others rely on.
    pub fn shut(&self, tmp: &Path) -> io::Result<(Passage, Relied)> {
        let gate = lock::open(&self.0)?;
        gate.lock()?;
        let mut relied = Relied::default();
        for entry in fs_err::read_dir(tmp)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "lock") && lock::try_take(&path)?.is_none() {
                let (since, names) = super::session::declared(&path)?;
                relied.names.extend(names);
                relied.since = Some(relied.since.map_or(since, |before| before.min(since)));
            }
        }
        Ok((Passage { _gate: gate }, relied))
    }
}
