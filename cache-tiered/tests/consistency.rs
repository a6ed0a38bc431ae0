//! Answers as current as a call asks for. The bus is deaf here, so that only the beat and the call itself help.

mod common;

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{ErrorKind, Memory, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Consistency, Freshness, Tier, Tiered};
use common::{dawdle, eventually, names, ok, soon};
use tokio::sync::Notify;

/// Long enough that no beat comes to help during a test.
const BOUND: Duration = Duration::from_secs(60);

struct Scene {
    far: Chaos<Memory>,
    tiered: Tiered,
    deaf: Cache<String>,
    writer: Cache<String>,
}

/// A reader that holds `old` near and hears nothing, and a writer.
async fn scene() -> Scene {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    far.mute(true);
    let build = |far: Chaos<Memory>| Tiered::builder().near(LocalMemory::new(1 << 20)).far(far).bound(BOUND);
    let tiered = build(far.clone()).outage(BOUND).build().await.unwrap();
    let writer = build(Chaos::new(memory)).build().await.unwrap();
    let (deaf, writer) = (names(&tiered), names(&writer));
    deaf.get_or_load("k", || ok("old")).await.unwrap();
    Scene { far, tiered, deaf, writer }
}

#[tokio::test]
async fn local_serves_what_is_trusted_and_fresh_asks() {
    let Scene { deaf, writer, .. } = scene().await;
    writer.set("k", "new".into()).await.unwrap();
    assert_eq!(deaf.get("k").await.unwrap().unwrap().as_str(), "old");
    let fresh = deaf.with(Consistency::Fresh);
    assert_eq!(fresh.get("k").await.unwrap().unwrap().as_str(), "new");
    assert_eq!(deaf.get("k").await.unwrap().unwrap().as_str(), "new", "values don't go backwards afterwards");
}

#[tokio::test]
async fn fresh_confirms_an_unchanged_near_entry_by_its_stamp() {
    let Scene { deaf, .. } = scene().await;
    for wish in [Consistency::Fresh, Consistency::Strict] {
        let answer = deaf.with(wish).lookup("k").await.unwrap().unwrap();
        assert_eq!((answer.tier, answer.freshness), (Tier::Near, Freshness::Fresh));
    }
}

#[tokio::test]
async fn bounded_asks_once_the_last_proof_is_older_than_the_call_allows() {
    let Scene { deaf, writer, .. } = scene().await;
    writer.set("k", "new".into()).await.unwrap();
    let wide = deaf.with(Consistency::Bounded(BOUND));
    assert_eq!(wide.get("k").await.unwrap().unwrap().as_str(), "old");
    let narrow = deaf.with(Consistency::Bounded(Duration::from_millis(50)));
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(narrow.get("k").await.unwrap().unwrap().as_str(), "new");
}

#[tokio::test]
async fn a_call_asks_for_more_than_its_cache_gives_and_never_for_less() {
    let Scene { tiered, deaf, writer, .. } = scene().await;
    writer.set("k", "new".into()).await.unwrap();
    let value = async |cache: &Cache<String>| cache.get("k").await.unwrap().unwrap().to_string();
    assert_eq!(value(&deaf.with(Consistency::Local)).await, "old");
    let fresh: Cache<String> = tiered.cache("names").codec(Raw).consistency(Consistency::Fresh).build().unwrap();
    // each finds the old value near, and has to look behind it
    let weaker = [fresh.clone(), fresh.with(Consistency::Local), fresh.with(Consistency::Bounded(BOUND)).clone()];
    for (nth, cache) in weaker.iter().enumerate() {
        let (old, new) = (format!("new {nth}"), format!("new {}", nth + 1));
        writer.set("k", old.clone()).await.unwrap();
        deaf.with(Consistency::Fresh).get("k").await.unwrap();
        assert_eq!(value(&deaf).await, old);
        writer.set("k", new.clone()).await.unwrap();
        assert_eq!(value(&deaf).await, old, "no message came");
        assert_eq!(value(cache).await, new);
        assert_eq!(cache.get_many(&["k"]).await[0].as_ref().unwrap().as_deref(), Some(&new));
    }
}

async fn load_fresh(cache: &Cache<String>, key: &str) -> (String, Tier) {
    let load = || async { Ok::<_, std::io::Error>("begun after".to_owned().into()) };
    let answer = cache.with(Consistency::Fresh).load_with(key, load).await.unwrap();
    (answer.value.unwrap().to_string(), answer.tier)
}

