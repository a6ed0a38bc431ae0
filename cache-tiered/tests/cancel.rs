//! I6: every lease, flight and permit is given back on every exit path. Every public future is dropped at every point at
//! which it waits.

mod common;

use std::sync::Arc;

use cache_core::testkit::Chaos;
use cache_core::{CacheService, Clock, Memory, Tick, Ticks};
use common::cancel::{CALLS, Ground, Start, cut_one};

/// Tokio's paused time as everybody's clock.
struct Paused(tokio::time::Instant);

impl Ticks for Paused {
    fn now(&self) -> Tick {
        Tick::from_nanos(1_000_000_000) + self.0.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

fn ground() -> Ground {
    let clock = Clock::from_source(Paused(tokio::time::Instant::now()));
    let memory = Memory::builder().clock(clock.clone()).build();
    let store: Arc<dyn CacheService> = Arc::new(memory.clone());
    let connect = move || {
        let far = Chaos::new(memory.clone());
        far.yields(true);
        let far: Arc<dyn CacheService> = Arc::new(far);
        Box::pin(std::future::ready(far)) as _
    };
    Ground { clock, namespace: "strata".to_owned(), real: false, store, connect: Box::new(connect) }
}

/// Drops every call at every point at which it waits; how many points there were.
#[expect(clippy::future_not_send, reason = "polled by the test alone, on one thread")]
async fn cut_everywhere(start: Start) -> usize {
    let mut points = 0;
    for call in CALLS {
        for late in [false, true] {
            points += cut_one(start, call, late, async || ground()).await;
        }
    }
    points
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_on_a_miss() {
    assert!(cut_everywhere(Start::Cold).await > 120);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_on_a_far_hit() {
    assert!(cut_everywhere(Start::Far).await > 120);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_while_near_is_in_doubt() {
    assert!(cut_everywhere(Start::Suspect).await > 120);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_while_another_process_loads() {
    assert!(cut_everywhere(Start::Leased).await > 120);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_without_a_far_store() {
    assert!(cut_everywhere(Start::Alone).await > 60);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_with_background_writes() {
    assert!(cut_everywhere(Start::Behind).await > 120);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_while_a_value_is_refreshed() {
    assert!(cut_everywhere(Start::Due).await > 120);
}

#[tokio::test(start_paused = true)]
async fn i6_a_dropped_call_leaves_nothing_behind_while_a_sliding_ttl_counts_anew() {
    assert!(cut_everywhere(Start::Sliding).await > 120);
}
