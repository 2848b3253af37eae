//! A run that has no record yet, as far as its events tell.

use super::Cache;
use crate::action::ActionKey;
use crate::event::{EventKind, Outcome};
use crate::name::{RunId, StageName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

/// What is known of it.
#[derive(Debug, Default)]
pub struct Underway {
    /// Empty where it has written nothing yet.
    pub pipeline: String,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// All stages, in the order of the pipeline.
    pub order: Vec<StageName>,
    /// Those that have begun, or ended.
    pub stages: BTreeMap<StageName, Progressing>,
    /// Its process is there. One that is not was killed, or is about to write its record.
    pub lives: bool,
    /// The time since its last event.
    pub silent: Option<Duration>,
}

/// What is known of one of its stages.
#[derive(Debug, Default)]
pub struct Progressing {
    pub kind: String,
    pub key: Option<ActionKey>,
    /// When it began to execute: RFC 3339, UTC.
    pub started: String,
    /// None while it runs.
    pub outcome: Option<Outcome>,
    pub seconds: Option<f64>,
    /// Why it runs; why it failed.
    pub why: String,
    /// The job and the node that it runs on, where that is not here.
    pub place: Option<String>,
    /// Done, of how many, and of what.
    pub progress: Option<(u64, u64, String)>,
    /// Name of a metric -> its values over steps.
    pub metrics: BTreeMap<String, Vec<(f64, f64)>>,
}

/// The time of an event.
#[derive(Deserialize)]
struct At {
    at: String,
}

impl Cache {
    /// Reads the events of a run that has no record.
    pub fn underway(&self, run: &RunId) -> io::Result<Underway> {
        let path = self.run_dir(run).join("events.jsonl");
        // A pipe or a device in its place would never end.
        if !fs_err::symlink_metadata(&path).is_ok_and(|there| there.is_file()) {
            return Ok(Underway::default());
        }
        let file = fs_err::File::open(&path)?;
        // Its writer holds it.
        let lives = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let silent = file.metadata()?.modified().ok().and_then(|at| at.elapsed().ok());
        let mut known = Underway { lives, silent, ..Underway::default() };
        // One line at a time: there may be many. The last one may be half written.
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            if let Ok(event) = serde_json::from_slice(&line) {
                known.hear(event, || serde_json::from_slice::<At>(&line).map_or(String::new(), |event| event.at));
            }
        }
        Ok(known)
    }
}

impl Underway {
    fn hear(&mut self, event: EventKind, at: impl Fn() -> String) {
        match event {
            EventKind::RunStarted { pipeline, stages, .. } => {
                (self.pipeline, self.order, self.started) = (pipeline, stages, at());
            }
            EventKind::StageStarted { stage, kind, key, because } => {
                let stage = self.stages.entry(stage).or_default();
                (stage.kind, stage.key, stage.started, stage.why) = (kind, Some(key), at(), because.join("; "));
            }
            EventKind::StageFinished { stage, kind, outcome, seconds, error, .. } => {
                let stage = self.stages.entry(stage).or_default();
                (stage.kind, stage.outcome, stage.seconds, stage.progress) = (kind, Some(outcome), Some(seconds), None);
                stage.why = error.unwrap_or_else(|| std::mem::take(&mut stage.why));
            }
            EventKind::Placed { stage, place } => self.stages.entry(stage).or_default().place = Some(place),
            EventKind::Progress { stage, done, total, unit } => {
                self.stages.entry(stage).or_default().progress = Some((done, total, unit));
            }
            EventKind::Metric { stage, name, step, value } => {
                self.stages.entry(stage).or_default().metrics.entry(name).or_default().push((step as f64, value));
            }
            _ => {}
        }
    }

    /// Those that run, or ran when it was killed.
    pub fn running(&self) -> impl Iterator<Item = (&StageName, &Progressing)> {
        self.stages.iter().filter(|(_, stage)| stage.outcome.is_none())
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.stages.values().filter(|stage| stage.outcome == Some(outcome)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn events_tell_what_runs_where_and_whether_anybody_still_writes_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(dir.path()).expect("opens");
        let run = RunId::parse("20261127-094012-0000").expect("valid");
        assert!(cache.underway(&run).expect("nothing yet").order.is_empty());
        let stage = |name: &str| StageName::parse(name).expect("valid");
        let key = ActionKey(crate::digest::Digest::of(b"key"));
        let started = |name: &str| EventKind::StageStarted {
            stage: stage(name),
            kind: "command".into(),
            key,
            because: vec!["no result".into()],
        };
        let events = [
            EventKind::RunStarted { run: run.clone(), pipeline: "p".into(), stages: vec![stage("a"), stage("b")] },
            started("a"),
            started("b"),
            EventKind::Placed { stage: stage("b"), place: "Slurm job 7 on n1".into() },
            EventKind::StageFinished {
                stage: stage("a"),
                kind: "command".into(),
                outcome: Outcome::Ran,
                key: Some(key),
                seconds: 2.0,
                outputs: BTreeMap::new(),
                error: None,
            },
        ];
        let lines = events.map(|kind| Event { at: "2026-11-27T09:40:12.000Z".into(), kind }.to_json_line() + "\n");
        fs_err::create_dir_all(cache.run_dir(&run)).expect("makes");
        let path = cache.run_dir(&run).join("events.jsonl");
        fs_err::write(&path, lines.concat() + "{\"event\":\"met").expect("writes");

        let known = cache.underway(&run).expect("reads");
        assert_eq!((known.pipeline.as_str(), known.order.len(), known.lives), ("p", 2, false));
        assert_eq!((known.started.as_str(), known.count(Outcome::Ran)), ("2026-11-27T09:40:12.000Z", 1));
        let running: Vec<_> = known.running().map(|(name, stage)| (name.as_str(), stage.place.as_deref())).collect();
        assert_eq!(running, [("b", Some("Slurm job 7 on n1"))]);

        let writer = fs_err::File::open(&path).expect("opens");
        writer.try_lock().expect("nobody has it");
        assert!(cache.underway(&run).expect("reads").lives);
    }
}
