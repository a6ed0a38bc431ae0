//! How a [`Moka`] is built.

use cache_core::{Clock, DEFAULT_MAX_VALUE};

use crate::Moka;

/// Builds a [`Moka`]; every setting has a default.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) bytes: u64,
    pub(crate) max_value: usize,
    pub(crate) clock: Clock,
}

impl Default for Builder {
    fn default() -> Self {
        Self { bytes: 64 << 20, max_value: DEFAULT_MAX_VALUE, clock: Clock::system() }
    }
}

impl Builder {
    /// The byte budget: keys, values and bookkeeping ([`Entry::weight`](cache_core::Entry::weight)); 64 MiB by
    /// default. What moka's tables take for an entry is part of it; about 100 KB for an empty store, and decoded values,
    /// come on top.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// The largest value in bytes; [`DEFAULT_MAX_VALUE`] by default, never more than the budget holds. A larger one is
    /// refused with `TooLarge` by the service and silently by the local store.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = bytes;
        self
    }

    /// The clock that ttls are read from; the system's by default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> Moka {
        Moka::from_builder(self)
    }
}
