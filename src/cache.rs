//! What has happened: objects by digest, records of actions and of runs, claims on work under way.
//!
//! Plain files are the truth; the index is derived from them and may be lost at any time.
//!
//! ```text
//! format                              the number of this layout
//! objects/<2 hex>/<62 hex>            bytes under their BLAKE3, read-only; a folder is a listing and its files
//! actions/<2 hex>/<62 hex>.json       what an action made, with a checksum of its own
//! runs/<run>/run.json, events.jsonl   what became of a run; runs/head.json names the newest
//! texts/<2 hex>/<62 hex>-<hex>.json   which artifact a file of text was written from, by the file's digest
//! scratch/<action key>/               unfinished work, and attempts that failed
//! pins/<hex>.json                     what is never given up
//! given-up/<session>.json             which objects `cache gc` gave up
//! arrivals/<2 hex>/<62 hex>.json      of a record that came from a shared cache: from where, and who signed it
//! uploads/<64 hex>.json, .lock        how far the upload of a large object got that did not end, and who holds it
//! locks/  tmp/  quarantine/           kernel locks (runs.lock notes whose record is written); files being written or
//!                                     given up; what was damaged
//! index/                              sled, and `memo`: digests of unchanged files
//! ```

use crate::action::{ActionKey, ActionManifest, ActionRecord};
use crate::artifact::{Artifact, Format, Layout};
use crate::digest::Digest;
use crate::name::RunId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod chain;
mod claim;
pub mod copy;
mod disk;
mod du;
pub mod durable;
mod gate;
mod gc;
mod given_up;
mod holder;
mod index;
mod ledger;
mod lock;
mod materialize;
mod memo;
mod network;
mod pins;
mod place;
mod records;
pub mod remote;
pub mod run_record;
mod runs;
mod seal;
mod session;
mod source;
mod stamp;
mod store;
mod texts;
pub mod tree;
mod underway;
#[doc(hidden)]
pub mod untrusted;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use gate::{Gate, Passage};
use ledger::{Generation, Ledger};
use records::{Found, Records};
use runs::Runs;
use session::Session;
use store::{State, Store};
use texts::Texts;

pub use claim::Claim;
pub use disk::{Disk, disk};
pub use du::{Total, Usage};
pub use gc::{Candidate, Plan as GcPlan, Policy as GcPolicy, Reason};
pub use pins::Pin;
pub use records::Served;
pub use remote::{Arrival, Remote};
pub use run_record::{Imported, Maker, RunRecord, StepRecord, Verify};
pub use texts::TextRecord;
pub use underway::{Progressing, Underway};
pub use verify::{Problem, Verification};

/// The layout that this program reads and writes.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A cache that can't be used as it is; says what to do.
    #[error("{0}")]
    Unusable(String),
}

/// An opened cache folder.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    store: Store,
    records: Records,
    runs: Runs,
    texts: Texts,
    ledger: Ledger,
    /// What rows have in common, as far as it was counted: part of the index.
    overlaps: Option<PathBuf>,
    gate: Gate,
    /// What was given up, read when something is first found missing.
    given_up: OnceLock<BTreeSet<Digest>>,
    /// `None` where the cache is open for reading alone.
    session: Option<Session>,
}

/// What was counted, and under which name: a file that took another's place answers nothing.
#[derive(Serialize, Deserialize)]
struct Counted<T> {
    name: Digest,
    counted: T,
}

/// What looking up a key found.
#[derive(Debug)]
pub enum Lookup {
    /// Every output object and the log are there, with the right bytes.
    Hit(Served),
    /// No record, or one whose outputs are not all there any more: `damage` says which were lost, beside those that
    /// `cache gc` gave up.
    Miss { damage: Vec<String>, given_up: bool },
}

impl Lookup {
    /// Nothing is recorded, or nothing is wanted.
    pub const NONE: Self = Self::Miss { damage: Vec::new(), given_up: false };
}

/// What of an action is not there any more.
#[derive(Default)]
struct Gaps {
    damage: Vec<String>,
    given_up: bool,
}

/// What asking for the right to execute a key gave: somebody else may have finished it meanwhile.
#[derive(Debug)]
pub enum Claimed {
    Hit(Served),
    Claim(Claim),
}

