//! Warm-up, and the keys that one process leaves for the next.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::memory::LocalMemory;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{ErrorKind, Memory, codec::Raw};
use cache_tiered::{Cache, Loaded, Policy, Tier, Tiered};
use common::{alone, eventually, names, node, ok};

async fn tier(cache: &Cache<String>, key: &str) -> Option<Tier> {
    cache.lookup(key).await.unwrap().map(|answer| answer.tier)
}

fn keys(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}

fn borrowed(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

async fn counted(memory: &Memory) -> (Chaos<Memory>, Tiered) {
    let far = Chaos::new(memory.clone());
    let near = LocalMemory::new(4 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    (far, tiered)
}

/// Calls of requests: a beat comes when it does.
fn calls(far: &Chaos<Memory>) -> u64 {
    far.total_calls() - far.calls(Op::Beat)
}

#[tokio::test]
async fn a_warm_up_fetches_what_far_holds_in_few_round_trips() {
    let memory = Memory::new();
    let filled = keys(600);
    let writer = names(&node(&memory).await);
    for key in &filled {
        writer.set(key, key.clone()).await.unwrap();
    }
    let (far, tiered) = counted(&memory).await;
    let cache = names(&tiered);
    let asked = keys(1000);
    let before = calls(&far);
    let warmed = cache.warm_up(&borrowed(&asked)).await;
    assert_eq!((warmed.found, warmed.missing, warmed.failed, warmed.skipped), (600, 400, 0, 0));
    assert_eq!(calls(&far) - before, 4, "one round trip for 256 keys");
    assert_eq!(tier(&cache, "599").await, Some(Tier::Near));
    assert_eq!(tier(&cache, "600").await, None);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_warm_up_may_load_what_is_nowhere() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        let calls = Arc::new(AtomicUsize::new(0));
        let loader = {
            let calls = Arc::clone(&calls);
            move |asked: Vec<String>| {
                calls.fetch_add(1, Ordering::SeqCst);
                async move {
                    Ok::<_, std::io::Error>(
                        asked.into_iter().filter(|k| k != "7").map(|k| (k.clone(), k)).collect::<Vec<_>>(),
                    )
                }
            }
        };
        let warmed = cache.warm_up_or_load(&keys(600), loader).await;
        assert_eq!((warmed.found, warmed.missing, warmed.failed), (599, 1, 0));
        assert_eq!(calls.load(Ordering::SeqCst), 3, "256 keys a call");
        assert_eq!(tier(&cache, "599").await, Some(Tier::Near));
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_warm_up_says_what_went_wrong_and_goes_on() {
    let memory = Memory::new();
    let (far, tiered) = counted(&memory).await;
    let cache = names(&tiered);
    cache.set("1", "v".into()).await.unwrap();
    let warmed = cache.warm_up(&["1", "", "2"]).await;
    assert_eq!((warmed.found, warmed.missing, warmed.failed), (1, 1, 1));
    assert_eq!(warmed.error.unwrap().kind(), ErrorKind::Invalid);
    far.fail_next_of(Op::ReadMany, 1, ErrorKind::Unavailable);
    let many = keys(300);
    let warmed = cache.warm_up(&borrowed(&many)).await;
    assert_eq!((warmed.found + warmed.missing, warmed.failed), (300 - 255, 255), "{warmed:?}");
    assert_eq!(warmed.error.unwrap().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_warm_up_stops_when_near_is_full() {
    let memory = Memory::new();
    let writer = names(&node(&memory).await);
    let many = keys(3000);
    for key in &many {
        writer.set(key, "x".repeat(100)).await.unwrap();
    }
    let near = LocalMemory::new(300 << 10);
    let tiered = Tiered::builder().near(near).far(memory).build().await.unwrap();
    let cache = names(&tiered);
    let warmed = cache.warm_up(&borrowed(&many)).await;
    assert!(warmed.skipped > 0 && warmed.found > 0, "{warmed:?}");
    assert_eq!(warmed.found + warmed.not_near + warmed.skipped, 3000, "{warmed:?}");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn what_is_not_for_near_stores_is_not_said_to_be_near() {
    let far = Memory::new();
    let writer = names(&node(&far).await);
    writer.set("small", "v".into()).await.unwrap();
    writer.set("large", "x".repeat(5000)).await.unwrap();
    writer.store("far only", Loaded::value("v".to_owned()).far_only()).await.unwrap();
    let tiered = node(&far).await;
    let policy = Policy::minutes(1).near_max(4096);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    let loader = async |asked: Vec<String>| {
        Ok::<_, std::io::Error>(asked.into_iter().map(|key| (key, "y".repeat(5000))).collect::<Vec<_>>())
    };
    let warmed = cache.warm_up(&["small", "large", "far only", "nowhere"]).await;
    assert_eq!((warmed.found, warmed.not_near, warmed.missing, warmed.failed), (1, 2, 1, 0), "{warmed:?}");
    for (key, expected) in [("small", Tier::Near), ("large", Tier::Far), ("far only", Tier::Far)] {
        assert_eq!(tier(&cache, key).await, Some(expected), "{key}");
    }
    let warmed = cache.warm_up_or_load(&["small".to_owned(), "nowhere".to_owned()], loader).await;
    assert_eq!((warmed.found, warmed.not_near, warmed.missing, warmed.failed), (1, 1, 0, 0), "{warmed:?}");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_warm_up_without_a_near_store_is_refused() {
    let far = Chaos::new(Memory::new());
    let tiered = Tiered::builder().far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    let cache = names(&tiered);
    cache.set("1", "v".into()).await.unwrap();
    let before = far.total_calls();
    let load = async |asked: Vec<String>| Ok::<_, std::io::Error>(vec![(asked[0].clone(), "v".to_owned())]);
    for warmed in
        [cache.warm_up(&["1", "2"]).await, cache.warm_up_or_load(&["1".to_owned(), "2".to_owned()], load).await]
    {
        assert_eq!((warmed.found, warmed.missing, warmed.failed), (0, 0, 2));
        assert_eq!(warmed.error.unwrap().kind(), ErrorKind::Config);
    }
    assert_eq!(far.total_calls(), before, "nobody was asked");
}

#[tokio::test]
async fn a_restart_begins_with_the_hottest_keys_near() {
    let far = Memory::new();
    let near = LocalMemory::new(1 << 20);
    let before = Tiered::builder().near(near).far(far.clone()).track_heat(1).build().await.unwrap();
    let cache = names(&before);
    for key in keys(100) {
        cache.get_or_load(&key, || ok("v")).await.unwrap();
    }
    for _ in 0..10 {
        for hot in ["3", "33", "99"] {
            cache.get(hot).await.unwrap();
        }
    }
    let list = cache.export(3);
    before.close().await;
    drop((before, cache));
    // what happens while nobody is up
    names(&node(&far).await).invalidate("33").await.unwrap();
    let after = node(&far).await;
    let cache = names(&after);
    let warmed = cache.import(&list).await.unwrap();
    assert_eq!((warmed.found, warmed.missing), (2, 1), "nothing unverified is served");
    for (key, expected) in [("3", Some(Tier::Near)), ("33", None), ("99", Some(Tier::Near)), ("50", Some(Tier::Far))] {
        assert_eq!(tier(&cache, key).await, expected, "{key}");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_imported_key_is_heard_of_like_any_other() {
    let far = Memory::new();
    let (here, there) = (node(&far).await, node(&far).await);
    names(&there).get_or_load("k", || ok("old")).await.unwrap();
    let list = names(&there).export(10);
    names(&here).import(&list).await.unwrap();
    assert_eq!(tier(&names(&here), "k").await, Some(Tier::Near));
    names(&there).invalidate("k").await.unwrap();
    eventually("the change is heard", async || names(&here).get("k").await.unwrap().is_none()).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn without_heat_the_newest_come_first_and_only_what_is_fresh() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let cache = names(&tiered);
    cache.store("gone", Loaded::value("v".to_owned()).ttl(Duration::from_millis(30))).await.unwrap();
    cache.get("gone").await.unwrap();
    for key in ["1", "2", "3"] {
        cache.get_or_load(key, || ok("v")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(40)).await;
    let other: Cache<String> = tiered.cache("other").codec(Raw).build().unwrap();
    other.get_or_load("1", || ok("v")).await.unwrap();
    let list = String::from_utf8_lossy(&cache.export(2)).into_owned();
    assert!(list.contains('3') && list.contains('2') && !list.contains('1') && !list.contains("gone"), "{list:?}");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_list_of_another_space_or_a_cut_one_is_refused() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let cache = names(&tiered);
    cache.get_or_load("k", || ok("v")).await.unwrap();
    let list = cache.export(10);
    let other: Cache<String> = tiered.cache("other").codec(Raw).build().unwrap();
    assert_eq!(other.import(&list).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(cache.import(&list[..list.len() - 1]).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(cache.import(b"").await.unwrap_err().kind(), ErrorKind::Invalid);
    let near_only = names(&alone().await);
    assert_eq!(near_only.import(&list).await.unwrap_err().kind(), ErrorKind::Config);
    tiered.close().await;
    assert_eq!(cache.import(&list).await.unwrap_err().kind(), ErrorKind::Closed);
    common::audit::at_the_end().await;
}
