//! The engine over stores in memory: several caches in one process that share one far store, as processes would.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{CacheService, ErrorKind, Memory, Packing, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Freshness, Loaded, Policy, Tier, Tiered};
use tokio::sync::Notify;
use tokio::time::timeout;

use common::{dawdle, eventually, names, node, ok};

#[tokio::test]
async fn a_value_is_loaded_once_and_then_comes_from_far_and_near() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    let first =
        names(&a).load_with("k", || async { Ok::<_, std::io::Error>(Loaded::value("v".to_owned())) }).await.unwrap();
    assert_eq!((first.tier, first.freshness), (Tier::Origin, Freshness::Fresh));
    for tier in [Tier::Far, Tier::Near] {
        let answer = names(&b).lookup("k").await.unwrap().unwrap();
        assert_eq!((answer.tier, answer.value.unwrap().as_str()), (tier, "v"));
    }
    assert_eq!(a.metrics().get(Metric::Load), 1);
    assert_eq!(names(&a).lookup("k").await.unwrap().unwrap().tier, Tier::Near);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_invalidation_reaches_every_process() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    let (a, b) = (names(&a), names(&b));
    a.get_or_load("k", || ok("old")).await.unwrap();
    assert!(b.get("k").await.unwrap().is_some());
    a.invalidate("k").await.unwrap();
    assert!(a.get("k").await.unwrap().is_none());
    eventually("b drops the key", async || b.get("k").await.unwrap().is_none()).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_set_replaces_the_value_everywhere() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    let (a, b) = (names(&a), names(&b));
    a.set("k", "one".into()).await.unwrap();
    assert_eq!(b.get("k").await.unwrap().unwrap().as_str(), "one");
    a.set("k", "two".into()).await.unwrap();
    assert_eq!(a.get("k").await.unwrap().unwrap().as_str(), "two");
    eventually("b sees two", async || b.get("k").await.unwrap().is_some_and(|v| *v == "two")).await;
    common::audit::at_the_end().await;
}

/// The race that no other library fences: a load begins, the key is invalidated, the load ends.
async fn load_begun_before_an_invalidation(same_process: bool) {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    let (loader, invalidator) = (names(&a), if same_process { names(&a) } else { names(&b) });
    let (slow, go) = dawdle(&loader, "old").await;
    invalidator.invalidate("k").await.unwrap();
    go.notify_one();
    assert_eq!(slow.await.unwrap().as_str(), "old", "its own caller began before the invalidation");
    for cache in [&names(&a), &names(&b)] {
        let value = cache.get_or_load("k", || ok("new")).await.unwrap();
        assert_eq!(value.as_str(), "new");
    }
    assert_eq!(a.metrics().get(Metric::FillRejected), 1);
}

#[tokio::test]
async fn a_load_begun_before_an_invalidation_in_the_same_process_is_never_served_after_it() {
    load_begun_before_an_invalidation(true).await;
}

#[tokio::test]
async fn a_load_begun_before_an_invalidation_in_another_process_is_never_served_after_it() {
    load_begun_before_an_invalidation(false).await;
}

#[tokio::test]
async fn without_a_far_store_a_load_begun_before_an_invalidation_is_not_kept() {
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).build().await.unwrap();
    let cache = names(&tiered);
    let (slow, go) = dawdle(&cache, "old").await;
    cache.invalidate("k").await.unwrap();
    let joined = cache.get_or_load("k", || ok("new")).await.unwrap();
    assert_eq!(joined.as_str(), "new", "nobody joins a load older than the invalidation");
    go.notify_one();
    slow.await.unwrap();
    assert_ne!(cache.get("k").await.unwrap().as_deref().map(String::as_str), Some("old"));
}

