//! Background writes.

mod common;

use std::time::{Duration, Instant};

use cache_core::memory::LocalMemory;
use cache_core::observe::Metric;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{ErrorKind, Memory};
use cache_tiered::{Consistency, Loaded, Tiered, Update};
use common::{BOUND, eventually, names, node, ok};

async fn behind(far: &Chaos<Memory>, most: usize) -> Tiered {
    let near = LocalMemory::new(1 << 20);
    Tiered::builder().near(near).far(far.clone()).bound(BOUND).background_writes(most).build().await.unwrap()
}

#[tokio::test]
async fn a_background_write_returns_at_once_and_its_process_reads_it() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let (cache, other) = (names(&tiered), names(&node(&memory).await));
    cache.get_or_load("k", || ok("old")).await.unwrap();
    far.hang();
    cache.set("k", "new".into()).await.unwrap();
    cache.store("tagged", Loaded::value("v".to_owned()).tag("t")).await.unwrap();
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "new");
    assert_eq!(*cache.get_or_load("k", || ok("never")).await.unwrap(), "new");
    assert_eq!(**cache.get_many(&["k"]).await[0].as_ref().unwrap().as_ref().unwrap(), "new");
    assert_eq!(tiered.pending_writes(), 2);
    assert_eq!(*other.get("k").await.unwrap().unwrap(), "old", "others see it later");
    far.unhang();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    eventually("others see it", async || other.get("k").await.unwrap().is_some_and(|v| *v == "new")).await;
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "new");
    assert_eq!(tiered.metrics().get(Metric::BackgroundWrite), 2);
    tiered.invalidate_tag("t").await.unwrap();
    assert!(cache.get("tagged").await.unwrap().is_none());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_keys_writes_keep_their_order_and_only_the_newest_waits() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let cache = names(&tiered);
    far.slow(Duration::from_millis(2));
    for round in 0..200 {
        for key in ["a", "b", "c"] {
            cache.set(key, round.to_string()).await.unwrap();
            assert_eq!(*cache.get(key).await.unwrap().unwrap(), round.to_string());
        }
        tokio::task::yield_now().await;
    }
    eventually("all is written", async || tiered.pending_writes() == 0).await;
    let other = names(&node(&memory).await);
    for key in ["a", "b", "c"] {
        assert_eq!(*other.get(key).await.unwrap().unwrap(), "199");
    }
    assert!(far.calls(Op::Change) < 600, "{} writes were sent", far.calls(Op::Change));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn changes_come_after_the_writes_of_their_keys() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let (cache, other) = (names(&tiered), names(&node(&memory).await));
    far.slow(Duration::from_millis(3));
    for round in 0..20 {
        cache.set("k", round.to_string()).await.unwrap();
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cache.invalidate("k").await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none() && other.get("k").await.unwrap().is_none(), "round {round}");
        cache.set("k", "1".into()).await.unwrap();
        let sum = cache.update("k", |old| Update::from(format!("{}+1", old.unwrap()))).await.unwrap();
        assert_eq!(*sum.unwrap(), "1+1");
        cache.set("k", "2".into()).await.unwrap();
        let fresh = cache.with(Consistency::Fresh).get("k").await.unwrap();
        assert_eq!(*fresh.unwrap(), "2", "who asks the far store finds what was written");
    }
    common::audit::at_the_end().await;
}

