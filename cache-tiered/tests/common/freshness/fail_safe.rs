//! Values past their ttl, kept for loads that fail or are late.

use cache_core::{ErrorKind, Header, State};
use cache_tiered::{Freshness, StaleReason};

use super::super::eventually;
use super::{Duration, Far, LONG, Now, Origin, Policy, TTL, cache, node, past_ttl, safe};

const FAILED: Freshness = Freshness::Stale(StaleReason::LoadFailed);
const LATE: Freshness = Freshness::Stale(StaleReason::SoftTimeout);

pub(crate) async fn a_value_past_its_ttl_stands_in_for_a_failed_load_and_says_so(far: impl Far) {
    let origin = Origin::says("old");
    let a = cache(&node(&far).await, safe(LONG));
    assert_eq!(origin.ask(&a).await.unwrap().freshness, Freshness::Fresh);
    past_ttl().await;
    assert!(a.get("k").await.unwrap().is_none(), "a get without a loader knows no fallback");
    origin.now(Now::Fail);
    let answer = origin.ask(&a).await.unwrap();
    assert_eq!((answer.value.as_deref().map(String::as_str), answer.freshness), (Some("old"), FAILED));
    assert!(answer.age >= TTL, "{:?}", answer.age);
}

/// I11: FusionCache and bentocache try once a process, or with every read.
pub(crate) async fn a_fleet_tries_a_failing_origin_once_a_throttle(far: impl Far) {
    let origin = Origin::says("old");
    let mut fleet = Vec::new();
    for _ in 0..4 {
        fleet.push(cache(&node(&far).await, safe(LONG)));
    }
    for cache in &fleet {
        assert_eq!(origin.read(cache).await, "old");
    }
    past_ttl().await;
    origin.now(Now::Fail);
    let before = origin.calls();
    for _ in 0..5 {
        for cache in &fleet {
            assert_eq!(origin.ask(cache).await.unwrap().freshness, FAILED);
        }
    }
    assert_eq!(origin.calls() - before, 1, "probes of the fleet in one throttle");
}

pub(crate) async fn the_origin_is_tried_again_after_the_throttle(far: impl Far) {
    let throttle = Duration::from_millis(400);
    let origin = Origin::says("old");
    let (a, b) = (cache(&node(&far).await, safe(throttle)), cache(&node(&far).await, safe(throttle)));
    assert_eq!(origin.read(&a).await, "old");
    past_ttl().await;
    origin.now(Now::Fail);
    let (before, begun) = (origin.calls(), std::time::Instant::now());
    eventually("three probes", async || {
        for cache in [&a, &b] {
            assert_eq!(origin.read(cache).await, "old");
        }
        origin.calls() >= before + 3
    })
    .await;
    assert!(begun.elapsed() >= throttle * 2, "a throttle counts from its failure");
    origin.say("new");
    eventually("the new value is everywhere", async || {
        let answers = [origin.ask(&a).await.unwrap(), origin.ask(&b).await.unwrap()];
        answers.iter().all(|answer| answer.value.as_deref().is_some_and(|value| value == "new"))
    })
    .await;
}

/// I10.
pub(crate) async fn what_was_invalidated_is_never_a_fallback(far: impl Far) {
    let origin = Origin::says("old");
    let (a, b) = (cache(&node(&far).await, safe(LONG)), cache(&node(&far).await, safe(LONG)));
    for cache in [&a, &b] {
        assert_eq!(origin.read(cache).await, "old");
    }
    past_ttl().await;
    origin.now(Now::Fail);
    assert_eq!(origin.read(&a).await, "old", "a fallback that stands");
    b.invalidate("k").await.unwrap();
    assert_eq!(origin.ask(&b).await.unwrap_err().kind(), ErrorKind::Loader);
    eventually("the other process drops its fallback", async || origin.ask(&a).await.is_err()).await;
    origin.say("new");
    eventually("the new value", async || origin.ask(&a).await.is_ok_and(|a| a.value.is_some_and(|v| *v == "new")))
        .await;
}

