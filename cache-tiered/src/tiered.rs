//! The tiered cache: a handle on the engine.

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Snapshot;
use cache_core::{Result, Tags, Tick, envelope};

use crate::builder::TieredBuilder;
use crate::cache_builder::CacheBuilder;
use crate::engine::Engine;

/// How long a close takes at most.
const CLOSE: Duration = Duration::from_secs(5);

/// A cache of one or two tiers: near (process memory), far (shared), or both, kept coherent.
///
/// A handle: clones share everything. Typed caches come from [`cache`](Self::cache); as a
/// [`CacheService`](cache_core::CacheService) it moves bytes. When the last handle, typed caches included, is dropped,
/// its background tasks end.
///
/// Needs tokio with its timers. The background tasks run on the runtime on which it was built; it may be used from
/// others as long as that one lives. After that the outage rule applies, and reads that only the far store could answer
/// are `Closed`: a cache in a `static` needs a runtime that lives as long, which that of one `#[tokio::test]` does not.
#[derive(Clone, Debug)]
pub struct Tiered(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Engine>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Tiered {
    /// A builder.
    pub fn builder() -> TieredBuilder {
        TieredBuilder::default()
    }

    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(Arc::new(Handle(engine)))
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0.0
    }

    /// Begins a typed cache over the key space `space`: keys of two spaces never collide.
    pub fn cache<V>(&self, space: impl Into<String>) -> CacheBuilder<V> {
        CacheBuilder::new(self.clone(), space.into())
    }

    /// Invalidates every entry that carries the tag `name`, in every process. One round trip, whatever their number.
    ///
    /// A process remembers up to 262,144 tags that were invalidated, about 10 MB; each time that so many came together, near
    /// entries are confirmed again, or loaded anew where there is no far store.
    ///
    /// # Errors
    /// What the far store says: the tag is then retried in the background, and until then it is as if it had not been
    /// invalidated.
    pub async fn invalidate_tag(&self, name: &str) -> Result<()> {
        self.engine().bump(Tags::hash(name)).await
    }

    /// Invalidates everything in this namespace, in every process. One round trip; no key is touched.
    ///
    /// # Errors
    /// As [`invalidate_tag`](Self::invalidate_tag).
    pub async fn clear(&self) -> Result<()> {
        self.engine().bump(envelope::ALL).await
    }

    /// What was counted so far.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        self.engine().counters.snapshot()
    }

    /// The loads and reads in flight in this process.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.engine().flights.len()
    }

    /// How many invalidations wait to be acknowledged.
    #[must_use]
    pub fn pending_invalidations(&self) -> usize {
        self.engine().pending()
    }

    /// How many keys have a background write that is not done.
    #[must_use]
    pub fn pending_writes(&self) -> usize {
        self.engine().behind.as_ref().map_or(0, |behind| behind.len())
    }

    /// D: the staleness bound while connected.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.engine().options.bound
    }

    /// Whether the process is cut off from the far store, so that the outage rule applies.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        let engine = self.engine();
        (0..engine.lines.len()).any(|line| engine.cut_off(line))
    }

    /// How long ago the last beat that was answered was sent: while connected a third of D and a round trip at most, and
    /// past D near entries are not trusted. `None` before the first one, and where nothing beats.
    #[must_use]
    pub fn beat_lag(&self) -> Option<Duration> {
        let engine = self.engine();
        let beats = engine.hears();
        let until = engine.lines.iter().map(|line| line.view.trust_until()).min().filter(|_| beats)?;
        // trust ends a bound after its beat was sent
        (until != Tick::ZERO).then(|| (engine.clock.now() + engine.options.bound).since(until))
    }

    /// How many loads, changes and leases on their way back still run in tasks of their own.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.engine().work.running()
    }

    /// [`close_within`](Self::close_within) five seconds.
    pub async fn close(&self) -> bool {
        self.close_within(CLOSE).await
    }

    /// Closes the cache for all handles, in at most `deadline`; says whether everything was done by then.
    ///
    /// From now on every call returns `Closed`. Loads and changes that are under way end, unacknowledged invalidations
    /// are retried; what has not ended after four fifths of `deadline` is cancelled and its leases given back. Then the
    /// background tasks end, and with them the subscription. A second close waits as the first does.
    ///
    /// Dropped before it ends, calls are refused all the same, and the tasks end with the last handle.
    pub async fn close_within(&self, deadline: Duration) -> bool {
        self.engine().close(deadline).await
    }
}
