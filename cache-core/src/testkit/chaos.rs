//! Scripted faults in front of a store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Atomic, Bus, CacheService, Error, ErrorKind, Leases, Result, Sweep};

mod capabilities;
mod faults;
mod listener;
mod op;

use faults::Faults;
pub use op::Op;

/// Scripted faults in front of any store and its capabilities.
///
/// Without a fault it forwards every call, so the whole suite runs through it. Clones share the store, the faults and
/// the counts: keep one as the hand that scripts them. The faults are applied in the order partition, failure, hang,
/// delay, call, lost reply.
///
/// ```
/// use std::time::Duration;
/// use cache_core::testkit::chaos::{Chaos, Op};
/// use cache_core::{CacheService, ErrorKind, memory::Memory};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let store = Chaos::new(Memory::new());
/// store.lose_replies(1);
/// let lost = store.set("k", "v".into(), Duration::from_secs(1)).await;
/// assert_eq!(lost.unwrap_err().kind(), ErrorKind::Timeout);
/// assert!(store.exists("k").await.unwrap(), "the call was made, only its reply was lost");
/// assert_eq!(store.calls(Op::Set), 1);
/// # });
/// ```
pub struct Chaos<S: ?Sized> {
    faults: Arc<Faults>,
    store: Arc<S>,
}

impl<S: CacheService> Chaos<S> {
    /// `store` behind no fault yet.
    pub fn new(store: S) -> Self {
        Self { faults: Arc::default(), store: Arc::new(store) }
    }
}

impl<S: ?Sized> Chaos<S> {
    /// The next `n` calls of any operation fail with `kind`, unexecuted.
    pub fn fail_next(&self, n: u64, kind: ErrorKind) {
        self.faults.fail(None, n, kind);
    }

    /// The next `n` calls of `op` fail with `kind`, unexecuted.
    pub fn fail_next_of(&self, op: Op, n: u64, kind: ErrorKind) {
        self.faults.fail(Some(op), n, kind);
    }

    /// Calls hang, unexecuted, until [`unhang`](Self::unhang); listeners go on.
    pub fn hang(&self) {
        self.faults.hang(true);
    }

    /// Calls that hang go on.
    pub fn unhang(&self) {
        self.faults.hang(false);
    }

    /// Every call takes `delay` longer, before it is executed. Zero ends it.
    pub fn slow(&self, delay: Duration) {
        self.faults.slow(delay);
    }

    /// Every reply takes `delay` longer, after the call was executed. Zero ends it.
    pub fn slow_replies(&self, delay: Duration) {
        self.faults.slow_replies(delay);
    }

    /// Every reply takes a random time of up to `most` longer, after the call was executed: replies overtake each other,
    /// and messages overtake replies. Zero ends it.
    pub fn scatter_replies(&self, most: Duration) {
        self.faults.scatter_replies(most);
    }

    /// While `on`, every call lets other tasks go first, once before it is executed and once after: so that a future which
    /// calls a store that never waits can be dropped at either point.
    pub fn yields(&self, on: bool) {
        self.faults.yields(on);
    }

    /// While `on`, every call fails as `Unavailable`, unexecuted, and listeners hear `Lost`, then nothing. Once off
    /// they hear `Restored`; what reached them meanwhile is lost.
    pub fn partition(&self, on: bool) {
        self.faults.partition(on);
    }

    /// The next `n` calls are executed, but the caller gets `Timeout`.
    pub fn lose_replies(&self, n: u64) {
        self.faults.lose_replies(n);
    }

    /// While `on`, messages that reach a listener are dropped in silence: no `Lost`. Messages travel on their own, so
    /// a script that goes on first waits until [`dropped`](Self::dropped) has counted them.
    pub fn mute(&self, on: bool) {
        self.faults.mute(on);
    }

    /// Ends all faults; the counts stay.
    pub fn calm(&self) {
        self.faults.calm();
    }

    /// How often `op` was called, failed calls included.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        self.faults.calls(op)
    }

    /// How many messages were dropped on their way to a listener.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.faults.dropped()
    }

    /// How often anything was called: the number of round trips, if each call is one.
    #[must_use]
    pub fn total_calls(&self) -> u64 {
        Op::ALL.iter().map(|op| self.calls(*op)).sum()
    }

    /// The store behind the faults.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.store
    }
}

impl<S: ?Sized> Clone for Chaos<S> {
    fn clone(&self) -> Self {
        Self { faults: Arc::clone(&self.faults), store: Arc::clone(&self.store) }
    }
}

impl<S: fmt::Debug + ?Sized> fmt::Debug for Chaos<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chaos").field(&&*self.store).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheService + ?Sized> CacheService for Chaos<S> {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    fn max_value(&self) -> usize {
        self.store.max_value()
    }

    fn max_key(&self) -> usize {
        self.store.max_key()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.faults.through(Op::Get, self.store.get(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.faults.through(Op::Set, self.store.set(key, value, ttl)).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.faults.through(Op::Delete, self.store.delete(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.faults.through(Op::Exists, self.store.exists(key)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.faults.through(Op::GetMany, self.store.get_many(keys)).await
    }

    async fn set_many(&self, entries: &[(&str, Bytes)], ttl: Duration) -> Result<()> {
        self.faults.through(Op::SetMany, self.store.set_many(entries, ttl)).await
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        self.faults.through(Op::DeleteMany, self.store.delete_many(keys)).await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.store.leases().map(|_| self as &dyn Leases)
    }

    fn bus(&self) -> Option<&dyn Bus> {
        self.store.bus().map(|_| self as &dyn Bus)
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.store.atomic().map(|_| self as &dyn Atomic)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.store.sweep().map(|_| self as &dyn Sweep)
    }
}

/// The capability was there when it was handed out; a store that takes it back gets this error.
fn taken_back(capability: &str) -> Error {
    Error::new(ErrorKind::Other, format!("the store behind the faults no longer has its {capability}"))
}

#[cfg(test)]
mod tests;