/// I10.
pub(crate) async fn what_a_tag_invalidated_is_never_a_fallback(far: impl Far) {
    let origin = Origin::says("old").tagged("group");
    let (left, right) = (node(&far).await, node(&far).await);
    let (a, b) = (cache(&left, safe(LONG)), cache(&right, safe(LONG)));
    for cache in [&a, &b] {
        assert_eq!(origin.read(cache).await, "old");
    }
    past_ttl().await;
    left.invalidate_tag("group").await.unwrap();
    origin.now(Now::Fail);
    assert_eq!(origin.ask(&a).await.unwrap_err().kind(), ErrorKind::Loader);
    eventually("the other process drops its fallback", async || origin.ask(&b).await.is_err()).await;
    let late = cache(&node(&far).await, safe(LONG));
    assert!(origin.ask(&late).await.is_err(), "nor is it found in the far store");
}

/// The throttle is for those whom the fallback serves; without it, it would be an outage as long.
pub(crate) async fn a_fallback_that_was_invalidated_holds_no_load_back(far: impl Far) {
    let origin = Origin::says("old").tagged("group");
    let (left, right) = (node(&far).await, node(&far).await);
    let (a, b) = (cache(&left, safe(LONG)), cache(&right, safe(LONG)));
    assert_eq!(origin.read(&a).await, "old");
    for change in 0..2 {
        past_ttl().await;
        origin.now(Now::Fail);
        for cache in [&a, &b] {
            assert_eq!(origin.ask(cache).await.unwrap().freshness, FAILED);
        }
        match change {
            0 => left.invalidate_tag("group").await.unwrap(),
            _ => left.clear().await.unwrap(),
        }
        origin.say("new");
        for cache in [&a, &b] {
            eventually("the new value", async || {
                origin.ask(cache).await.is_ok_and(|answer| answer.value.is_some_and(|value| *value == "new"))
            })
            .await;
        }
    }
}

/// FusionCache serves what was cleared, out of its second level.
pub(crate) async fn a_clear_then_fail_safe_never_serves_what_was_before(far: impl Far) {
    let origin = Origin::says("old");
    let (left, right) = (node(&far).await, node(&far).await);
    let (a, b) = (cache(&left, safe(LONG)), cache(&right, safe(LONG)));
    for cache in [&a, &b] {
        assert_eq!(origin.read(cache).await, "old");
    }
    past_ttl().await;
    origin.now(Now::Fail);
    assert_eq!(origin.read(&b).await, "old", "a fallback that stands");
    left.clear().await.unwrap();
    assert!(origin.ask(&a).await.is_err());
    eventually("the other process drops its fallback", async || origin.ask(&b).await.is_err()).await;
    let late = cache(&node(&far).await, safe(LONG));
    assert!(origin.ask(&late).await.is_err(), "nor is it found in the far store");
    origin.say("new");
    eventually("the new value", async || origin.ask(&late).await.is_ok_and(|a| a.value.is_some_and(|v| *v == "new")))
        .await;
}

pub(crate) async fn a_policy_without_fail_safe_is_served_no_fallback(far: impl Far) {
    let origin = Origin::says("old");
    let tiered = node(&far).await;
    assert_eq!(origin.read(&cache(&tiered, safe(LONG))).await, "old");
    past_ttl().await;
    origin.now(Now::Fail);
    assert!(origin.ask(&cache(&tiered, Policy::from(TTL))).await.is_err());
    assert_eq!(origin.ask(&cache(&tiered, safe(LONG))).await.unwrap().freshness, FAILED);
}

pub(crate) async fn a_fallback_is_found_in_the_far_store(far: impl Far) {
    let origin = Origin::says("old");
    assert_eq!(origin.read(&cache(&node(&far).await, safe(LONG))).await, "old");
    past_ttl().await;
    origin.now(Now::Fail);
    let cold = cache(&node(&far).await, safe(LONG));
    let before = origin.calls();
    for _ in 0..3 {
        assert_eq!(origin.ask(&cold).await.unwrap().freshness, FAILED);
    }
    assert_eq!(origin.calls() - before, 1);
}