#[tokio::test]
async fn many_tasks_in_many_processes_cost_one_load() {
    let far = Memory::new();
    let calls = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&far).await);
    }
    for node in &nodes {
        for _ in 0..200 {
            let (cache, calls) = (names(node), Arc::clone(&calls));
            tasks.spawn(async move {
                let load = || async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok::<_, std::io::Error>("v".to_owned())
                };
                cache.get_or_load("k", load).await.unwrap()
            });
        }
    }
    while let Some(value) = tasks.join_next().await {
        assert_eq!(value.unwrap().as_str(), "v");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(nodes.iter().all(|node| node.in_flight() == 0));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_aborted_leader_costs_its_waiters_nothing() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let calls = Arc::new(AtomicU32::new(0));
    let (loading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load = |cache: Cache<String>| {
        let (calls, loading, go) = (Arc::clone(&calls), Arc::clone(&loading), Arc::clone(&go));
        tokio::spawn(async move {
            let load = || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                loading.notify_one();
                go.notified().await;
                Ok::<_, std::io::Error>("v".to_owned())
            };
            cache.get_or_load("k", load).await
        })
    };
    let leader = load(names(&tiered));
    loading.notified().await;
    let waiters: Vec<_> = (0..50).map(|_| load(names(&tiered))).collect();
    eventually("all have joined", async || tiered.metrics().get(Metric::Joined) == 50).await;
    leader.abort();
    go.notify_one();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().as_str(), "v");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn the_last_caller_to_leave_cancels_the_load_and_gives_the_lease_back() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let loading = Arc::new(Notify::new());
    let only = {
        let (cache, loading) = (names(&tiered), Arc::clone(&loading));
        tokio::spawn(async move {
            let load = || async move {
                loading.notify_one();
                std::future::pending::<()>().await;
                Ok::<_, std::io::Error>("never".to_owned())
            };
            cache.get_or_load("k", load).await
        })
    };
    loading.notified().await;
    only.abort();
    eventually("nothing is in flight", async || tiered.in_flight() == 0).await;
    eventually("the lease is gone", async || !far.exists("strata:k:names:k").await.unwrap()).await;
    let value = timeout(Duration::from_secs(1), names(&tiered).get_or_load("k", || ok("v"))).await.unwrap().unwrap();
    assert_eq!(value.as_str(), "v");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn fifty_callers_on_a_failing_origin_cost_one_call_and_get_equal_errors() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let calls = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (cache, calls) = (names(&tiered), Arc::clone(&calls));
        tasks.spawn(async move {
            let load = || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err::<String, _>(std::io::Error::other("database is down"))
            };
            cache.get_or_load("k", load).await.unwrap_err()
        });
    }
    while let Some(error) = tasks.join_next().await {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert!(error.to_string().contains("database is down"));
        assert!(error.cause::<std::io::Error>().is_some());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_panicking_loader_is_an_error_for_everybody_and_leaves_no_lease() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let load = async || -> Result<String, std::io::Error> { panic!("bug in the loader") };
    let error = names(&tiered).get_or_load("k", load).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    assert!(error.message().contains("panicked"));
    eventually("the lease is gone", async || !far.exists("strata:k:names:k").await.unwrap()).await;
    assert_eq!(tiered.in_flight(), 0);
    common::audit::at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_loader_does_not_hold_its_key_past_the_deadline() {
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).build().await.unwrap();
    let policy = Policy::minutes(5).hard_timeout(Duration::from_secs(3)).backoff(None);
    let cache = tiered.cache::<String>("names").codec(Raw).policy(policy).build().unwrap();
    let hang = || std::future::pending::<Result<String, std::io::Error>>();
    let error = cache.get_or_load("k", hang).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(cache.get_or_load("k", || ok("v")).await.unwrap().as_str(), "v");
}

