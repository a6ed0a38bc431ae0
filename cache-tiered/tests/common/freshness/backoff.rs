//! Errors that are remembered.

use cache_core::ErrorKind;
use cache_tiered::Backoff;

use super::super::eventually;
use super::{Duration, Far, LONG, Now, Origin, Policy, cache, node};

fn patient(least: Duration) -> Policy {
    Policy::minutes(5).backoff(Backoff::between(least, LONG))
}

/// I3: twenty waiters on bentocache cost twenty calls, one after the other.
pub(crate) async fn callers_of_a_failing_origin_cost_one_call_a_pause(far: impl Far) {
    let origin = Origin::says("v");
    origin.now(Now::Fail);
    let pause = Duration::from_secs(1);
    let a = cache(&node(&far).await, patient(pause));
    let begun = std::time::Instant::now();
    let callers = (0..20).map(|_| {
        let (origin, a) = (origin.clone(), a.clone());
        tokio::spawn(async move { origin.ask(&a).await.unwrap_err() })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap().kind(), ErrorKind::Loader);
    }
    let again = origin.ask(&a).await.unwrap_err();
    if begun.elapsed() < pause / 2 {
        assert_eq!(origin.calls(), 1);
        assert!(again.retry_after().is_some_and(|after| after <= pause), "{:?}", again.retry_after());
    }
    origin.say("v");
    eventually("the pause ends", async || origin.ask(&a).await.is_ok()).await;
    assert_eq!(origin.calls(), 2, "one call a pause");
}

pub(crate) async fn a_change_of_the_key_ends_the_pause(far: impl Far) {
    let origin = Origin::says("v");
    let (a, b) = (cache(&node(&far).await, patient(LONG)), cache(&node(&far).await, patient(LONG)));
    origin.now(Now::Fail);
    for cache in [&a, &b] {
        assert!(origin.ask(cache).await.is_err());
    }
    origin.say("v");
    assert!(origin.ask(&a).await.is_err(), "the error is remembered");
    assert_eq!(origin.calls(), 2);
    a.invalidate("k").await.unwrap();
    assert_eq!(origin.read(&a).await, "v");
    eventually("the other process hears of it", async || origin.ask(&b).await.is_ok()).await;
}

pub(crate) async fn what_another_process_stored_is_found_in_the_pause(far: impl Far) {
    let origin = Origin::says("v");
    let (a, b) = (cache(&node(&far).await, patient(LONG)), cache(&node(&far).await, patient(LONG)));
    origin.now(Now::Fail);
    assert!(origin.ask(&a).await.is_err());
    origin.say("v");
    assert_eq!(origin.read(&b).await, "v");
    assert_eq!(origin.read(&a).await, "v", "a pause holds back loads, not reads");
    assert_eq!(origin.calls(), 2);
}