impl Cache {
    /// Opens a cache for writing; makes its folders where they are missing.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        let root = std::path::absolute(root)?;
        let unwritable = |e: io::Error| {
            let hint = "choose another with --cache DIR or CISTAGE_CACHE";
            match e.kind() {
                // The machine's trouble, not a wrong path.
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CacheError::Io(e),
                _ => CacheError::Unusable(format!("can't write to the cache {}: {e}; {hint}", root.display())),
            }
        };
        place::check_format(&root)?;
        place::refuse_network(&root)?;
        for folder in ["objects", "actions", "runs", "texts", "scratch", "locks", "tmp"] {
            fs_err::create_dir_all(root.join(folder)).map_err(unwritable)?;
        }
        let session = Session::start(&root.join("tmp")).map_err(unwritable)?;
        if !root.join("format").exists() {
            durable::replace(&session.path(), &root.join("format"), format!("{FORMAT}\n").as_bytes())
                .map_err(unwritable)?;
        }
        session::sweep(&root.join("tmp"));
        // For tests, and for whoever distrusts the index.
        let index = (!place::is_set("CISTAGE_NO_INDEX")).then(|| place::index_of(&root));
        Ok(Self::assemble(root, index, Some(session)))
    }

    /// Opens a cache for reading alone: makes nothing, takes no lock, works on a read-only mount.
    /// A folder that does not exist reads as an empty cache.
    pub fn open_read_only(root: &Path) -> Result<Self, CacheError> {
        let root = std::path::absolute(root)?;
        place::check_format(&root)?;
        Ok(Self::assemble(root, None, None))
    }

    fn assemble(root: PathBuf, index: Option<PathBuf>, session: Option<Session>) -> Self {
        Self {
            store: Store::new(&root),
            records: Records::new(&root),
            runs: Runs::new(&root),
            texts: Texts::new(&root),
            gate: Gate::new(&root),
            given_up: OnceLock::new(),
            overlaps: index.as_ref().map(|index| index.join("overlaps")),
            ledger: Ledger::new(index, &root),
            session,
            root,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn session(&self) -> Result<&Session, CacheError> {
        self.session
            .as_ref()
            .ok_or_else(|| CacheError::Unusable(format!("the cache {} is open for reading alone", self.root.display())))
    }

    /// From now on every file is hashed once by this process, however unchanged it looks.
    pub fn verify_always(&self) {
        self.ledger.read_all();
    }

    /// A path that nothing stands at, in a folder of this process's own, which goes when the cache is closed.
    pub fn private_path(&self) -> Result<PathBuf, CacheError> {
        Ok(self.session()?.path())
    }

    /// Whether all bytes of an artifact are there, and right.
    pub fn holds(&self, artifact: &Artifact) -> Result<bool, CacheError> {
        let mut gaps = Gaps::default();
        self.check(artifact, "", &mut gaps)?;
        Ok(gaps.damage.is_empty() && !gaps.given_up)
    }

    /// Says that this process relies on what these actions made. While the passage lives, nothing is given up; of what is
    /// found there, nothing is given up after it either, as long as the cache is open.
    pub fn rely_on(&self, keys: &[ActionKey]) -> Result<Option<Passage>, CacheError> {
        let Some(session) = &self.session else { return Ok(None) };
        let names: Vec<Digest> = keys.iter().map(|key| key.0).collect();
        Ok(Some(self.gate.rely_on(session, &names)?))
    }

    /// Looks a key up; a hit is complete, or it is a miss. Damaged objects are quarantined when the cache is open for
    /// writing.
    pub fn lookup(&self, key: ActionKey) -> Result<Lookup, CacheError> {
        let record: Served = match self.records.read(key, &self.ledger)? {
            Found::Record(record) => record,
            Found::Missing => return Ok(Lookup::NONE),
            Found::Damaged(what) => {
                if self.session.is_some() {
                    self.records.set_aside(key);
                }
                let damage = vec![format!("the record of {} {what}", key.0.short())];
                return Ok(Lookup::Miss { damage, given_up: false });
            }
        };
        let mut gaps = Gaps::default();
        for (port, output) in &record.outputs {
            self.check(output, &format!("output {port}"), &mut gaps)?;
        }
        if let Some(log) = &record.log {
            self.check(log, "the log", &mut gaps)?;
        }
        self.check_object(key.0, "the manifest", &mut gaps)?;
        let Gaps { damage, given_up } = gaps;
        Ok(if damage.is_empty() && !given_up { Lookup::Hit(record) } else { Lookup::Miss { damage, given_up } })
    }

    /// Checks all objects of an artifact, and says which are not there.
    fn check(&self, artifact: &Artifact, what: &str, gaps: &mut Gaps) -> Result<(), CacheError> {
        let sound = self.check_object(artifact.digest, what, gaps)?;
        if artifact.layout == Layout::Tree && sound {
            match self.tree(artifact.digest) {
                Ok(entries) => {
                    for entry in entries {
                        self.check_object(entry.digest, &format!("{} of {what}", entry.path), gaps)?;
                    }
                }
                Err(CacheError::Unusable(why)) => gaps.damage.push(format!("{what}: {why}")),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn check_object(&self, digest: Digest, what: &str, gaps: &mut Gaps) -> Result<bool, CacheError> {
        let state = self.object_state(digest)?;
        match state {
            State::Sound => {}
            State::Missing if self.was_given_up(digest)? => gaps.given_up = true,
            State::Missing => gaps.damage.push(format!("{what} is missing (object {})", digest.short())),
            State::Damaged => gaps.damage.push(format!("{what} is damaged (object {})", digest.short())),
        }
        Ok(state == State::Sound)
    }

    fn object_state(&self, digest: Digest) -> Result<State, CacheError> {
        let state = self.store.state(digest, &self.ledger)?;
        if state == State::Damaged && self.session.is_some() {
            self.store.quarantine(digest)?;
        }
        Ok(state)
    }

    /// Waits for the right to execute `key` (`waiting` is told who holds it, once), then looks again.
    /// `force` gives a claim even where there is a hit.
    pub fn claim(&self, key: ActionKey, force: bool, waiting: &mut dyn FnMut(&str)) -> Result<Claimed, CacheError> {
        self.session()?;
        let claim = Claim::take(&self.root.join("locks"), key, waiting)?;
        let _passage = self.rely_on(&[key])?;
        if !force && let Lookup::Hit(record) = self.lookup(key)? {
            return Ok(Claimed::Hit(record));
        }
        Ok(Claimed::Claim(claim))
    }

    /// The record of a key, without looking at its objects.
    pub fn record(&self, key: ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        Ok(match self.records.read(key, &self.ledger)? {
            Found::Record(record) => Some(record),
            Found::Missing | Found::Damaged(_) => None,
        })
    }

    /// The records that a key ever had, newest first, as far as they can be read.
    pub fn record_versions(&self, key: ActionKey) -> Result<Vec<ActionRecord>, CacheError> {
        let mut versions: Vec<ActionRecord> = self.record(key)?.into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(parent) = versions.last().and_then(|r| r.parent).filter(|parent| seen.insert(*parent)) {
            let older = self.read_object(parent).ok().and_then(|bytes| records::check(&bytes, key).ok());
            let Some(older) = older else { break };
            versions.push(older);
        }
        Ok(versions)
    }

    /// The bytes of the file that a record was read from, also of one that was replaced since; `None` where it is gone.
    pub fn record_bytes(&self, record: &ActionRecord) -> Result<Option<Vec<u8>>, CacheError> {
        let mut bytes = self.records.bytes(record.key)?;
        let mut seen = BTreeSet::new();
        while let Some(found) = bytes.as_ref().and_then(|bytes| records::check(bytes, record.key).ok()) {
            if found == *record {
                return Ok(bytes);
            }
            let older = found.parent.filter(|parent| seen.insert(*parent));
            bytes = older.and_then(|parent| self.read_object(parent).ok());
        }
        Ok(None)
    }

    /// The manifest that a key is the digest of, if it is still there.
    pub fn manifest(&self, key: ActionKey) -> Result<Option<ActionManifest>, CacheError> {
        if let Some(record) = self.record(key)? {
            return Ok(Some(record.manifest));
        }
        Ok(self.read_object(key.0).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The path of an object's bytes (it may not exist).
    pub fn object_path(&self, digest: Digest) -> PathBuf {
        self.store.path(digest)
    }

    /// Whether an object is there with the right bytes (stat memo first, full hash on any doubt).
    pub fn verify_object(&self, digest: Digest) -> Result<bool, CacheError> {
        Ok(self.object_state(digest)? == State::Sound)
    }

    /// Stores bytes held in memory; durable when the next record is.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, CacheError> {
        Ok(self.store.put(bytes, self.session()?, &self.ledger)?)
    }

    /// Moves (rename, else copy) a file or a folder of a private work folder into the store; durable when the next
    /// record is. Refuses symlinks, sockets, and names with control characters.
    pub fn absorb(&self, path: &Path, format: Format) -> Result<Artifact, CacheError> {
        Ok(self.store.absorb(path, format, self.session()?, &self.ledger)?)
    }

    /// Moves a file into the store under the digest that its maker, a stage of ours, took while it wrote the file. The
    /// file is not read again: its size alone is checked.
    pub fn absorb_sealed(
        &self,
        path: &Path,
        format: Format,
        digest: Digest,
        bytes: u64,
    ) -> Result<Artifact, CacheError> {
        self.store.absorb_sealed(path, (digest, bytes), self.session()?, &self.ledger)?;
        Ok(Artifact { digest, bytes, layout: Layout::File, format })
    }

    /// The digest of a user's file or folder, through the stat memo; with its size, and whether it is a folder.
    pub fn digest_source(&self, path: &Path, format: Format) -> Result<Artifact, CacheError> {
        self.digest_source_while(path, format, &|| true)
    }

    /// As `digest_source`; fails soon after `go_on` says no.
    pub fn digest_source_while(
        &self,
        path: &Path,
        format: Format,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Artifact, CacheError> {
        Ok(source::digest(path, format, &self.ledger, go_on)?)
    }

    /// The folder of unfinished work on a key; survives failed attempts.
    pub fn scratch(&self, key: ActionKey) -> PathBuf {
        self.root.join("scratch").join(key.0.hex())
    }

    /// All run ids, oldest first; those that never ended too.
    pub fn runs(&self) -> Result<Vec<RunId>, CacheError> {
        Ok(self.runs.ids()?)
    }

    /// Reads a run's record; `None` where there is none or it is damaged (`problems` of verify names it).
    pub fn run(&self, run: &RunId) -> Result<Option<RunRecord>, CacheError> {
        Ok(self.runs.read(run).and_then(Result::ok))
    }

    /// Puts the signed statement of a run beside its record.
    pub fn put_signature(&self, run: &RunId, text: &[u8]) -> Result<(), CacheError> {
        Ok(durable::replace(&self.session()?.path(), &self.runs.signature(run), text)?)
    }

    /// The signed statement of a run, and its file as problems name it.
    pub fn signature(&self, run: &RunId) -> Result<Option<(String, Vec<u8>)>, CacheError> {
        let file = self.runs.signature(run);
        match fs_err::read(&file) {
            Ok(text) => Ok(Some((self.relative(&file), text))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The bytes of a run's record; `None` where it has none.
    pub fn run_bytes(&self, run: &RunId) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(self.runs.bytes(run)?)
    }

    /// The folder of a run: `run.json`, `events.jsonl`.
    pub fn run_dir(&self, run: &RunId) -> PathBuf {
        self.runs.dir(run)
    }

    /// Writes a finished run's record, chained to the one before it.
    pub fn commit_run(&self, record: RunRecord) -> Result<(), CacheError> {
        let session = self.session()?;
        self.runs.commit(record, || session.path(), &self.store)?;
        self.ledger.flush();
        Ok(())
    }

    /// Remembers that a file with these bytes is a text form of an artifact.
    pub fn remember_text(&self, text: &TextRecord) -> Result<(), CacheError> {
        let session = self.session()?;
        Ok(self.texts.write(text, || session.path())?)
    }

    /// The artifacts that a file with this digest is a text form of.
    pub fn texts_of(&self, digest: Digest) -> Result<Vec<TextRecord>, CacheError> {
        Ok(self.texts.of(digest)?)
    }

    /// Every text form that was ever written.
    pub fn texts(&self) -> Result<Vec<TextRecord>, CacheError> {
        Ok(self.texts.all()?.into_iter().filter_map(|(_, text)| text.ok()).collect())
    }

    /// What was counted under this name, if it is there, and whole.
    pub fn overlap<T: DeserializeOwned>(&self, name: Digest) -> Option<T> {
        let file = self.overlaps.as_ref()?.join(format!("{}.json", name.hex()));
        let found: Counted<T> = seal::open(&fs_err::read(file).ok()?).ok()?;
        (found.name == name).then_some(found.counted)
    }

    /// Remembers what was counted, as far as that can be written: without it, it is counted again.
    pub fn remember_overlap<T: Serialize>(&self, name: Digest, counted: &T) {
        if let (Some(folder), Some(session)) = (&self.overlaps, &self.session) {
            let _ = fs_err::create_dir_all(folder);
            let text = seal::seal(&Counted { name, counted });
            let _ = durable::replace(&session.path(), &folder.join(format!("{}.json", name.hex())), &text);
        }
    }

    /// All action records, in no particular order; unreadable ones are left out.
    pub fn records(&self) -> Result<Vec<ActionRecord>, CacheError> {
        let mut records = Vec::new();
        for key in self.records.keys()? {
            records.extend(self.record(key)?);
        }
        Ok(records)
    }

    /// The keys of the actions that made these bytes, newest first.
    pub fn makers(&self, digest: Digest) -> Result<Vec<ActionKey>, CacheError> {
        let generation = self.records.generation()?;
        let mut made = Vec::new();
        if let Some(keys) = self.ledger.makers(digest, generation) {
            for key in keys {
                made.extend(self.record(key)?);
            }
        } else {
            made = self.records()?;
            self.index(&made, generation);
        }
        // The record has the last word, whatever the index says.
        made.retain(|r| r.outputs.values().any(|o| o.digest == digest));
        made.sort_by(|a, b| (&b.started, b.key).cmp(&(&a.started, a.key)));
        Ok(made.into_iter().map(|r| r.key).collect())
    }

    /// Makes the index anew from the records; gives how many outputs it knows then.
    pub fn rebuild_index(&self) -> Result<usize, CacheError> {
        let generation = self.records.generation()?;
        self.index(&self.records()?, generation).ok_or_else(|| {
            let what =
                "can't be written now: another process may have it open. Queries work without it, and are slower";
            CacheError::Io(io::Error::other(format!("the index {what}")))
        })
    }

    /// Writes the index; gives how many outputs it knows, `None` where it can't be written now.
    fn index(&self, records: &[ActionRecord], generation: Generation) -> Option<usize> {
        let made = records.iter().flat_map(|r| r.outputs.values().map(|output| (output.digest, r.key)));
        let made: Vec<(Digest, ActionKey)> = made.collect();
        self.ledger.rebuild(&made, generation).then_some(made.len())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if self.session.is_some() {
            self.ledger.flush();
        }
    }
}

impl Claim {
    /// Bytes are already stored: stores the manifest, publishes the record (temp, sync, rename, sync the folder), then
    /// the index; removes the scratch folder.
    pub fn commit(self, cache: &Cache, mut record: ActionRecord) -> Result<(), CacheError> {
        let session = cache.session()?;
        if record.key != self.key() || record.manifest.key() != record.key {
            let (held, got) = (self.key().0.short(), record.key.0.short());
            return Err(CacheError::Unusable(format!("a claim on {held} can't commit the record of {got}")));
        }
        cache.put_bytes(&record.manifest.canonical())?;
        record.parent = match cache.records.bytes(record.key)? {
            Some(old) => Some(cache.put_bytes(&old)?),
            None => None,
        };
        let committed = cache.records.publish(&session.path(), &record, &cache.store, &cache.ledger)?;
        cache.ledger.made(&record, committed);
        match fs_err::remove_dir_all(cache.scratch(record.key)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}
