//! The chain of run records: each names the digest of the one before it, and the last is named by `head.json`.

use super::RunRecord;
use super::runs::Head;
use crate::digest::Digest;
use crate::name::RunId;
use std::collections::BTreeMap;

/// Run records as they follow one another.
#[derive(Debug, Default)]
pub struct Chain {
    /// Digest of a record -> its run.
    runs: BTreeMap<Digest, RunId>,
    /// Digest of a record, or `None` -> the runs that follow it, or that begin a chain.
    followers: BTreeMap<Option<Digest>, Vec<(RunId, Digest)>>,
}

impl Chain {
    /// Adds the record of a run; `None` where it can't be read.
    pub fn add(&mut self, run: &RunId, digest: Digest, record: Option<&RunRecord>) {
        self.runs.insert(digest, run.clone());
        if let Some(record) = record {
            self.followers.entry(record.previous).or_default().push((run.clone(), digest));
        }
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The newest record that none follows.
    pub fn end(&self) -> Option<Digest> {
        let open = self.runs.iter().filter(|(digest, _)| self.after(**digest).is_none());
        open.max_by(|a, b| a.1.cmp(b.1)).map(|(digest, _)| *digest)
    }

    /// Where it is not one chain: the run whose place is wrong, and how.
    pub fn breaks(&self) -> Vec<(RunId, String)> {
        let mut breaks = Vec::new();
        for (previous, followers) in &self.followers {
            if let Some(missing) = previous.filter(|digest| !self.runs.contains_key(digest)) {
                let what = format!("the run recorded before it was removed or altered ({missing})");
                breaks.extend(followers.iter().map(|(run, _)| (run.clone(), what.clone())));
                continue;
            }
            for (run, _) in followers.iter().skip(1) {
                let other = &followers[0].0;
                let what = match previous.and_then(|digest| self.runs.get(&digest)) {
                    Some(before) => format!("run {other} follows run {before} too: one of the two was inserted"),
                    None => format!("run {other} is a first one too: one of the two was inserted"),
                };
                breaks.push((run.clone(), what));
            }
        }
        breaks
    }

    /// What is wrong with the named end of the chain.
    pub fn wrong_end(&self, head: &Head) -> Option<String> {
        if self.runs.get(&head.digest) != Some(&head.run) {
            return Some(format!("the record of the newest run, {}, was removed or altered", head.run));
        }
        // One record may follow: a run may be killed, or just now be working, between its record and this file.
        let later = self.after(head.digest)?;
        let last = self.after(later.1)?;
        let what = "is not the end of the chain: this file was put back to an older one";
        Some(format!("{what} (after run {} come {}, {} …)", head.run, later.0, last.0))
    }

    fn after(&self, digest: Digest) -> Option<&(RunId, Digest)> {
        self.followers.get(&Some(digest))?.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::run_record;

    fn run(n: usize) -> RunId {
        RunId::parse(&format!("20261123-09401{n}-0000")).expect("valid")
    }

    fn digest(n: usize) -> Digest {
        Digest::of(&[n as u8])
    }

    /// Runs 0, 1, 2 … each after the one that `before` names.
    fn chain(before: &[Option<usize>]) -> Chain {
        let mut chain = Chain::default();
        for (n, before) in before.iter().enumerate() {
            let record = RunRecord { previous: before.map(digest), ..run_record(run(n).as_str()) };
            chain.add(&run(n), digest(n), Some(&record));
        }
        chain
    }

    fn head(n: usize) -> Head {
        Head { run: run(n), digest: digest(n) }
    }

    #[test]
    fn of_a_whole_chain_the_end_and_the_record_before_it_may_be_named() {
        let chain = chain(&[None, Some(0), Some(1), Some(2)]);
        assert_eq!(chain.breaks(), []);
        assert_eq!(chain.end(), Some(digest(3)));
        for n in [2, 3] {
            assert_eq!(chain.wrong_end(&head(n)), None);
        }
        for n in [0, 1] {
            assert!(chain.wrong_end(&head(n)).expect("it is too old").contains("put back"));
        }
        assert!(chain.wrong_end(&head(7)).expect("there is no such run").contains("removed"));
        assert!(chain.wrong_end(&Head { run: run(1), digest: digest(3) }).is_some(), "another run's digest");
    }

    #[test]
    fn a_record_that_was_inserted_or_removed_breaks_it() {
        for (before, names) in [
            (vec![None, Some(0), Some(0)], "follows run 20261123-094010-0000 too"),
            (vec![None, Some(0), None], "is a first one too"),
            (vec![None, Some(0), Some(9)], "was removed or altered"),
        ] {
            let breaks = chain(&before).breaks();
            assert!(breaks.len() == 1 && breaks[0].0 == run(2) && breaks[0].1.contains(names), "{breaks:?}");
        }
    }
}
