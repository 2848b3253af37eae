//! The names of things in a shared cache.
//!
//! ```text
//! cistage.json                           the number of this layout, and how records are named
//! objects/<2 hex>/<62 hex>               bytes under their BLAKE3, as in a local cache
//! actions/<2 hex>/<62 hex>.json          what an action made: its record in an envelope, signed or not
//! actions/<2 hex>/<62 hex>/<64 hex>.json the same where the store does not keep a name for who comes first: the envelope's
//!                                        BLAKE3 is part of its name, so that nobody's is replaced
//! runs/<run>.json                        which objects are a run's record and events, in an envelope too
//! probes/<hex>                           what was tried to see whether the store keeps names for who comes first
//! ```

use crate::action::ActionKey;
use crate::digest::Digest;
use crate::name::RunId;
use serde::{Deserialize, Serialize};

pub const FORMAT: u32 = 1;
pub const ABOUT: &str = "cistage.json";
pub const OBJECTS: &str = "objects";
pub const ACTIONS: &str = "actions";
pub const RUNS: &str = "runs";

/// The types of what is in envelopes.
pub const RECORD: &str = "application/vnd.cistage.record+json";
pub const RUN: &str = "application/vnd.cistage.run+json";

/// What `cistage.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub format: u32,
    /// Whether a put of what is there already is refused: then a record stands under its key alone.
    pub create_only: bool,
}

/// What is in a run's envelope: all are objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedRun {
    pub run: RunId,
    pub record: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Digest>,
    /// The statement of `run --sign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Digest>,
}

pub fn object(digest: Digest) -> String {
    let hex = digest.hex();
    format!("{OBJECTS}/{}/{}", &hex[..2], &hex[2..])
}

/// The folder of an action's records, where each has the name of its content.
pub fn actions(key: ActionKey) -> String {
    let hex = key.0.hex();
    format!("{ACTIONS}/{}/{}", &hex[..2], &hex[2..])
}

pub fn action(key: ActionKey) -> String {
    format!("{}.json", actions(key))
}

pub fn action_named_by_content(key: ActionKey, envelope: &[u8]) -> String {
    format!("{}/{}.json", actions(key), Digest::of(envelope).hex())
}

pub fn run(run: &RunId) -> String {
    format!("{RUNS}/{run}.json")
}

/// The object of this name, if it is one's.
pub fn object_of(name: &str) -> Option<Digest> {
    Digest::from_hex(&name.strip_prefix(OBJECTS)?.replace('/', "")).ok()
}

/// The key of a record of this name, either way of naming.
pub fn key_of(name: &str) -> Option<ActionKey> {
    let mut parts = name.strip_prefix(ACTIONS)?.strip_prefix('/')?.split('/');
    let (shard, rest) = (parts.next()?, parts.next()?);
    Digest::from_hex(&format!("{shard}{}", rest.trim_end_matches(".json"))).ok().map(ActionKey)
}

pub fn run_of(name: &str) -> Option<RunId> {
    RunId::parse(name.strip_prefix(RUNS)?.strip_prefix('/')?.strip_suffix(".json")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        let digest = Digest::of(b"x");
        let key = ActionKey(digest);
        assert_eq!(object_of(&object(digest)), Some(digest));
        assert_eq!(key_of(&action(key)), Some(key));
        assert_eq!(key_of(&action_named_by_content(key, b"envelope")), Some(key));
        let id = RunId::parse("20261123-094012-1f3a").expect("valid");
        assert_eq!(run_of(&run(&id)), Some(id));
        assert_eq!((object_of("objects/x"), key_of("actions/ab"), run_of("runs/../x.json")), (None, None, None));
    }
}
