//! What a dead far store costs: one short deadline for a few requests, nothing for near hits.

mod common;

use std::time::{Duration, Instant};

use cache_core::Memory;
use cache_core::memory::LocalMemory;
use cache_core::observe::Metric;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_tiered::Tiered;
use common::{names, ok};

/// What the store's own deadline is.
const DEADLINE: Duration = Duration::from_millis(200);

/// From now on every call is swallowed and ends at its deadline.
fn stall(far: &Chaos<Memory>) {
    far.slow(DEADLINE);
    far.lose_replies(u64::MAX);
}

/// Calls of requests: beats are the process's own.
fn calls(far: &Chaos<Memory>) -> u64 {
    far.total_calls() - far.calls(Op::Beat)
}

#[tokio::test]
async fn a_dead_far_store_costs_a_request_at_most_one_deadline_and_a_near_hit_nothing() {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    // trusted throughout: what is measured is the breaker, not the outage rule
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    let cache = names(&tiered);
    cache.get_or_load("hot", || ok("v")).await.unwrap();
    stall(&far);
    let (before, begun) = (calls(&far), Instant::now());
    let mut slow = 0;
    for n in 0..300 {
        let asked = calls(&far);
        let one = Instant::now();
        assert_eq!(*cache.get_or_load(&n.to_string(), || ok("loaded")).await.unwrap(), "loaded");
        assert!(calls(&far) - asked <= 1, "a request asks a dead store once");
        slow += u32::from(one.elapsed() >= DEADLINE);
    }
    // four failures open the breaker; while it is open one call in a second probes
    let windows = u32::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(slow <= 4 + windows, "{slow} of 300 requests waited, in {windows} windows of the breaker");
    assert!(calls(&far) - before <= u64::from(4 + windows));
    assert!(tiered.metrics().get(Metric::FarSkipped) >= 280);
    let (asked, seen) = (calls(&far), tiered.metrics());
    for _ in 0..10_000 {
        assert!(cache.get("hot").await.unwrap().is_some());
    }
    assert_eq!(calls(&far), asked, "a near hit asks nobody");
    assert_eq!(tiered.metrics().since(&seen).get(Metric::NearHit), 10_000);
}

#[tokio::test]
async fn many_requests_at_once_do_not_queue_behind_a_dead_far_store() {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    stall(&far);
    let begun = Instant::now();
    let requests: Vec<_> = (0..200)
        .map(|n| {
            let cache = names(&tiered);
            tokio::spawn(async move { cache.get_or_load(&n.to_string(), || ok("loaded")).await.unwrap() })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    // side by side: what left before the breaker opened ends at one deadline
    assert!(begun.elapsed() < DEADLINE * 20, "{:?}", begun.elapsed());
}