/// G2, while another's change of the same key is on its way.
#[tokio::test]
async fn a_write_that_a_change_makes_void_is_read_until_the_change_is_done() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far, 100).await;
    let cache = names(&tiered);
    cache.set("k", "old".into()).await.unwrap();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    far.hang();
    cache.set("flies", "v".into()).await.unwrap();
    eventually("it left", async || far.calls(Op::Change) == 2).await;
    cache.set("k", "new".into()).await.unwrap();
    let change = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate_many(&["k", "k"]).await }
    });
    eventually("the change left", async || far.calls(Op::Change) == 3).await;
    let read = tokio::time::timeout(Duration::from_secs(5), cache.get("k")).await;
    assert_eq!(*read.expect("the far store is not asked").unwrap().unwrap(), "new");
    far.unhang();
    change.await.unwrap().unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_change_whose_caller_goes_away_while_it_waits_takes_no_write_with_it() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let (cache, other) = (names(&tiered), names(&node(&memory).await));
    cache.set("b", "old".into()).await.unwrap();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    far.hang();
    cache.set("c", "v".into()).await.unwrap();
    eventually("it left", async || far.calls(Op::Change) == 2).await;
    cache.set("b", "new".into()).await.unwrap();
    let left = tokio::time::timeout(Duration::from_millis(20), cache.invalidate_many(&["b", "c"])).await;
    assert!(left.is_err(), "it waits for what flies");
    far.unhang();
    eventually("all is done", async || tiered.pending_writes() == 0).await;
    eventually("the old value goes", async || other.get("b").await.unwrap().is_none()).await;
    assert_eq!(cache.get("b").await.unwrap(), None);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn where_there_is_no_room_a_write_is_sent_in_the_foreground() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far, 2).await;
    let cache = names(&tiered);
    far.hang();
    for key in ["flies", "a", "b"] {
        cache.set(key, "v".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tiered.pending_writes(), 3);
    let waits = tokio::time::timeout(Duration::from_millis(50), cache.set("c", "v".into())).await;
    assert!(waits.is_err(), "it waits for the far store");
    cache.set("a", "w".into()).await.unwrap();
    far.unhang();
    eventually("all is written", async || tiered.pending_writes() == 0).await;
    assert_eq!(*cache.get("a").await.unwrap().unwrap(), "w");
    eventually("it went on though its caller did not wait", async || cache.get("c").await.unwrap().is_some()).await;
}

#[tokio::test]
async fn a_close_sends_what_waits() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 1000).await;
    let cache = names(&tiered);
    far.slow(Duration::from_millis(1));
    for n in 0..300 {
        cache.set(&n.to_string(), "v".into()).await.unwrap();
    }
    assert!(tiered.close().await);
    let other = names(&node(&memory).await);
    for n in 0..300 {
        assert!(other.get(&n.to_string()).await.unwrap().is_some(), "{n}");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_close_in_front_of_a_dead_far_store_ends_and_counts_what_was_lost() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far, 1000).await;
    let cache = names(&tiered);
    far.hang();
    for n in 0..50 {
        cache.set(&n.to_string(), "v".into()).await.unwrap();
    }
    let begun = Instant::now();
    assert!(!tiered.close_within(Duration::from_millis(300)).await);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(tiered.metrics().get(Metric::BackgroundWriteFailed), 50);
}

#[tokio::test]
async fn a_write_that_fails_is_counted_and_leaves_no_old_value() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let (cache, other) = (names(&tiered), names(&node(&memory).await));
    cache.set("k", "old".into()).await.unwrap();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    far.fail_next_of(Op::Change, 1, ErrorKind::Unavailable);
    cache.set("k", "lost".into()).await.unwrap();
    eventually("it failed", async || tiered.metrics().get(Metric::BackgroundWriteFailed) == 1).await;
    eventually("the old value goes", async || other.get("k").await.unwrap().is_none()).await;
    assert!(cache.get("k").await.unwrap().is_none());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn without_a_far_store_there_is_nothing_to_write_to() {
    let near = LocalMemory::new(1 << 20);
    let error = Tiered::builder().near(near).background_writes(0).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("without a far store") && error.message().contains("no key"), "{error}");
}

/// G2: the call that set it has returned. What the far store holds is older, and is not for this process until it can be
/// told: which it can't here.
#[tokio::test]
async fn a_background_write_that_fails_never_shows_its_process_what_it_replaced() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let cache = names(&tiered);
    for key in ["read", "loaded", "batch", "asked"] {
        cache.set(key, "old".into()).await.unwrap();
    }
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    // one fails as a write, the rest as attempts of the recovery
    far.fail_next_of(Op::Change, u64::MAX, ErrorKind::TooLarge);
    for key in ["read", "loaded", "batch", "asked"] {
        cache.set(key, "new".into()).await.unwrap();
    }
    eventually("they failed", async || tiered.metrics().get(Metric::BackgroundWriteFailed) == 4).await;
    for _ in 0..3 {
        assert_eq!(cache.get("read").await.unwrap(), None);
        assert_eq!(*cache.get_or_load("loaded", || ok("new")).await.unwrap(), "new");
        assert!(cache.get_many(&["batch"]).await[0].as_ref().unwrap().is_none());
        assert_eq!(cache.with(Consistency::Fresh).get("asked").await.unwrap(), None);
    }
    far.calm();
    cache.set("read", "newer".into()).await.unwrap();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    assert_eq!(*cache.get("read").await.unwrap().unwrap(), "newer", "its own write is not barred");
}