#[tokio::test]
async fn a_load_that_asks_for_fresh_joins_no_older_flight() {
    let Scene { far, tiered, deaf, writer } = scene().await;
    for far_fails in [false, true] {
        writer.invalidate("k").await.unwrap();
        assert!(deaf.with(Consistency::Fresh).get("k").await.unwrap().is_none());
        let (earlier, go) = dawdle(&deaf, "begun before").await;
        // a change that was acknowledged before the call, and that this process has not heard of
        writer.invalidate("k").await.unwrap();
        far.fail_next_of(Op::Get, u64::from(far_fails), ErrorKind::Unavailable);
        assert_eq!(soon(load_fresh(&deaf, "k")).await, ("begun after".to_owned(), Tier::Origin));
        go.notify_one();
        earlier.await.unwrap();
        assert_eq!(deaf.get("k").await.unwrap().unwrap().as_str(), "begun after", "nor is it overwritten by it");
        assert_eq!(tiered.metrics().get(Metric::Joined), 0);
    }
}

#[tokio::test]
async fn a_load_that_asks_for_fresh_takes_what_an_older_flight_has_stored_from_the_far_store() {
    let Scene { tiered, deaf, .. } = scene().await;
    let (reading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (reading, go) = (Arc::clone(&reading), Arc::clone(&go));
        async move || {
            reading.notify_one();
            go.notified().await;
            Ok::<_, std::io::Error>("begun before".to_owned())
        }
    };
    let earlier = tokio::spawn({
        let deaf = deaf.clone();
        async move { deaf.get_or_load("other", slow).await }
    });
    soon(reading.notified()).await;
    let fresh = tokio::spawn({
        let deaf = deaf.clone();
        async move { load_fresh(&deaf, "other").await }
    });
    // nothing was changed, so its lease is as good as that of another process: one load
    eventually("it waits for the lease", async || tiered.metrics().get(Metric::LeaseWait) == 1).await;
    go.notify_one();
    assert_eq!(soon(fresh).await.unwrap(), ("begun before".to_owned(), Tier::Far));
    assert_eq!(tiered.metrics().get(Metric::Joined), 0);
    earlier.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_only_the_far_store_can_tell_is_an_error_without_it_and_a_load_asks_the_origin() {
    let memory = Memory::new();
    let far = Chaos::new(memory);
    let tiers = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(common::BOUND);
    let tiered = tiers.build().await.unwrap();
    let cache = names(&tiered);
    cache.get_or_load("k", || ok("old")).await.unwrap();
    far.partition(true);
    eventually("cut off", async || tiered.is_cut_off()).await;
    assert!(cache.get("k").await.unwrap().is_some(), "local: the outage rule");
    for wish in [Consistency::Fresh, Consistency::Strict, Consistency::Bounded(Duration::ZERO)] {
        let strong = cache.with(wish);
        assert_eq!(strong.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable, "{wish:?}");
        assert_eq!(strong.get_or_load("k", || ok("new")).await.unwrap().as_str(), "new", "{wish:?}");
    }
}

#[tokio::test]
async fn strict_is_refused_by_a_store_that_does_not_answer_the_beat() {
    let Scene { far, deaf, tiered, .. } = scene().await;
    far.fail_next_of(Op::Beat, 1, ErrorKind::Unavailable);
    assert!(deaf.with(Consistency::Strict).get("k").await.is_err());
    assert!(!tiered.is_cut_off());
    assert!(deaf.with(Consistency::Strict).get("k").await.unwrap().is_some());
}

#[tokio::test]
async fn a_value_loaded_while_cut_off_is_as_old_as_its_load_is_long() {
    let far = Chaos::new(Memory::new());
    let tiers = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(common::BOUND);
    let tiered = tiers.build().await.unwrap();
    let cache = names(&tiered);
    far.partition(true);
    eventually("cut off", async || tiered.is_cut_off()).await;
    let slow = async || {
        // read at once, told late: what was changed meanwhile, nobody said
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok::<_, std::io::Error>("old".to_owned())
    };
    cache.get_or_load("k", slow).await.unwrap();
    let bounded = cache.with(Consistency::Bounded(Duration::from_millis(300)));
    assert_eq!(bounded.get_or_load("k", || ok("new")).await.unwrap().as_str(), "new");
}
