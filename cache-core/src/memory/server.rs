//! The handle of a [`Memory`], and what may happen to a server.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::Builder;
#[cfg(feature = "recipe")]
use super::extensions::Extensions;
use super::state::{OVERHEAD, State};
use crate::{Clock, MAX_KEY, Result};

/// A far store in process memory with every capability: leases, bus, atomic values, sweep.
///
/// Clones share the data, as connections to one server do. Every operation is one critical section on one lock, so
/// operations are ordered as on a single-threaded server; time comes from the [`Clock`] it was built with and stands
/// still within an operation. No future of it ever waits, except a listener's `next`.
///
/// Its bytes are bounded ([`Builder::bytes`]); expired keys go when they are touched, and a few with every write.
/// Sequences and tag generations are not evicted.
///
/// ```
/// # use std::time::Duration;
/// use bytes::Bytes;
/// use cache_core::{CacheService, Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_core::Result<()> {
/// let store = Memory::new();
/// store.set("user:1", Bytes::from_static(b"ada"), Duration::from_secs(60)).await?;
/// assert_eq!(store.get("user:1").await?.as_deref(), Some(&b"ada"[..]));
/// assert!(store.delete("user:1").await?);
/// assert_eq!(store.get("user:1").await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    clock: Clock,
    max_value: usize,
    state: Mutex<State>,
    #[cfg(feature = "recipe")]
    extensions: Extensions,
}

impl Memory {
    /// The store's name in errors and metrics.
    pub(super) const NAME: &'static str = "memory";

    /// A store with every default.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A builder with every default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn from_builder(builder: Builder) -> Self {
        let Builder { clock, bytes, max_value, buffer } = builder;
        let fits = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(OVERHEAD + MAX_KEY);
        let state = Mutex::new(State::new(bytes, buffer.max(1)));
        Self(Arc::new(Shared {
            clock,
            max_value: max_value.min(fits),
            state,
            #[cfg(feature = "recipe")]
            extensions: Extensions::default(),
        }))
    }

    /// The state of a recipe in this store: one value per type, lost with [`flush`](Self::flush) and
    /// [`restart`](Self::restart).
    #[cfg(feature = "recipe")]
    pub(crate) fn extension<T: std::any::Any + Default + Send + Sync>(&self) -> Arc<T> {
        self.0.extensions.get()
    }

    /// Refuses a key under which bytes stand, for a recipe that would keep its state there.
    #[cfg(feature = "recipe")]
    pub(crate) fn check_vacant(&self, key: &str, operation: &'static str) -> Result<()> {
        self.run(operation, |state| if state.has(key) { Err(super::state::wrong_type()) } else { Ok(()) })
    }

    /// The clock that everything in this store reads.
    #[cfg(feature = "recipe")]
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn limit(&self) -> usize {
        self.0.max_value
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.set_time(self.0.clock.now(), self.0.clock.unix_ms());
        state
    }

    /// Runs one operation alone, then wakes the listeners that it gave events to.
    pub(super) fn run<T>(&self, operation: &'static str, body: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        let result = body(&mut state);
        let wakers = state.inboxes.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result.map_err(|error| error.with_operation(operation).with_store(Self::NAME))
    }

    /// Removes every key, as `FLUSHALL` does: sequences and tags too, and nobody is told.
    pub fn flush(&self) {
        self.lock().clear();
        #[cfg(feature = "recipe")]
        self.0.extensions.clear();
    }

    /// What a restart with an empty data set does: every key is lost, the run id changes, every subscription breaks
    /// and comes back.
    pub fn restart(&self) {
        #[cfg(feature = "recipe")]
        self.0.extensions.clear();
        let mut state = self.lock();
        state.clear();
        state.run = state.run.wrapping_add(1);
        state.inboxes.sever();
        let wakers = state.inboxes.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A replica as of now: another server with the same keys, deadlines and clock, a run id of its own and no
    /// subscription. What is done to either from now on, the other does not have: a failover to it loses that. The
    /// state of recipes is not copied.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = Mutex::new(self.lock().fork());
        Self(Arc::new(Shared {
            clock: self.0.clock.clone(),
            max_value: self.0.max_value,
            state,
            #[cfg(feature = "recipe")]
            extensions: Extensions::default(),
        }))
    }

    /// Drops `key`, whatever it is, as a full server may; `true` if it was there.
    #[must_use]
    pub fn evict(&self, key: &str) -> bool {
        self.lock().remove(key)
    }

    /// How many keys are held, those included that have expired but were not yet dropped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes held: keys, values and bookkeeping.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.lock().weight()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Memory")
            .field("keys", &state.len())
            .field("weight", &state.weight())
            .field("max_value", &self.0.max_value)
            .finish()
    }
}