#[tokio::test]
async fn nothing_is_remembered_and_told_apart_from_a_miss() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    let none = || async { Ok::<_, std::io::Error>(None) };
    assert!(names(&a).find_or_load("k", none).await.unwrap().is_none());
    assert!(
        names(&b).find_or_load("k", || async { Ok::<_, std::io::Error>(Some("v".into())) }).await.unwrap().is_none()
    );
    assert!(names(&b).lookup("k").await.unwrap().unwrap().value.is_none());
    assert!(names(&b).lookup("other").await.unwrap().is_none());
    names(&a).invalidate("k").await.unwrap();
    eventually("b loads again", async || {
        let found = names(&b).find_or_load("k", || async { Ok::<_, std::io::Error>(Some("v".into())) }).await;
        found.unwrap().is_some()
    })
    .await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_tag_invalidates_what_carries_it_everywhere_and_nothing_else() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    let tagged =
        |tag: &'static str| move || async move { Ok::<_, std::io::Error>(Loaded::value("v".to_owned()).tag(tag)) };
    for (key, tag) in [("red", "color"), ("blue", "color"), ("big", "size")] {
        names(&a).load_with(key, tagged(tag)).await.unwrap();
        assert!(names(&b).get(key).await.unwrap().is_some());
    }
    a.invalidate_tag("color").await.unwrap();
    for key in ["red", "blue"] {
        assert!(names(&a).get(key).await.unwrap().is_none());
        eventually("b drops it", async || names(&b).get(key).await.unwrap().is_none()).await;
    }
    let late = node(&far).await;
    for node in [&a, &b, &late] {
        assert!(names(node).get("big").await.unwrap().is_some());
        assert!(names(node).get("red").await.unwrap().is_none());
    }
    a.clear().await.unwrap();
    assert!(names(&a).get("big").await.unwrap().is_none());
    eventually("b is clear", async || names(&b).get("big").await.unwrap().is_none()).await;
    assert!(names(&node(&far).await).get("big").await.unwrap().is_none());
    names(&a).get_or_load("big", || ok("new")).await.unwrap();
    assert!(names(&late).get("big").await.unwrap().is_some());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn bytes_of_another_codec_or_schema_are_a_miss_and_a_count() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let one = tiered.cache::<String>("names").codec(Raw).schema("one").build().unwrap();
    let two = tiered.cache::<String>("names").codec(Raw).schema("two").build().unwrap();
    one.set("k", "v".into()).await.unwrap();
    assert!(two.get("k").await.unwrap().is_none());
    assert_eq!(tiered.metrics().get(Metric::Undecodable), 1);
    assert_eq!(two.get_or_load("k", || ok("w")).await.unwrap().as_str(), "w");
    assert_eq!(two.get("k").await.unwrap().unwrap().as_str(), "w");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn foreign_bytes_under_our_key_are_a_miss_and_a_count_and_a_load_replaces_them() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let minute = Duration::from_secs(60);
    far.set("strata:k:names:k", bytes::Bytes::from_static(b"{\"json\":true}"), minute).await.unwrap();
    assert!(names(&tiered).get("k").await.unwrap().is_none());
    assert_eq!(tiered.metrics().get(Metric::Malformed), 1);
    assert_eq!(names(&tiered).get_or_load("k", || ok("v")).await.unwrap().as_str(), "v");
    assert!(names(&node(&far).await).get("k").await.unwrap().is_some());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn get_many_keeps_order_duplicates_and_errors_apart() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    for key in ["a", "b"] {
        names(&a).set(key, key.to_uppercase()).await.unwrap();
    }
    let got = names(&b).get_many(&["b", "missing", "a", "", "b", "a\n"]).await;
    let texts: Vec<_> =
        got.iter().map(|r| r.as_ref().map(|v| v.as_ref().map(|v| v.as_str())).map_err(|e| e.kind())).collect();
    let invalid = Err(ErrorKind::Invalid);
    assert_eq!(texts, [Ok(Some("B")), Ok(None), Ok(Some("A")), invalid, Ok(Some("B")), invalid]);
    assert_eq!(b.in_flight(), 0);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn builders_list_every_mistake() {
    let error = Tiered::builder().namespace("a:b").bound(Duration::ZERO).buckets(0).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in ["namespace", "bound", "buckets", "neither"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    // what needs a far store, where there is none; what needs a near one
    let near = || Tiered::builder().near(LocalMemory::new(1 << 20));
    let error = near().packing(Packing::default()).monitor(7).background_writes(7).polling();
    let error = error.incoherent(Duration::from_secs(1)).build().await.unwrap_err();
    for part in ["packing is", "monitor compares", "background_writes is", "polling is", "incoherent is"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let error = Tiered::builder().far(Memory::new()).track_heat(7).monitor(7).build().await.unwrap_err();
    for part in ["track_heat is", "monitor compares"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let tiered = near().build().await.unwrap();
    let mut policy = Policy::seconds(0).near_ttl(Duration::from_secs(1)).soft_timeout(Duration::from_secs(1));
    policy.jitter = 2.0;
    let error = tiered.cache::<String>("").codec(Raw).policy(policy).build().unwrap_err();
    for part in ["space", "ttl is 0", "jitter", "near_ttl 1s is longer than ttl", "soft_timeout needs fail_safe"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_loaders_ttl_is_cut_to_the_namespaces_longest_and_zero_is_not_stored() {
    let hour = Duration::from_secs(3600);
    let tiers = || Tiered::builder().near(LocalMemory::new(1 << 20)).max_ttl(hour);
    for tiered in [tiers().build().await.unwrap(), tiers().far(Memory::new()).build().await.unwrap()] {
        let cache = names(&tiered);
        let living = |ttl| async move || Ok::<_, std::io::Error>(Loaded::value("v".to_owned()).ttl(ttl));
        cache.load_with("long", living(hour * 24)).await.unwrap();
        let left = cache.time_left("long").await.unwrap().unwrap();
        assert!(left <= hour && left > hour / 2, "{left:?}");
        cache.store("long", Loaded::value("w".to_owned()).ttl(hour * 24)).await.unwrap();
        assert!(cache.time_left("long").await.unwrap().unwrap() <= hour);
        assert_eq!(cache.load_with("none", living(Duration::ZERO)).await.unwrap().value.unwrap().as_str(), "v");
        assert!(cache.get("none").await.unwrap().is_none());
        assert_eq!(tiered.metrics().get(Metric::FarFailed), 0, "a fill was tried");
    }
}

#[tokio::test]
async fn without_a_far_store_tags_without_end_leave_nothing_old() {
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).build().await.unwrap();
    let cache = names(&tiered);
    let tagged = |value: &str| Loaded::value(value.to_owned()).tag("first");
    cache.store("k", tagged("old")).await.unwrap();
    tiered.invalidate_tag("first").await.unwrap();
    cache.store("other", tagged("new")).await.unwrap();
    for tag in 0..(1 << 18) {
        tiered.invalidate_tag(&tag.to_string()).await.unwrap();
    }
    assert!(cache.get("k").await.unwrap().is_none(), "its tag was forgotten, and not that it is old");
    assert!(cache.get("other").await.unwrap().is_none(), "what can't be told from it is loaded anew");
    cache.store("k", tagged("new")).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap().as_str(), "new");
    tiered.invalidate_tag("first").await.unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
}
