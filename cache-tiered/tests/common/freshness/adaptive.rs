//! What a loader decides once it has seen the value.

use std::io;

use cache_tiered::{Cache, Loaded, Tier};

use super::super::eventually;
use super::{Duration, Far, LONG, Policy, cache, node};

async fn tier(cache: &Cache<String>, loaded: fn() -> Loaded<String>) -> Tier {
    cache.load_with("k", move || async move { Ok::<_, io::Error>(loaded()) }).await.unwrap().tier
}

fn never() -> Loaded<String> {
    panic!("it is in the far store")
}

pub(crate) async fn a_loader_keeps_a_value_out_of_every_near_store(far: impl Far) {
    let (a, b) = (cache(&node(&far).await, Policy::minutes(5)), cache(&node(&far).await, Policy::minutes(5)));
    let big = || Loaded::value("seldom asked for".to_owned()).far_only();
    assert_eq!(tier(&a, big).await, Tier::Origin);
    for _ in 0..3 {
        for cache in [&a, &b] {
            assert_eq!(tier(cache, never).await, Tier::Far);
            assert_eq!(cache.peek("k").await.unwrap().unwrap().tier, Tier::Far);
        }
    }
    a.store("k", big()).await.unwrap();
    assert_eq!(tier(&a, never).await, Tier::Far, "a put may ask for the same");
    a.set("k", "asked for all the time".into()).await.unwrap();
    eventually("the other process has it too", async || tier(&b, never).await == Tier::Near).await;
    assert_eq!(tier(&a, never).await, Tier::Far);
    assert_eq!(tier(&a, never).await, Tier::Near);
}

pub(crate) async fn a_loader_chooses_the_ttl_and_the_tags_from_the_value(far: impl Far) {
    let tiered = node(&far).await;
    let (a, b) = (cache(&tiered, Policy::minutes(5)), cache(&node(&far).await, Policy::minutes(5)));
    let chosen = || Loaded::value("red".to_owned()).ttl(LONG * 2).tag("red");
    tier(&a, chosen).await;
    for cache in [&a, &b] {
        assert_eq!(tier(cache, never).await, if std::ptr::eq(cache, &a) { Tier::Near } else { Tier::Far });
        let left = cache.time_left("k").await.unwrap().unwrap();
        // ten per cent of jitter, and the time that the test takes
        assert!(left <= LONG * 2 && left > LONG, "{left:?} is not of the loader's ttl");
    }
    tiered.invalidate_tag("red").await.unwrap();
    for cache in [&a, &b] {
        eventually("it is gone", async || cache.get("k").await.unwrap().is_none()).await;
    }
    let brief = || Loaded::value("brief".to_owned()).ttl(Duration::from_millis(1));
    tier(&a, brief).await;
    eventually("its ttl is over", async || a.get("k").await.unwrap().is_none()).await;
    let unstored = || Loaded::value("for its callers".to_owned()).unstored();
    assert_eq!(tier(&a, unstored).await, Tier::Origin);
    for cache in [&a, &b] {
        assert!(cache.get("k").await.unwrap().is_none());
    }
}
