//! How a [`Memory`] is built.

use super::Memory;
use crate::{Clock, DEFAULT_MAX_VALUE};

/// Builds a [`Memory`]; every setting has a default.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) clock: Clock,
    pub(super) bytes: u64,
    pub(super) max_value: usize,
    pub(super) buffer: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self { clock: Clock::system(), bytes: 64 << 20, max_value: DEFAULT_MAX_VALUE, buffer: 4096 }
    }
}

impl Builder {
    /// The clock that ttls, leases and the first sequence number are read from; the system's by default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The most bytes of keys, values and bookkeeping; 64 MiB by default. What was not read for longest is evicted
    /// (second chance). A value that does not fit as a whole is refused with `TooLarge`.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// The largest value in bytes; [`DEFAULT_MAX_VALUE`] by default, never more than fits.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = bytes;
        self
    }

    /// How many events a listener may fall behind before they are dropped and reported as `Lost`, `Restored`; 4,096
    /// by default, at least 1.
    pub fn buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> Memory {
        Memory::from_builder(self)
    }
}
