//! Values loaded again while they are fresh.

use cache_core::observe::Metric;
use cache_core::{Header, codec::Raw, memory::LocalMemory};
use cache_tiered::{Backoff, FailSafe, Freshness, Tiered};

use super::super::eventually;
use super::{Duration, Far, LONG, Now, Origin, Policy, cache, node};

/// When the values of these scenarios are due.
const DUE: Duration = Duration::from_millis(600);

/// Fresh for a minute, refreshed once `DUE` has passed.
fn ahead() -> Policy {
    Policy::minutes(1).jitter(0.0).refresh_ahead(0.01).backoff(Backoff::between(LONG, LONG))
}

async fn until_due() {
    tokio::time::sleep(DUE + Duration::from_millis(150)).await;
}

pub(crate) async fn nobody_waits_for_a_refresh(far: impl Far) {
    let origin = Origin::says("old");
    let tiered = node(&far).await;
    let a = cache(&tiered, ahead());
    assert_eq!(origin.read(&a).await, "old");
    until_due().await;
    origin.now(Now::Hang);
    for _ in 0..10 {
        let answer = origin.ask(&a).await.unwrap();
        assert_eq!((answer.value.unwrap().as_str(), answer.freshness), ("old", Freshness::WithinBound));
    }
    eventually("the refresh has begun", async || origin.calls() == 2).await;
    assert_eq!(origin.read(&a).await, "old");
    origin.say("new");
    eventually("its value is served", async || a.get("k").await.unwrap().is_some_and(|value| *value == "new")).await;
    assert_eq!((origin.calls(), tiered.metrics().get(Metric::Refresh)), (2, 1));
    eventually("the flight has ended", async || tiered.in_flight() == 0).await;
}

/// FusionCache refreshes once a process.
pub(crate) async fn a_fleet_refreshes_once(far: impl Far) {
    let origin = Origin::says("old");
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(cache(&node(&far).await, ahead()));
    }
    for cache in &fleet {
        assert_eq!(origin.read(cache).await, "old");
    }
    assert_eq!(origin.calls(), 1);
    until_due().await;
    origin.now(Now::Hang);
    for _ in 0..20 {
        for cache in &fleet {
            assert_eq!(origin.read(cache).await, "old");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually("the refresh has begun", async || origin.calls() >= 2).await;
    assert_eq!(origin.calls(), 2, "one process refreshes");
    origin.say("new");
    eventually("everybody has the new value", async || {
        let mut all = true;
        for cache in &fleet {
            all &= origin.read(cache).await == "new";
        }
        all
    })
    .await;
}

/// A short lease frees what a dead process had begun to refresh; a long refresh keeps it all the same.
pub(crate) async fn a_refresh_renews_its_lease_for_as_long_as_it_runs(far: impl Far) {
    let lease = Duration::from_millis(300);
    let store = far.connect().await;
    let origin = Origin::says("old");
    let mut fleet = Vec::new();
    for _ in 0..2 {
        let builder = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.connect().await).lease(lease);
        fleet.push(cache(&builder.build().await.unwrap(), ahead()));
    }
    for cache in &fleet {
        assert_eq!(origin.read(cache).await, "old");
    }
    until_due().await;
    origin.now(Now::Hang);
    assert_eq!(origin.read(&fleet[0]).await, "old");
    eventually("the refresh has begun", async || origin.calls() == 2).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < lease * 5 {
        assert_eq!(origin.read(&fleet[1]).await, "old");
        tokio::time::sleep(lease / 20).await;
    }
    assert!(store.exists("strata:r:names:k").await.unwrap(), "the right to refresh is held");
    assert_eq!(origin.calls(), 2, "and nobody else has it");
    origin.say("new");
    eventually("the new value is served", async || origin.read(&fleet[1]).await == "new").await;
    eventually("the right is given back", async || !store.exists("strata:r:names:k").await.unwrap()).await;
}

