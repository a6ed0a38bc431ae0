//! Locks by key: one writer of a key at a time.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;

const COUNT: usize = 256;

/// A fixed number of locks; two keys may share one. Holders never take a second.
pub(crate) struct Stripes {
    locks: [Mutex<()>; COUNT],
    hasher: RandomState,
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self { locks: [const { Mutex::new(()) }; COUNT], hasher: RandomState::default() }
    }

    pub(crate) fn lock(&self, key: &str) -> MutexGuard<'_, ()> {
        let stripe = self.hasher.hash_one(key) as usize % COUNT;
        self.locks[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stripes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripes")
    }
}
