//! Times and names made from them; recorded, never keyed.

use crate::name::RunId;
use jiff::Timestamp;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::SystemTime;

/// The time now: RFC 3339, UTC, milliseconds.
pub(super) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// A time of the file system, in the same form.
pub(super) fn at(time: SystemTime) -> Option<String> {
    Some(format!("{:.3}", Timestamp::try_from(time).ok()?))
}

/// Some random bits, different at each call.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A run id for a run that begins now; may be taken already.
pub(super) fn run_id() -> RunId {
    let time = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    RunId::parse(&format!("{time}-{:04x}", random() & 0xffff)).expect("made to the rule of run ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_ids_are_valid() {
        let now = now();
        assert_eq!((now.len(), &now[19..20], &now[23..]), (24, ".", "Z"), "{now}");
        assert!(run_id().as_str().starts_with("20"));
    }
}