/// R6, I1: redcache and bentocache store what they read before the invalidation.
pub(crate) async fn what_was_invalidated_during_a_refresh_is_not_stored(far: impl Far) {
    let origin = Origin::says("old");
    let tiered = node(&far).await;
    let (a, b) = (cache(&tiered, ahead()), cache(&node(&far).await, ahead()));
    assert_eq!(origin.read(&a).await, "old");
    until_due().await;
    origin.now(Now::Hang);
    assert_eq!(origin.read(&a).await, "old");
    eventually("the refresh has begun", async || origin.calls() == 2).await;
    b.invalidate("k").await.unwrap();
    eventually("the refresher hears of it", async || a.get("k").await.unwrap().is_none()).await;
    origin.say("read before the invalidation");
    eventually("the refresh has ended", async || tiered.under_way() == 0).await;
    assert!(b.get("k").await.unwrap().is_none() && a.get("k").await.unwrap().is_none());
    origin.say("new");
    for cache in [&a, &b] {
        assert_eq!(origin.read(cache).await, "new");
    }
}

/// R6: redcache's refresh asks whether there is a value, not whether it is the same one.
pub(crate) async fn a_refresh_does_not_overwrite_what_others_stored_meanwhile(far: impl Far) {
    let origin = Origin::says("old");
    let tiered = node(&far).await;
    let (a, b) = (cache(&tiered, ahead()), cache(&node(&far).await, ahead()));
    assert_eq!(origin.read(&a).await, "old");
    until_due().await;
    origin.now(Now::Hang);
    assert_eq!(origin.read(&a).await, "old");
    eventually("the refresh has begun", async || origin.calls() == 2).await;
    b.set("k", "new".into()).await.unwrap();
    origin.say("read before the change");
    eventually("the refresh has ended", async || tiered.under_way() == 0).await;
    let c = cache(&node(&far).await, ahead());
    for cache in [&c, &b] {
        assert_eq!(cache.get("k").await.unwrap().as_deref().map(String::as_str), Some("new"));
    }
    eventually("the refresher hears of it", async || a.get("k").await.unwrap().is_some_and(|v| *v == "new")).await;
}

/// I14: sturdyc deletes what it could not refresh.
pub(crate) async fn a_failed_refresh_leaves_the_value_as_it_is(far: impl Far) {
    let store = far.connect().await;
    let origin = Origin::says("old");
    let tiered = node(&far).await;
    let a = cache(&tiered, ahead());
    assert_eq!(origin.read(&a).await, "old");
    let header = async || Header::parse(&store.get("strata:k:names:k").await.unwrap().expect("it is kept")).unwrap();
    let before = header().await;
    until_due().await;
    origin.now(Now::Fail);
    assert_eq!(origin.read(&a).await, "old");
    eventually("the refresh has failed", async || tiered.metrics().get(Metric::LoadFailed) == 1).await;
    for _ in 0..100 {
        let answer = origin.ask(&a).await.unwrap();
        assert_eq!((answer.value.unwrap().as_str(), answer.freshness), ("old", Freshness::WithinBound));
    }
    assert_eq!(header().await, before, "neither deleted nor shortened");
    eventually("the flight has ended", async || tiered.in_flight() == 0).await;
    assert_eq!(origin.calls(), 2, "the next try is not before the pause is over");
}

