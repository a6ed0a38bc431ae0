//! Freshness and resilience where there is only a near store, under a clock that the test moves.

mod common;

use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Clock, ManualClock, memory::LocalMemory};
use cache_tiered::{Cache, Freshness, Loaded, Policy, Refresh, StaleReason, Tier, Tiered};
use common::eventually;
use common::freshness::{Now, Origin, cache};

const TTL: Duration = Duration::from_secs(100);

async fn embedded(policy: Policy) -> (ManualClock, Tiered, Cache<String>) {
    let (clock, hand) = Clock::manual();
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).clock(clock).build().await.unwrap();
    let cache = cache(&tiered, policy);
    (hand, tiered, cache)
}

fn fresh_for_ttl() -> Policy {
    Policy::from(TTL).jitter(0.0)
}

/// I14.
#[tokio::test]
async fn a_failed_refresh_leaves_the_value_as_it_is_embedded() {
    let (hand, tiered, cache) = embedded(fresh_for_ttl().refresh_ahead(0.5)).await;
    let origin = Origin::says("old");
    assert_eq!(origin.read(&cache).await, "old");
    hand.advance(TTL / 2);
    origin.now(Now::Fail);
    for failures in 1..4 {
        assert_eq!(origin.ask(&cache).await.unwrap().freshness, Freshness::WithinBound);
        eventually("a refresh has failed", async || tiered.metrics().get(Metric::LoadFailed) == failures).await;
        eventually("its flight has ended", async || tiered.in_flight() == 0).await;
        assert_eq!(origin.read(&cache).await, "old", "neither gone nor tried again before the pause is over");
        assert_eq!(origin.calls(), u32::try_from(failures).unwrap() + 1);
        hand.advance(Duration::from_secs(6));
    }
    assert!(cache.time_left("k").await.unwrap().is_some_and(|left| left > TTL / 4), "nor is it shortened");
    origin.say("new");
    assert_eq!(origin.read(&cache).await, "old");
    eventually("the new value", async || cache.get("k").await.unwrap().is_some_and(|value| *value == "new")).await;
}

#[tokio::test]
async fn an_early_refresh_comes_before_the_end_and_not_at_the_beginning() {
    let (hand, _tiered, cache) = embedded(fresh_for_ttl().refresh_ahead(Refresh::Early(1.0))).await;
    let origin = Origin::says("v");
    origin.now(Now::Hang);
    let load = tokio::spawn({
        let (origin, cache) = (origin.clone(), cache.clone());
        async move { origin.read(&cache).await }
    });
    eventually("the load is under way", async || origin.calls() == 1).await;
    hand.advance(Duration::from_secs(5));
    origin.say("v");
    assert_eq!(load.await.unwrap(), "v");
    // nine loads of five seconds before the end at the earliest
    hand.advance(TTL - Duration::from_secs(50));
    for _ in 0..1000 {
        origin.read(&cache).await;
    }
    assert_eq!(origin.calls(), 1);
    hand.advance(Duration::from_secs(49));
    eventually("it is refreshed", async || {
        assert_eq!(origin.ask(&cache).await.unwrap().freshness, Freshness::WithinBound);
        origin.calls() == 2
    })
    .await;
}

#[tokio::test]
async fn a_value_past_its_ttl_stands_in_embedded() {
    let throttle = Duration::from_secs(30);
    let (hand, _tiered, cache) = embedded(fresh_for_ttl().fail_safe(TTL)).await;
    let origin = Origin::says("old");
    assert_eq!(origin.read(&cache).await, "old");
    hand.advance(TTL);
    origin.now(Now::Fail);
    for probe in 2..4 {
        for _ in 0..10 {
            let answer = origin.ask(&cache).await.unwrap();
            assert_eq!(answer.freshness, Freshness::Stale(StaleReason::LoadFailed));
        }
        assert_eq!(origin.calls(), probe, "one try a throttle");
        hand.advance(throttle);
    }
    cache.invalidate("k").await.unwrap();
    assert!(origin.ask(&cache).await.is_err(), "what was invalidated is no fallback");
    origin.say("new");
    hand.advance(throttle);
    assert_eq!(origin.read(&cache).await, "new");
    hand.advance(TTL * 2);
    origin.now(Now::Fail);
    assert!(origin.ask(&cache).await.is_err(), "nor is what was kept for as long as it is kept");
}

#[tokio::test]
async fn a_read_makes_the_ttl_count_anew_embedded() {
    let (hand, _tiered, cache) = embedded(fresh_for_ttl().sliding()).await;
    let origin = Origin::says("v");
    assert_eq!(origin.read(&cache).await, "v");
    for _ in 0..10 {
        hand.advance(TTL - Duration::from_secs(1));
        assert!(cache.get("k").await.unwrap().is_some());
    }
    hand.advance(TTL);
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_not_for_the_near_store_is_kept_nowhere_embedded() {
    let (_, tiered, cache) = embedded(fresh_for_ttl().near_max(1000)).await;
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("v".to_owned()).far_only()) };
    for _ in 0..2 {
        assert_eq!(cache.load_with("k", load).await.unwrap().tier, Tier::Origin);
    }
    cache.set("k", "small".into()).await.unwrap();
    assert!(cache.get("k").await.unwrap().is_some());
    cache.set("k", "x".repeat(1000)).await.unwrap();
    assert!(cache.get("k").await.unwrap().is_none(), "too large by its policy, and the old one is gone");
    assert_eq!(tiered.in_flight(), 0);
}

#[tokio::test]
async fn a_value_does_not_vanish_uncounted_embedded() {
    let (_, tiered, cache) = embedded(fresh_for_ttl().near_max(1000)).await;
    let unkept = || tiered.metrics().get(Metric::Unkept);
    let large = || async { Ok::<_, std::io::Error>("x".repeat(1000)) };
    cache.get_or_load("k", large).await.unwrap();
    assert_eq!(unkept(), 1, "a load");
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("v".to_owned()).far_only()) };
    cache.load_with("k", load).await.unwrap();
    assert_eq!(unkept(), 2, "what is not meant for the near store");
    cache.set("k", "x".repeat(1000)).await.unwrap();
    assert_eq!(unkept(), 3, "a write");
    cache.set("k", "small".into()).await.unwrap();
    assert!(cache.get("k").await.unwrap().is_some());
    assert_eq!(unkept(), 3);
}

/// sturdyc remembers for as long that there is nothing as it remembers a value.
#[tokio::test]
async fn a_remembered_nothing_does_not_live_as_long_as_a_value() {
    let (hand, _tiered, cache) = embedded(fresh_for_ttl()).await;
    let none = || async { Ok::<Option<String>, std::io::Error>(None) };
    assert!(cache.find_or_load("k", none).await.unwrap().is_none());
    assert!(cache.lookup("k").await.unwrap().is_some(), "it is remembered");
    hand.advance(TTL / 2);
    let some = || async { Ok::<_, std::io::Error>(Some("v".to_owned())) };
    assert_eq!(cache.find_or_load("k", some).await.unwrap().as_deref().map(String::as_str), Some("v"));
    hand.advance(TTL / 2);
    assert!(cache.get("k").await.unwrap().is_some());
}
