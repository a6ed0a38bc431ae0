//! What a cache counts: every name, label and unit in one table.

mod slot;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Metric {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Metric {
            /// Every metric, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The metric's exported name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it counts, in one sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($help),+),)+
                }
            }
        }
    };
}

metrics! {
    /// Gets answered from the near store.
    NearHit = "strata_near_hits_total",
    /// Gets answered from the far store.
    FarHit = "strata_far_hits_total",
    /// Gets answered by a load that this call started or joined.
    OriginHit = "strata_origin_hits_total",
    /// Gets answered with nothing.
    Miss = "strata_misses_total",
    /// Gets answered with an error.
    Failed = "strata_failures_total",
    /// Gets answered with a value that may be out of date, and said so.
    StaleServed = "strata_stale_served_total",
    /// Calls of the application's loader.
    Load = "strata_loads_total",
    /// Loads that failed.
    LoadFailed = "strata_load_failures_total",
    /// Loads refused to protect the origin.
    LoadShed = "strata_loads_shed_total",
    /// Times that an origin's breaker opened.
    OriginTripped = "strata_origin_breaker_trips_total",
    /// Refreshes begun: loads in the background while the old value is still fresh.
    Refresh = "strata_refreshes_total",
    /// Sliding ttls prolonged in the far store.
    Touched = "strata_touches_total",
    /// Calls that joined a flight of another call.
    Joined = "strata_flights_joined_total",
    /// Waits for a lease held elsewhere.
    LeaseWait = "strata_lease_waits_total",
    /// Fills that the far store accepted.
    Filled = "strata_fills_total",
    /// Fills refused because the key was invalidated during the load.
    FillRejected = "strata_fills_rejected_total",
    /// Values that were kept nowhere: too large for the near store or not meant for it, and there is no far store.
    Unkept = "strata_unkept_values_total",
    /// Frames that were cut, flipped, foreign or of another version.
    Malformed = "strata_malformed_frames_total",
    /// Payloads of another codec or schema, or that did not decode.
    Undecodable = "strata_undecodable_payloads_total",
    /// Invalidations that this process made and the far store acknowledged.
    Invalidated = "strata_invalidations_total",
    /// Invalidations that were not acknowledged and wait to be retried.
    InvalidationPending = "strata_invalidations_pending_total",
    /// Values queued to be written in the background.
    BackgroundWrite = "strata_background_writes_total",
    /// Background writes that failed: their keys are invalidated.
    BackgroundWriteFailed = "strata_background_write_failures_total",
    /// Keys dropped from the near store because a message said so.
    Purged = "strata_purges_total",
    /// Messages on the bus.
    BusMessage = "strata_bus_messages_total",
    /// Messages on the bus that were none of ours.
    BusForeign = "strata_bus_foreign_total",
    /// Gaps found by a beat.
    Gap = "strata_gaps_total",
    /// Epochs begun: every near entry is revalidated before it is served again.
    EpochBump = "strata_epochs_total",
    /// Times that trust ran out, found by the beat that ended next.
    TrustLapse = "strata_trust_lapses_total",
    /// Beats answered.
    Beat = "strata_beats_total",
    /// Microseconds from the sending of beats to their answers: by the beats answered, their mean lag.
    BeatLag = "strata_beat_lag_microseconds_total",
    /// Beats that failed.
    BeatFailed = "strata_beat_failures_total",
    /// Near entries confirmed by their stamp.
    Revalidated = "strata_revalidations_total",
    /// Calls to the far store that failed.
    FarFailed = "strata_far_failures_total",
    /// Calls not sent to the far store because its breaker was open.
    FarSkipped = "strata_far_skipped_total",
    /// Sampled near hits whose stamp differed from the far store's, within the bound.
    StaleWithinBound = "strata_stale_within_bound_total",
    /// Sampled near hits whose stamp differed for longer than the bound; must be 0.
    StaleBeyondBound = "strata_stale_beyond_bound_total",
}

const METRICS: usize = Metric::ALL.len();

#[repr(align(128))]
struct Stripe([AtomicU64; METRICS]);

/// The counters of one cache. Each thread has a stripe of its own, so counting a hit is a plain load and store; threads
/// beyond the number of stripes share the first one.
pub struct Counters(Box<[Stripe]>);

impl Counters {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self((0..slot::COUNT).map(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))).collect())
    }

    /// Counts one.
    #[inline]
    pub fn count(&self, metric: Metric) {
        self.add(metric, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, metric: Metric, n: u64) {
        let mine = slot::mine();
        let counter = &self.0[mine].0[metric as usize];
        if mine == slot::SHARED {
            counter.fetch_add(n, Ordering::Relaxed);
        } else {
            // nobody else writes here
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    /// The sum of `metric` so far.
    #[must_use]
    pub fn get(&self, metric: Metric) -> u64 {
        self.0.iter().map(|stripe| stripe.0[metric as usize].load(Ordering::Relaxed)).sum()
    }

    /// All sums.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(std::array::from_fn(|i| self.get(Metric::ALL[i])))
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// The counters at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Snapshot([u64; METRICS]);

impl Snapshot {
    /// The sum of `metric`.
    #[must_use]
    pub const fn get(&self, metric: Metric) -> u64 {
        self.0[metric as usize]
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_sub(earlier.0[i])))
    }

    /// Every metric and its sum.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, u64)> + '_ {
        Metric::ALL.iter().map(|m| (*m, self.get(*m)))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, n)| *n > 0).map(|(m, n)| (m.name(), n))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nothing_is_lost_with_more_threads_than_stripes() {
        let counters = Arc::new(Counters::new());
        for _ in 0..2 {
            let count = |counters: Arc<Counters>| move || (0..1000).for_each(|_| counters.count(Metric::NearHit));
            let threads: Vec<_> =
                (0..2 * slot::COUNT).map(|_| std::thread::spawn(count(Arc::clone(&counters)))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        assert_eq!(counters.get(Metric::NearHit), 4 * 1000 * slot::COUNT as u64);
    }
}