pub(crate) async fn a_late_load_goes_on_behind_the_fallback(far: impl Far) {
    let origin = Origin::says("old");
    let policy = safe(LONG).soft_timeout(Duration::from_millis(100));
    let tiered = node(&far).await;
    let a = cache(&tiered, policy);
    assert_eq!(origin.read(&a).await, "old");
    past_ttl().await;
    origin.now(Now::Hang);
    let before = origin.calls();
    for _ in 0..3 {
        let answer = origin.ask(&a).await.unwrap();
        assert_eq!((answer.value.as_deref().map(String::as_str), answer.freshness), (Some("old"), LATE));
    }
    assert_eq!(origin.calls() - before, 1, "the load goes on");
    origin.say("new");
    eventually("its value is served", async || a.get("k").await.unwrap().is_some_and(|value| *value == "new")).await;
    assert_eq!(origin.calls() - before, 1);
    eventually("the flight has ended", async || tiered.in_flight() == 0).await;
}

/// I1: FusionCache's background completion overwrites a newer value.
pub(crate) async fn a_load_in_the_background_does_not_overwrite_what_was_set_meanwhile(far: impl Far) {
    let origin = Origin::says("old");
    let policy = || safe(LONG).ttl(Duration::from_secs(1)).soft_timeout(Duration::from_millis(50));
    let tiered = node(&far).await;
    let (a, b) = (cache(&tiered, policy()), cache(&node(&far).await, policy().ttl(LONG / 4)));
    assert_eq!(origin.read(&a).await, "old");
    tokio::time::sleep(Duration::from_millis(1150)).await;
    origin.now(Now::Hang);
    assert_eq!(origin.ask(&a).await.unwrap().freshness, LATE);
    b.set("k", "set".into()).await.unwrap();
    origin.say("loaded before the set");
    eventually("the flight has ended", async || tiered.in_flight() == 0).await;
    assert_eq!(b.get("k").await.unwrap().as_deref().map(String::as_str), Some("set"));
    eventually("the other process sees it", async || a.get("k").await.unwrap().is_some_and(|v| *v == "set")).await;
}

/// I2: a hung factory of FusionCache holds its key for ever.
pub(crate) async fn a_hung_load_gives_up_its_key_at_the_deadline(far: impl Far) {
    let origin = Origin::says("old");
    // long enough for a load that does not hang, on a machine full of other tests too
    let policy = || safe(LONG).hard_timeout(Duration::from_secs(1));
    let (a, b) = (cache(&node(&far).await, policy()), cache(&node(&far).await, policy()));
    origin.now(Now::Hang);
    let error = origin.ask(&a).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    origin.say("old");
    // the other process has no memory of the failure, and the lease is free
    assert_eq!(origin.read(&b).await, "old");
    past_ttl().await;
    origin.now(Now::Hang);
    let before = origin.calls();
    for cache in [&b, &b] {
        let answer = origin.ask(cache).await.unwrap();
        assert_eq!((answer.value.as_deref().map(String::as_str), answer.freshness), (Some("old"), FAILED));
    }
    assert_eq!(origin.calls() - before, 1);
}

/// I6: FusionCache leaks its distributed lock where the write is skipped or fails.
pub(crate) async fn a_failed_load_leaves_no_lease(far: impl Far) {
    let store = far.connect().await;
    let origin = Origin::says("old");
    let a = cache(&node(&far).await, safe(LONG));
    origin.now(Now::Fail);
    assert!(origin.ask(&a).await.is_err());
    let key = "strata:k:names:k";
    eventually("the bare lease is gone", async || store.get(key).await.unwrap().is_none()).await;
    a.invalidate("k").await.unwrap();
    origin.say("old");
    assert_eq!(origin.read(&a).await, "old");
    past_ttl().await;
    origin.now(Now::Fail);
    assert_eq!(origin.ask(&a).await.unwrap().freshness, FAILED);
    eventually("the value carries no lease", async || {
        let header = Header::parse(&store.get(key).await.unwrap().expect("it is kept")).unwrap();
        header.state == State::Stale && header.stamp == cache_core::Stamp::NONE
    })
    .await;
}
