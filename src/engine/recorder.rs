//! The stream of events: each goes to the run's folder and to whoever watches, in one order.

use super::{EngineError, Reporter, clock};
use crate::cache::{Cache, CacheError};
use crate::event::{Event, EventKind, Outcome};
use crate::name::{RunId, StageName};
use fs_err::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

pub(super) struct Recorder<'a> {
    run: RunId,
    reporter: &'a dyn Reporter,
    file: Mutex<Stream>,
}

struct Stream {
    file: File,
    /// Lines that are to be written together with the next one: many hits come at once.
    held: Vec<u8>,
    /// The first failure to write: the run goes on to its end, and then fails with it.
    broken: Option<io::Error>,
}

impl<'a> Recorder<'a> {
    /// Takes a run id that nobody has, and opens its folder.
    pub(super) fn start(cache: &Cache, reporter: &'a dyn Reporter) -> Result<Self, EngineError> {
        loop {
            let run = clock::run_id();
            let dir = cache.run_dir(&run);
            if let Some(parent) = dir.parent() {
                fs_err::create_dir_all(parent).map_err(CacheError::Io)?;
            }
            match fs_err::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(CacheError::Io(e).into()),
            }
            let file = File::create_new(dir.join("events.jsonl")).map_err(CacheError::Io)?;
            // Held until the run ends: whoever finds it free knows that nobody will write to it. A disk without locks tells nothing.
            let _ = file.try_lock();
            return Ok(Self { run, reporter, file: Mutex::new(Stream { file, held: Vec::new(), broken: None }) });
        }
    }

    pub(super) fn run(&self) -> &RunId {
        &self.run
    }

    pub(super) fn emit(&self, kind: EventKind) {
        let event = Event { at: clock::now(), kind };
        let line = event.to_json_line();
        let holds = matches!(event.kind, EventKind::StageFinished { outcome: Outcome::Hit, .. });
        // Held while the reporter hears it: both see the same order.
        let mut stream = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        stream.held.extend_from_slice(line.as_bytes());
        stream.held.push(b'\n');
        if !holds && stream.broken.is_none() {
            let held = std::mem::take(&mut stream.held);
            stream.broken = stream.file.write_all(&held).err();
        }
        self.reporter.event(&event);
    }

    /// Whether somebody wants to see what stages print.
    pub(super) fn shows_output(&self) -> bool {
        self.reporter.wants_output()
    }

    /// Shows a line that a stage printed; it is kept in the stage's log, not among the events.
    pub(super) fn show(&self, stage: &StageName, line: String) {
        let kind = EventKind::Printed { stage: stage.clone(), line };
        self.reporter.event(&Event { at: clock::now(), kind });
    }

    /// Fails where events could not be written.
    pub(super) fn finish(self) -> Result<(), EngineError> {
        let mut stream = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        if stream.broken.is_none() {
            stream.broken = stream.file.write_all(&stream.held).err();
        }
        match stream.broken {
            None => Ok(()),
            Some(error) => Err(EngineError::Other(format!("the run's events could not be kept: {error}"))),
        }
    }
}
