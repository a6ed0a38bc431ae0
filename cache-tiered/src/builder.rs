//! Building a tiered cache.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheService, Clock, Entry, LocalStore, Packing, Result};

use crate::Tiered;
use crate::engine::{Engine, Options, Setup, check_name};
use crate::policy::all_mistakes;

/// The budget of a near store that holds an entry without key and value.
const SMALLEST_NEAR: u64 = Entry::BOOKKEEPING as u64;

/// Builds a [`Tiered`].
#[derive(Debug)]
#[must_use]
pub struct TieredBuilder {
    near: Option<Arc<dyn LocalStore>>,
    far: Option<Arc<dyn CacheService>>,
    packing: Option<Packing>,
    namespace: String,
    buckets: usize,
    options: Options,
    clock: Clock,
    monitor: Option<u32>,
    heat: Option<u32>,
    behind: Option<usize>,
}

impl Default for TieredBuilder {
    fn default() -> Self {
        Self {
            near: None,
            far: None,
            packing: None,
            namespace: "strata".to_owned(),
            buckets: 1,
            options: Options::default(),
            clock: Clock::system(),
            monitor: None,
            heat: None,
            behind: None,
        }
    }
}

impl TieredBuilder {
    /// The store in process memory.
    pub fn near(mut self, near: impl LocalStore) -> Self {
        self.near = Some(Arc::new(near));
        self
    }

    /// A store in process memory that other caches of the process use too: one budget for all. They share no entries,
    /// whatever their namespaces.
    pub fn shared_near(mut self, near: Arc<dyn LocalStore>) -> Self {
        self.near = Some(near);
        self
    }

    /// The store that processes share.
    pub fn far(mut self, far: impl CacheService) -> Self {
        self.far = Some(Arc::new(far));
        self
    }

