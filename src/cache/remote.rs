//! A cache that others share: what one machine made, another is served.
//!
//! Nothing that comes from it is believed: bytes have to hash to their name, a record has to be that of its key, and
//! somebody who is trusted has to have signed it. A shared cache that is slow, gone, full or lies costs time.
//!
//! ```text
//! address      where it is
//! store        eight blocking verbs, each of bounded time; `connect` opens the stores, `aws_files` what they need
//! layout       the names of things in it
//! about        the layout's number, and whether the store keeps names for who comes first: `probe` finds out
//! envelopes    records as they stand there, and whose are believed
//! fetch        an action's record and objects, brought here
//! arrival      what a record that came from elsewhere says about that
//! push         what is here and not there, brought there
//! large        a large object, sent in parts
//! uploads      how far the uploads of large objects got
//! runs         whole runs, there and back
//! gc           what nobody needs any more, taken away there
//! crew         several threads that do one thing after another
//! ```

use crate::action::ActionKey;
use crate::digest::Digest;
use crate::signature::{Public, Secret};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

mod about;
mod address;
pub(super) mod arrival;
#[cfg(feature = "remote")]
mod aws_files;
mod connect;
mod crew;
mod envelopes;
mod fetch;
mod gc;
mod large;
mod layout;
mod probe;
mod push;
mod runs;
mod store;
mod turns;
pub(super) mod uploads;

#[cfg(test)]
mod tests;

use store::Store;
use turns::Turns;

pub use address::Address;
pub use arrival::Arrival;
pub use fetch::{Answer, Pulled};
pub use gc::{RemoteCandidate, RemotePlan, RemoteReason};
pub use push::{Pushed, Tally};
pub use store::Fault;

/// Whose records are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Whoever may write to the shared cache.
    Any,
    /// Those signed with one of these keys.
    Keys(Vec<Public>),
}

impl Trust {
    fn keys(&self) -> &[Public] {
        match self {
            Self::Any => &[],
            Self::Keys(keys) => keys,
        }
    }
}

/// An open shared cache.
pub struct Remote {
    address: Address,
    store: Store,
    trust: Trust,
    signer: Option<Secret>,
    /// Whether a run adds what it makes.
    adds: bool,
    /// After a failure it is left alone.
    is_left_alone: AtomicBool,
    /// One warning is enough that records are not signed by whom one trusts.
    has_warned: AtomicBool,
    about: OnceLock<layout::About>,
    /// Objects that were found to be damaged there: the next push replaces them.
    damaged: Mutex<BTreeSet<Digest>>,
    /// Actions that this program has pushed already.
    pushed: Mutex<BTreeSet<ActionKey>>,
    turns: Turns,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.address)
    }
}

impl Remote {
    /// Opens a shared cache; asks it nothing. An error says what is wrong with its name or with how it is reached.
    pub fn open(address: Address, trust: Trust, signer: Option<Secret>, adds: bool) -> Result<Self, String> {
        let store = Store::open(&address)?;
        if adds && address.is_read_alone() {
            return Err(format!("{address} is a web server, which is read alone: nothing can be added to it"));
        }
        Ok(Self::of(address, store, trust, signer, adds))
    }

    fn of(address: Address, store: Store, trust: Trust, signer: Option<Secret>, adds: bool) -> Self {
        Self {
            address,
            store,
            trust,
            signer,
            adds,
            is_left_alone: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
            about: OnceLock::new(),
            damaged: Mutex::default(),
            pushed: Mutex::default(),
            turns: Turns::default(),
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether a run adds what it makes.
    pub fn adds(&self) -> bool {
        self.adds
    }

    pub fn is_left_alone(&self) -> bool {
        self.is_left_alone.load(Ordering::Relaxed)
    }

    /// From now on it is asked nothing; gives the warning that says so, the first time.
    fn leave_alone(&self, what: &str) -> Option<String> {
        let first = !self.is_left_alone.swap(true, Ordering::Relaxed);
        first.then(|| format!("the shared cache {} is left alone from here on: {what}", self.address))
    }

    fn note_damaged(&self, object: Digest) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(object);
    }

    fn is_damaged(&self, object: Digest) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&object)
    }
}