/// I11, as a failed load does.
pub(crate) async fn a_fleet_tries_a_failing_refresh_once_a_throttle(far: impl Far) {
    for throttled in [true, false] {
        let key = if throttled { "with" } else { "without" };
        let mut policy = ahead();
        if throttled {
            policy = policy.fail_safe(FailSafe::from(LONG).throttle(LONG)).backoff(None);
        }
        let origin = Origin::says("old");
        let (mut nodes, mut fleet) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let tiered = node(&far).await;
            fleet.push(tiered.cache(key).codec(Raw).policy(policy.clone()).build().unwrap());
            nodes.push(tiered);
        }
        for cache in &fleet {
            assert_eq!(origin.read(cache).await, "old");
        }
        until_due().await;
        origin.now(Now::Fail);
        let begun = std::time::Instant::now();
        let tries = || nodes.iter().map(|node| node.metrics().get(Metric::Refresh)).collect::<Vec<_>>();
        // each process comes to its turn, and again after what a refresh that came to nothing waits
        eventually("everybody has tried", async || {
            for cache in &fleet {
                assert_eq!(origin.read(cache).await, "old");
            }
            begun.elapsed() > Duration::from_millis(1500) && tries().iter().all(|tries| *tries >= 1)
        })
        .await;
        assert!(tries().iter().sum::<u64>() >= 5, "{:?}", tries());
        assert_eq!(origin.calls(), 2, "the first load, and one try of the fleet");
    }
}

/// The pause of the fleet ends, and it is one that tries again.
pub(crate) async fn a_failing_refresh_is_tried_again_after_the_pause(far: impl Far) {
    let pause = Duration::from_millis(1500);
    let store = far.connect().await;
    let origin = Origin::says("old");
    let mut fleet = Vec::new();
    for _ in 0..2 {
        fleet.push(cache(&node(&far).await, ahead().backoff(Backoff::between(pause, pause))));
    }
    for cache in &fleet {
        assert_eq!(origin.read(cache).await, "old");
    }
    until_due().await;
    origin.now(Now::Fail);
    assert_eq!(origin.read(&fleet[0]).await, "old");
    eventually("the refresh has failed", async || origin.calls() == 2).await;
    let failed = std::time::Instant::now();
    eventually("somebody tries again", async || {
        for cache in &fleet {
            assert_eq!(origin.read(cache).await, "old");
        }
        origin.calls() == 3
    })
    .await;
    // shortened by a quarter at most
    assert!(failed.elapsed() >= pause / 2, "{:?}", failed.elapsed());
    origin.say("new");
    eventually("it succeeds in the end", async || origin.read(&fleet[1]).await == "new").await;
    eventually("nobody keeps the right", async || !store.exists("strata:r:names:k").await.unwrap()).await;
}

/// FusionCache calls the factory without asking its second level (#604).
pub(crate) async fn the_far_store_is_asked_before_the_origin(far: impl Far) {
    let origin = Origin::says("old");
    let other = node(&far).await;
    let (a, b) = (cache(&node(&far).await, ahead()), cache(&other, ahead()));
    for cache in [&a, &b] {
        assert_eq!(origin.read(cache).await, "old");
    }
    until_due().await;
    origin.say("new");
    eventually("one has refreshed", async || origin.read(&a).await == "new").await;
    assert_eq!(origin.calls(), 2);
    let from_far = async || {
        let _ = origin.ask(&b).await.unwrap();
        b.get("k").await.unwrap().is_some_and(|value| *value == "new")
    };
    eventually("the other finds it", from_far).await;
    eventually("its flight has ended", async || other.under_way() == 0).await;
    assert_eq!((origin.calls(), other.metrics().get(Metric::Refresh)), (2, 1), "it refreshed, and asked no origin");
}

/// In FusionCache only a hit in memory begins a refresh (#604).
pub(crate) async fn a_cache_without_a_near_store_is_refreshed_too(far: impl Far) {
    let origin = Origin::says("old");
    let tiered = Tiered::builder().far(far.connect().await).bound(Duration::from_secs(2)).build().await.unwrap();
    let a = cache(&tiered, ahead());
    assert_eq!(origin.read(&a).await, "old");
    until_due().await;
    origin.say("new");
    assert_eq!(origin.read(&a).await, "old", "nobody waits for it");
    eventually("it is refreshed", async || a.get("k").await.unwrap().is_some_and(|value| *value == "new")).await;
    assert_eq!(origin.calls(), 2);
}
