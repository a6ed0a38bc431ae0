//! Caches that share a process or a store do not meet.

mod common;

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{CacheService, LocalStore, Memory, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Tier, Tiered};
use common::{BOUND, alone, names, node, ok};
use tokio::sync::Barrier;
use tokio::time::timeout;

/// A cache in the default namespace over a near store that others use too.
async fn over(near: &Arc<LocalMemory>, far: Option<&Memory>) -> Tiered {
    let builder = Tiered::builder().shared_near(Arc::clone(near) as Arc<dyn LocalStore>).bound(BOUND);
    match far {
        Some(far) => builder.far(far.clone()).build().await.unwrap(),
        None => builder.build().await.unwrap(),
    }
}

#[tokio::test]
async fn two_caches_over_one_near_store_do_not_serve_each_others_values() {
    let near = Arc::new(LocalMemory::new(1 << 20));
    let (one, two) = (Memory::new(), Memory::new());
    for far in [None, Some((&one, &two))] {
        let (a, b) = (over(&near, far.map(|far| far.0)).await, over(&near, far.map(|far| far.1)).await);
        let (a, b) = (names(&a), names(&b));
        assert_eq!(*a.get_or_load("k", || ok("of a")).await.unwrap(), "of a");
        assert!(b.get("k").await.unwrap().is_none());
        assert_eq!(*b.get_or_load("k", || ok("of b")).await.unwrap(), "of b");
        a.invalidate("k").await.unwrap();
        assert_eq!(b.get("k").await.unwrap().as_deref().map(String::as_str), Some("of b"));
    }
}

#[tokio::test]
async fn a_cache_over_a_used_near_store_does_not_serve_what_was_there() {
    let near = Arc::new(LocalMemory::new(1 << 20));
    let far = Memory::new();
    let before = over(&near, Some(&far)).await;
    names(&before).get_or_load("k", || ok("old")).await.unwrap();
    before.close().await;
    drop(before);
    // nobody hears of it in this process
    names(&node(&far).await).invalidate("k").await.unwrap();
    assert!(names(&over(&near, Some(&far)).await).get("k").await.unwrap().is_none());
    common::audit::at_the_end().await;
}

/// oxcache keys its loads by the bare text, for all caches of the process.
#[tokio::test]
async fn two_caches_with_the_same_key_text_do_not_share_a_flight() {
    let near = Arc::new(LocalMemory::new(1 << 20));
    let (far, other) = (Memory::new(), Memory::new());
    let (one, two) = (over(&near, Some(&far)).await, over(&near, Some(&other)).await);
    let named = |tiered: &Tiered, space: &str| -> Cache<String> { tiered.cache(space).codec(Raw).build().unwrap() };
    let caches = [named(&one, "users"), named(&one, "orders"), named(&two, "users"), names(&alone().await)];
    let go = Arc::new(Barrier::new(caches.len()));
    let loads = caches.iter().zip(["a", "b", "c", "d"]).map(|(cache, value)| {
        let (cache, go) = (cache.clone(), Arc::clone(&go));
        tokio::spawn(async move {
            // no load ends before each has begun
            let load = move || async move {
                go.wait().await;
                Ok::<_, std::io::Error>(value.to_owned())
            };
            (cache.get_or_load("1", load).await.unwrap(), value)
        })
    });
    for load in loads.collect::<Vec<_>>() {
        let (loaded, own) = timeout(Duration::from_secs(10), load).await.expect("each loads for itself").unwrap();
        assert_eq!(*loaded, own);
    }
    for (cache, own) in caches.iter().zip(["a", "b", "c", "d"]) {
        assert_eq!(cache.get("1").await.unwrap().as_deref().map(String::as_str), Some(own));
    }
    common::audit::at_the_end().await;
}

/// Others clear by a scan, or with FLUSHALL.
#[tokio::test]
async fn a_clear_does_not_touch_another_namespace_or_foreign_keys() {
    let far = Memory::new();
    let space = async |name: &str| {
        let near = LocalMemory::new(1 << 20);
        Tiered::builder().namespace(name).near(near).far(far.clone()).bound(BOUND).build().await.unwrap()
    };
    let (one, two, longer) = (space("shop").await, space("bar").await, space("shop2").await);
    far.set("somebody:else", "theirs".into(), BOUND * 1000).await.unwrap();
    for tiered in [&one, &two, &longer] {
        names(tiered).get_or_load("k", || ok("v")).await.unwrap();
    }
    one.clear().await.unwrap();
    names(&one).invalidate("k").await.unwrap();
    assert!(names(&one).get("k").await.unwrap().is_none());
    for (tiered, name) in [(&two, "bar"), (&longer, "shop2")] {
        assert_eq!(names(tiered).lookup("k").await.unwrap().unwrap().tier, Tier::Near);
        assert!(names(&space(name).await).get("k").await.unwrap().is_some());
        assert_eq!(tiered.metrics().get(Metric::BusMessage), 0);
    }
    assert!(far.exists("somebody:else").await.unwrap());
}

tokio::task_local! {
    static CALLER: &'static str;
}

/// HybridCache runs a shared load in the context of whoever came first.
#[tokio::test]
async fn the_first_callers_context_does_not_leak_into_a_shared_load() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        let seen = || async { Ok::<_, std::io::Error>(CALLER.try_with(|name| (*name).to_owned()).unwrap_or_default()) };
        let loaded = CALLER.scope("the first caller", cache.get_or_load("k", seen)).await.unwrap();
        assert_eq!(*loaded, "");
    }
    common::audit::at_the_end().await;
}
