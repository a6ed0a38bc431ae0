//! Expiring: what may serve as a fallback at most.

mod common;

use std::time::Duration;

use cache_core::{Frame, Leases, Memory, State, codec::Raw};
use cache_tiered::{Cache, Freshness, Loaded, Policy, Tiered};
use common::{alone, dawdle, eventually, names, node, ok};

const SPAN: Duration = Duration::from_secs(3600);
const FAR_KEY: &str = "strata:k:safe:k";

/// A cache that keeps fallbacks.
fn safe(tiered: &Tiered) -> Cache<String> {
    tiered.cache("safe").codec(Raw).policy(Policy::minutes(5).fail_safe(SPAN)).build().unwrap()
}

async fn far_state(far: &Memory, key: &str) -> Option<State> {
    let found = far.read(key).await.unwrap()?;
    Some(Frame::parse(key, &found.frame).unwrap().header.state)
}

#[tokio::test]
async fn an_expired_value_is_not_served_while_loads_succeed() {
    let far = Memory::new();
    let (here, there, only) = (node(&far).await, node(&far).await, alone().await);
    for (here, there) in [(&here, &there), (&only, &only)] {
        let (here, there) = (safe(here), safe(there));
        here.get_or_load("k", || ok("old")).await.unwrap();
        there.get_or_load("k", || ok("old")).await.unwrap();
        here.expire("k").await.unwrap();
        assert!(here.get("k").await.unwrap().is_none());
        eventually("the other process hears of it", async || there.get("k").await.unwrap().is_none()).await;
        if here.tiered().bound() == common::BOUND {
            assert_eq!(far_state(&far, FAR_KEY).await, Some(State::Stale));
        }
        assert_eq!(*here.get_or_load("k", || ok("new")).await.unwrap(), "new");
        assert_eq!(*there.get("k").await.unwrap().unwrap(), "new");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_load_that_began_before_an_expiry_is_not_stored() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = safe(&tiered);
        let (load, go) = dawdle(&cache, "old").await;
        cache.expire("k").await.unwrap();
        go.notify_one();
        load.await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none());
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn without_fail_safe_an_expiry_is_an_invalidation() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        cache.get_or_load("k", || ok("old")).await.unwrap();
        cache.expire_many(&["k", "other"]).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none());
    }
    assert_eq!(far_state(&far, "strata:k:names:k").await, None);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_expired_value_is_kept_for_the_fail_safe_span_at_most() {
    let far = Memory::new();
    let cache: Cache<String> = node(&far)
        .await
        .cache("safe")
        .codec(Raw)
        .policy(Policy::minutes(5).fail_safe(Duration::from_millis(50)))
        .build()
        .unwrap();
    cache.get_or_load("k", || ok("old")).await.unwrap();
    cache.expire("k").await.unwrap();
    eventually("the fallback is gone", async || far_state(&far, FAR_KEY).await.is_none()).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_invalidation_takes_the_fallback_whichever_came_first() {
    let far = Memory::new();
    let cache = safe(&node(&far).await);
    for first in ["expire", "invalidate"] {
        cache.get_or_load("k", || ok("old")).await.unwrap();
        if first == "expire" {
            cache.expire("k").await.unwrap();
            cache.invalidate("k").await.unwrap();
        } else {
            cache.invalidate("k").await.unwrap();
            cache.expire("k").await.unwrap();
        }
        assert_eq!(far_state(&far, FAR_KEY).await, None);
    }
    common::audit::at_the_end().await;
}

async fn failing() -> Result<String, std::io::Error> {
    Err(std::io::Error::other("the origin is down"))
}

/// What a caller is told while loads fail.
async fn told(cache: &Cache<String>) -> Option<(String, Freshness)> {
    let answer = cache.load_with("k", || async { failing().await.map(Loaded::value) }).await.ok()?;
    Some((answer.value.unwrap().to_string(), answer.freshness))
}

#[tokio::test]
async fn while_loads_fail_an_expired_value_is_served_and_an_invalidated_one_is_not() {
    let far = Memory::new();
    let (here, there, only) = (node(&far).await, node(&far).await, alone().await);
    for (here, there) in [(&here, &there), (&only, &only)] {
        let (here, there) = (safe(here), safe(there));
        here.get_or_load("k", || ok("old")).await.unwrap();
        there.get_or_load("k", || ok("old")).await.unwrap();
        here.expire("k").await.unwrap();
        eventually("the other process hears of it", async || there.get("k").await.unwrap().is_none()).await;
        for cache in [&here, &there] {
            let (value, freshness) = told(cache).await.expect("a fallback");
            assert_eq!(value, "old");
            assert!(matches!(freshness, Freshness::Stale(_)), "{freshness:?}");
        }
        here.invalidate("k").await.unwrap();
        eventually("the other process hears of it", async || told(&there).await.is_none()).await;
        for cache in [&here, &there] {
            assert_eq!(told(cache).await, None, "what was invalidated is no fallback");
        }
    }
    common::audit::at_the_end().await;
}
