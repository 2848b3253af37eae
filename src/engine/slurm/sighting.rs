//! What Slurm says of jobs, read and judged: a clue for how long to wait, never the truth about a stage.

use std::collections::BTreeMap;

/// The columns that `squeue` and `sacct` are asked for, so that their lines read alike.
pub(super) const SQUEUE: &str = "%i|%T|%r|%N|%j";
pub(super) const SACCT: &str = "JobID,State,Reason,NodeList,JobName";

/// A job as Slurm saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// `PENDING`, without what follows it (`CANCELLED by 1000`).
    pub state: String,
    pub reason: String,
    pub node: String,
    pub name: String,
}

/// What a sighting means for whoever waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It waits for its turn, or runs, or Slurm is at it.
    Wait,
    /// It waits for what does not come by itself; says for what.
    Stuck(String),
    /// It can't ever run; says why.
    Never(String),
    /// The machine ended it, not the stage: it may be submitted again; says what happened.
    Again(String),
    /// It has ended: its folder tells how.
    Ended,
    /// It was ended before its time; says by what.
    Killed(String),
}

/// Reads lines of `id|state|reason|node|name`; what is no such line is passed over.
pub(super) fn table(text: &str) -> BTreeMap<String, Sighting> {
    let row = |line: &str| {
        let mut fields = line.trim().splitn(5, '|');
        let id = fields.next()?.to_owned();
        let state = fields.next()?.split([' ', '+']).next()?.to_owned();
        let [reason, node, name] = [fields.next()?, fields.next()?, fields.next()?].map(ToOwned::to_owned);
        (!id.is_empty() && !state.is_empty()).then_some((id, Sighting { state, reason, node, name }))
    };
    text.lines().filter_map(row).collect()
}

/// Reads the lines of `scontrol show job -o`.
pub(super) fn listing(text: &str) -> BTreeMap<String, Sighting> {
    let row = |line: &str| {
        let fields: BTreeMap<&str, &str> = line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let get = |key: &str| fields.get(key).map(|value| (*value).to_owned());
        let id = match (get("ArrayJobId"), get("ArrayTaskId")) {
            (Some(array), Some(task)) => format!("{array}_{task}"),
            _ => get("JobId")?,
        };
        let or_empty = |key: &str| get(key).filter(|value| value != "(null)").unwrap_or_default();
        let sighting = Sighting {
            state: get("JobState")?,
            reason: or_empty("Reason"),
            node: or_empty("NodeList"),
            name: or_empty("JobName"),
        };
        Some((id, sighting))
    };
    text.lines().filter_map(row).collect()
}

impl Sighting {
    /// Judges a state with its reason. A state that this program does not know is one to wait in.
    pub(super) fn verdict(&self) -> Verdict {
        let reason = self.reason.as_str();
        match self.state.as_str() {
            "PENDING" => match reason {
                // Its node could not start it; nobody but a person would let it go.
                "launch_failed_requeued_held" | "launch failed requeued held" => {
                    Verdict::Again("a node could not start it".to_owned())
                }
                "DependencyNeverSatisfied"
                | "BadConstraints"
                | "PartitionNodeLimit"
                | "PartitionTimeLimit"
                | "InvalidAccount"
                | "InvalidQOS"
                | "AccountNotAllowed"
                | "QOSNotAllowed" => Verdict::Never(format!("Slurm will never run it ({reason})")),
                "JobHeldUser" | "JobHeldAdmin" | "JobHoldMaxRequeue" => {
                    Verdict::Stuck(format!("held ({reason}): `scontrol release` lets it go"))
                }
                reason
                    if reason.starts_with("Assoc")
                        || reason.starts_with("QOS")
                        || reason.starts_with("ReqNode")
                        || reason == "PartitionConfig" =>
                {
                    Verdict::Stuck(format!("waits ({reason})"))
                }
                _ => Verdict::Wait,
            },
            "COMPLETED" | "FAILED" => Verdict::Ended,
            "OUT_OF_MEMORY" => Verdict::Killed("it needed more memory than it had".to_owned()),
            "TIMEOUT" | "DEADLINE" => Verdict::Killed("its time was over".to_owned()),
            "CANCELLED" | "REVOKED" => Verdict::Killed("somebody cancelled it".to_owned()),
            "NODE_FAIL" | "BOOT_FAIL" => Verdict::Again("its node failed".to_owned()),
            "PREEMPTED" => Verdict::Again("it was preempted".to_owned()),
            _ => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_listings_read_alike() {
        let squeue = "12_3|PENDING|Resources||cistage.a\n13|CANCELLED by 0|None|n1|b|c\n\nslurm_load_jobs error\n";
        let jobs = table(squeue);
        assert_eq!(jobs.len(), 2, "{jobs:?}");
        assert_eq!((jobs["12_3"].reason.as_str(), jobs["13"].state.as_str()), ("Resources", "CANCELLED"));
        assert_eq!((jobs["13"].node.as_str(), jobs["13"].name.as_str()), ("n1", "b|c"));
        let scontrol = "JobId=15 ArrayJobId=12 ArrayTaskId=3 JobName=cistage.a JobState=RUNNING Reason=None NodeList=n2\n\
                        JobId=16 JobName=b JobState=PENDING Reason=JobHeldUser NodeList=(null)\nslurm_load error\n";
        let jobs = listing(scontrol);
        assert_eq!((jobs["12_3"].state.as_str(), jobs["12_3"].node.as_str()), ("RUNNING", "n2"));
        assert_eq!((jobs["16"].reason.as_str(), jobs["16"].node.as_str()), ("JobHeldUser", ""));
    }

    #[test]
    fn every_state_says_what_to_do_and_an_unknown_one_to_wait() {
        let verdict = |state: &str, reason: &str| {
            let (state, reason) = (state.to_owned(), reason.to_owned());
            Sighting { state, reason, node: String::new(), name: String::new() }.verdict()
        };
        for state in ["PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STAGE_OUT", "NEWS"] {
            assert_eq!(verdict(state, "None"), Verdict::Wait, "{state}");
        }
        assert_eq!(verdict("COMPLETED", "None"), Verdict::Ended);
        assert_eq!(verdict("FAILED", "NonZeroExitCode"), Verdict::Ended);
        for (state, reason) in [("NODE_FAIL", ""), ("PREEMPTED", ""), ("PENDING", "launch_failed_requeued_held")] {
            assert!(matches!(verdict(state, reason), Verdict::Again(_)), "{state} {reason}");
        }
        for state in ["TIMEOUT", "OUT_OF_MEMORY", "CANCELLED"] {
            assert!(matches!(verdict(state, ""), Verdict::Killed(_)), "{state}");
        }
        assert!(matches!(verdict("PENDING", "DependencyNeverSatisfied"), Verdict::Never(_)));
        assert!(matches!(verdict("PENDING", "JobHeldAdmin"), Verdict::Stuck(_)));
    }
}