    /// How payloads stand in the far store: compressed, encrypted, both. Default: as they are.
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = Some(packing);
        self
    }

    /// What all keys of this cache begin with; processes that share values name the same. Default `strata`.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = name.into();
        self
    }

    /// D: while connected, no value invalidated longer ago is served. A beat is sent every third of it. At least
    /// 100 ms; default 2 s.
    pub fn bound(mut self, bound: Duration) -> Self {
        self.options.bound = bound;
        self
    }

    /// D_out: how long a value may be served, marked unconfirmed, while the far store can't be heard. Zero is strict:
    /// the origin is asked. Default 30 s.
    pub fn outage(mut self, window: Duration) -> Self {
        self.options.outage = window;
        self
    }

    /// The longest ttl that caches of this namespace may use; the same in every process. Tag generations are kept for two
    /// such periods. Default 7 days.
    ///
    /// A policy with a longer ttl is refused. The ttl of a single value, typed or plain bytes, is cut to it: an earlier end is
    /// always right, and the value is there.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.options.max_ttl = ttl;
        self
    }

    /// How long the lease of a load lasts; renewed at a third while the load lives. At least 100 ms; default 5 s.
    pub fn lease(mut self, span: Duration) -> Self {
        self.options.lease = span;
        self
    }

    /// The number of buckets that keys are spread over, each with its own line of changes in one cluster slot. Fixed
    /// for the life of a namespace. Default 1; 64 suits a cluster.
    pub fn buckets(mut self, buckets: usize) -> Self {
        self.buckets = buckets;
        self
    }

    /// Allows a far store without an invalidation stream: near entries then live for at most `ttl_cap`, and that is
    /// the only bound on staleness.
    pub fn incoherent(mut self, ttl_cap: Duration) -> Self {
        self.options.incoherent = Some(ttl_cap);
        self
    }

    /// Subscribes to nothing: beats alone tell of changes. A change by another process is seen by the next beat, at
    /// most the bound later, and puts every near entry to the test: each costs one short round trip (its stamp) before
    /// it is served again. Waiting for another process's load is polling too, every 50 to 250 ms.
    ///
    /// For servers and proxies without pub/sub, and for namespaces that hardly ever change. Default off.
    pub fn polling(mut self) -> Self {
        self.options.polling = true;
        self
    }

    /// Compares one near hit in `one_in` with the far store, in the background: a hit that was replaced there, and is
    /// still served a bound later, counts as `StaleBeyondBound` in the metrics, which must stay 0; one that is not counts
    /// as `StaleWithinBound`. One round trip a sample. Default: off; 10,000 is a good start.
    pub fn monitor(mut self, one_in: u32) -> Self {
        self.monitor = Some(one_in);
        self
    }

    /// Counts which keys are hit most, by one near hit in `one_in`, for [`export`](crate::Cache::export): of at most 16,384
    /// keys, so a few MB. Default: off; 100 is a good start.
    pub fn track_heat(mut self, one_in: u32) -> Self {
        self.heat = Some(one_in);
        self
    }

    /// Lets [`set`](crate::Cache::set) and [`store`](crate::Cache::store) return before the far store has the value, with
    /// at most `most` keys waiting. A key's writes keep their order, of those that wait only the newest is sent, and this
    /// process reads what it wrote meanwhile. Where there is no room, a write is sent in the foreground. Changes of a key
    /// come after its writes; [`close`](Tiered::close) sends what waits.
    ///
    /// What is given up: other processes see a value later, a write that fails is only counted (`BackgroundWriteFailed`)
    /// and its key invalidated, and a process that dies loses what waits. Until the far store answers a write, this process
    /// reads it as the newest, for the bound at most: a write that was not answered by then has failed.
    /// Default: off.
    pub fn background_writes(mut self, most: usize) -> Self {
        self.behind = Some(most);
        self
    }

    /// The clock that everything reads. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds and starts the cache: subscribes to the far store's changes and sends the first beat.
    ///
    /// # Errors
    /// `Config` that lists every mistake; what the far store says if it can't be subscribed to.
    pub async fn build(self) -> Result<Tiered> {
        let Self { near, far, packing, namespace, buckets, options, clock, monitor, heat, behind } = self;
        let mut found = Vec::new();
        if let Err(error) = check_name("namespace", &namespace) {
            found.push(error.message().to_owned());
        }
        if near.is_none() && far.is_none() {
            found.push("neither a near nor a far store is given".to_owned());
        }
        if let Some(budget) = near.as_ref().map(|near| near.budget()).filter(|budget| *budget < SMALLEST_NEAR) {
            found.push(format!("the near store holds {budget} bytes, so no entry at all; raise it or leave it out"));
        }
        if buckets == 0 || buckets > 16_384 {
            found.push(format!("buckets is {buckets}; it must be from 1 to 16384"));
        }
        for (name, span) in [("bound", options.bound), ("lease", options.lease)] {
            if span < Duration::from_millis(100) || span > Duration::from_secs(3600) {
                found.push(format!("{name} is {span:?}; it must be from 100 ms to 1 h"));
            }
        }
        if options.max_ttl.is_zero() || options.max_ttl > cache_core::MAX_TTL {
            found.push(format!("max_ttl is {:?}; it must be over zero and at most ten years", options.max_ttl));
        }
        if monitor == Some(0) {
            found.push("monitor samples one hit in 0; it must be at least 1".to_owned());
        }
        if behind == Some(0) {
            found.push("background_writes leaves room for no key; leave it out".to_owned());
        }
        if behind.is_some() && far.is_none() {
            found.push("background_writes is set without a far store; leave it out".to_owned());
        }
        if heat == Some(0) {
            found.push("track_heat samples one hit in 0; it must be at least 1".to_owned());
        }
        if heat.is_some() && near.is_none() {
            found
                .push("track_heat is set without a near store, so there are no hits to count; leave it out".to_owned());
        }
        let comparable = near.is_some() && far.as_ref().is_some_and(|far| far.bus().is_some());
        if monitor.is_some() && !comparable {
            let text =
                "monitor compares near hits with a far store that can be heard; give the cache both, or leave it out";
            found.push(text.to_owned());
        }
        if packing.is_some() && far.is_none() {
            let text = "packing is set without a far store, and near values are neither compressed nor encrypted; leave it out";
            found.push(text.to_owned());
        }
        let heard = far.as_ref().is_none_or(|far| far.bus().is_some());
        match options.incoherent {
            None if near.is_some() && !heard => {
                let text = "the far store has no invalidation stream; say .incoherent(ttl_cap) to build a cache whose \
                            near entries are bounded by that ttl alone";
                found.push(text.to_owned());
            }
            Some(cap) if cap.is_zero() => {
                found.push("the ttl cap of incoherent is zero; leave the near store out".to_owned());
            }
            Some(_) if far.is_none() => {
                found.push("incoherent is set without a far store; leave it out".to_owned());
            }
            Some(_) if heard => {
                found.push("incoherent is set, but the far store can be heard; leave it out".to_owned());
            }
            _ => {}
        }
        if !options.polling && far.as_ref().and_then(|far| far.bus()).is_some_and(|bus| !bus.publishes()) {
            let text = "the far store tells of changes by no message; say .polling() to hear of them by the beat alone";
            found.push(text.to_owned());
        }
        if options.polling {
            let sees_foreign = far.as_ref().and_then(|far| far.bus()).is_some_and(|bus| bus.sees_foreign());
            if far.is_none() {
                found.push("polling is set without a far store; leave it out".to_owned());
            } else if !heard || options.incoherent.is_some() {
                found.push(
                    "polling and incoherent exclude each other: without a sequence there is nothing to poll".to_owned(),
                );
            } else if sees_foreign {
                found.push(
                    "polling is set, but the far store tracks keys, which takes a subscription; drop one of the two"
                        .to_owned(),
                );
            }
        }
        all_mistakes(&found)?;
        let engine = Engine::start(Setup {
            near,
            far,
            packing: packing.unwrap_or_default(),
            namespace,
            lines: buckets,
            options,
            clock,
            monitor,
            heat,
            behind,
        })
        .await?;
        Ok(Tiered::new(engine))
    }
}