/// The same for a change in the foreground, whose caller was told.
#[tokio::test]
async fn an_invalidation_that_fails_ends_the_old_value_for_its_process() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(BOUND).build().await.unwrap();
    let cache = names(&tiered);
    cache.set("k", "old".into()).await.unwrap();
    far.fail_next_of(Op::Change, u64::MAX, ErrorKind::TooLarge);
    cache.invalidate("k").await.unwrap_err();
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(names(&node(&memory).await).get("k").await.unwrap(), None, "what is refused is removed");
    common::audit::at_the_end().await;
}

/// G3: a write whose answer does not come is not served for longer than the bound, however long the far store's own
/// deadline is; and none has ended it by then.
#[tokio::test]
async fn a_background_write_that_is_not_answered_is_read_for_the_bound_at_most() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let (cache, other) = (names(&tiered), names(&node(&memory).await));
    far.slow_replies(Duration::from_secs(3600));
    cache.set("k", "mine".into()).await.unwrap();
    eventually("it was stored", async || other.get("k").await.unwrap().is_some_and(|v| *v == "mine")).await;
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "mine", "its process reads it while it flies");
    other.invalidate("k").await.unwrap();
    let since = Instant::now();
    far.slow_replies(Duration::ZERO);
    eventually("it is not read any more", async || cache.get("k").await.unwrap().is_none()).await;
    assert!(since.elapsed() < BOUND * 2, "{:?}", since.elapsed());
    eventually("it counts as failed", async || tiered.metrics().get(Metric::BackgroundWriteFailed) == 1).await;
    eventually("the key is invalidated for good", async || tiered.pending_invalidations() == 0).await;
    assert_eq!(*cache.get_or_load("k", || ok("new")).await.unwrap(), "new");
    common::audit::at_the_end().await;
}

/// The same while a change in the foreground flies in the place of a write: what it would show is no more for its process,
/// nor is what the write replaced.
#[tokio::test]
async fn a_write_that_a_change_makes_void_is_read_for_the_bound_at_most() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = behind(&far, 100).await;
    let cache = names(&tiered);
    cache.set("k", "old".into()).await.unwrap();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    far.slow(Duration::from_millis(100));
    cache.set("flies", "v".into()).await.unwrap();
    eventually("it left", async || far.calls(Op::Change) == 2).await;
    cache.set("k", "new".into()).await.unwrap();
    far.slow(Duration::from_secs(3600));
    let change = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate("k").await }
    });
    eventually("the change left", async || far.calls(Op::Change) == 3).await;
    far.slow(Duration::ZERO);
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "new");
    eventually("it is not read any more", async || cache.get("k").await.unwrap().is_none_or(|v| *v != "new")).await;
    assert_eq!(cache.get("k").await.unwrap(), None, "what the write replaced is not for its process");
    assert_eq!(*cache.get_or_load("k", || ok("newer")).await.unwrap(), "newer");
    change.abort();
}

/// G2. A clear of one's own that is numbered beyond changes that were not heard of yet makes a later write look older than it:
/// what another process wrote after the clear stands, and is older than that write all the same.
#[tokio::test]
async fn a_background_write_that_a_clear_seems_to_void_is_not_followed_by_an_older_value() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiers = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(Duration::from_secs(60));
    let tiered = tiers.background_writes(100).polling().build().await.unwrap();
    let (cache, theirs) = (names(&tiered), node(&memory).await);
    names(&theirs).invalidate("unheard of").await.unwrap();
    tiered.clear().await.unwrap();
    eventually("the other heard of the clear", async || theirs.metrics().get(Metric::BusMessage) == 2).await;
    names(&theirs).set("k", "older".into()).await.unwrap();
    // from here on nothing is awaited that lets the write leave
    cache.set("k", "newer".into()).await.unwrap();
    for _ in 0..2 {
        assert_ne!(cache.get("k").await.unwrap().as_deref().map(String::as_str), Some("older"));
    }
    assert_eq!(*cache.get_or_load("k", || ok("newer")).await.unwrap(), "newer");
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    assert_ne!(cache.get("k").await.unwrap().as_deref().map(String::as_str), Some("older"));
}
