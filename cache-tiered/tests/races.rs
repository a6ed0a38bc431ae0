//! Changes that meet reads, loads and other changes: what must not be served, kept or lost.

mod common;

use std::io;
use std::time::{Duration, Instant};

use cache_core::observe::Metric;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, Memory, codec::Raw};
use cache_tiered::{Cache, Loaded, Tier, Tiered};
use common::batch::chaos;
use common::{BOUND, alone, dawdle, eventually, names, node, ok, soon};

async fn get(cache: &Cache<String>) -> Option<String> {
    cache.get("k").await.unwrap().map(|value| value.to_string())
}

#[tokio::test]
async fn a_read_after_an_own_set_is_not_answered_by_a_load_from_before() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        let (slow, go) = dawdle(&cache, "old").await;
        cache.set("k", "new".into()).await.unwrap();
        assert_eq!(*soon(cache.get_or_load("k", || ok("never"))).await.unwrap(), "new");
        go.notify_one();
        soon(slow).await.unwrap();
        // its callers may have been told something newer yet: at worst the near store is empty now
        assert_ne!(get(&cache).await.as_deref(), Some("old"));
    }
    assert_eq!(get(&names(&node(&far).await)).await.as_deref(), Some("new"));
    common::audit::at_the_end().await;
}

/// rueidisaside tells a process's loads apart by nothing: the first one's fill passes for the second one's.
#[tokio::test]
async fn a_load_does_not_fill_with_the_lease_of_a_later_one() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let cache = names(&tiered);
    let (first, go_first) = dawdle(&cache, "old").await;
    cache.invalidate("k").await.unwrap();
    let (second, go_second) = dawdle(&cache, "new").await;
    go_first.notify_one();
    eventually("the first fill was refused", async || tiered.metrics().get(Metric::FillRejected) == 1).await;
    go_second.notify_one();
    soon(second).await.unwrap();
    soon(first).await.unwrap();
    assert_eq!(get(&cache).await.as_deref(), Some("new"));
    assert_eq!(get(&names(&node(&far).await)).await.as_deref(), Some("new"));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_load_begun_before_a_clear_is_not_kept() {
    let far = Memory::new();
    let (here, there) = (node(&far).await, node(&far).await);
    let only = alone().await;
    for (loads, clears) in [(&here, &here), (&here, &there), (&only, &only)] {
        let cache = names(loads);
        let (slow, go) = dawdle(&cache, "old").await;
        clears.clear().await.unwrap();
        go.notify_one();
        soon(slow).await.unwrap();
        assert_eq!(*soon(names(clears).get_or_load("k", || ok("new"))).await.unwrap(), "new");
        eventually("the other process", async || {
            let value = get(&cache).await;
            value.is_none_or(|value| value == "new")
        })
        .await;
        names(clears).invalidate("k").await.unwrap();
        eventually("gone", async || get(&cache).await.is_none()).await;
    }
    common::audit::at_the_end().await;
}

/// rustis checks a single read against the pushes, and not a batch.
#[tokio::test]
async fn a_batch_of_far_reads_that_comes_late_is_not_kept() {
    let memory = Memory::new();
    names(&node(&memory).await).set("k", "old".into()).await.unwrap();
    let (far, tiered) = chaos(&memory).await;
    let reader = names(&tiered);
    far.slow_replies(Duration::from_millis(50));
    let late = tokio::spawn({
        let reader = reader.clone();
        async move { reader.get_many(&["k", "other"]).await }
    });
    eventually("the reads are under way", async || tiered.in_flight() == 2).await;
    reader.invalidate("k").await.unwrap();
    far.calm();
    late.await.unwrap();
    assert_eq!(get(&reader).await, None);
    common::audit::at_the_end().await;
}

/// multi-tier-cache empties the near store first: whoever reads in between brings the old value back.
#[tokio::test]
async fn a_read_during_an_own_invalidation_does_not_bring_the_old_value_back() {
    let (far, tiered) = chaos(&Memory::new()).await;
    let cache = names(&tiered);
    cache.set("k", "old".into()).await.unwrap();
    for round in 0..5 {
        cache.set("k", "old".into()).await.unwrap();
        assert_eq!(get(&cache).await.as_deref(), Some("old"));
        far.slow(Duration::from_millis(20));
        let changes = far.calls(Op::Change);
        let change = tokio::spawn({
            let cache = cache.clone();
            async move { cache.invalidate("k").await }
        });
        eventually("the change is under way", async || far.calls(Op::Change) > changes).await;
        while !change.is_finished() {
            get(&cache).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        far.slow(Duration::ZERO);
        change.await.unwrap().unwrap();
        assert_eq!(get(&cache).await, None, "round {round}");
    }
    common::audit::at_the_end().await;
}

/// In multi-tier-cache every process that hears of a change repeats it in the far store.
#[tokio::test]
async fn who_hears_of_a_change_does_not_touch_the_far_store() {
    let memory = Memory::new();
    let (far, listener) = chaos(&memory).await;
    let writer = names(&node(&memory).await);
    writer.set("k", "one".into()).await.unwrap();
    assert_eq!(get(&names(&listener)).await.as_deref(), Some("one"));
    let calls = || far.total_calls() - far.calls(Op::Beat);
    let before = calls();
    let heard = listener.metrics().get(Metric::BusMessage);
    for n in 0..50 {
        writer.invalidate("k").await.unwrap();
        writer.set("k", n.to_string()).await.unwrap();
        assert!(memory.exists("strata:k:names:k").await.unwrap(), "what was set after it is there");
    }
    eventually("all were heard", async || listener.metrics().get(Metric::BusMessage) >= heard + 100).await;
    assert_eq!(calls(), before);
    assert_eq!(get(&names(&listener)).await.as_deref(), Some("49"));
    common::audit::at_the_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_sets_do_not_leave_a_near_store_unlike_the_far_one() {
    let far = Memory::new();
    let nodes = [node(&far).await, node(&far).await, node(&far).await];
    for round in 0..30 {
        let sets: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| {
                let cache = names(node);
                tokio::spawn(async move {
                    cache.set("k", format!("{round} of {n}")).await.unwrap();
                    get(&cache).await
                })
            })
            .collect();
        for set in sets {
            set.await.unwrap();
        }
        let judge: Tiered = Tiered::builder().far(far.clone()).bound(BOUND).build().await.unwrap();
        let truth = get(&names(&judge)).await;
        assert!(truth.as_ref().is_some_and(|truth| truth.starts_with(&format!("{round} of"))), "{truth:?}");
        for node in &nodes {
            eventually("near is like far", async || get(&names(node)).await == truth).await;
        }
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_set_that_was_refused_leaves_no_old_value_anywhere() {
    let memory = Memory::new();
    let (far, tiered) = chaos(&memory).await;
    let (here, there) = (names(&tiered), names(&node(&memory).await));
    here.set("k", "old".into()).await.unwrap();
    assert_eq!(get(&there).await.as_deref(), Some("old"));
    far.fail_next_of(Op::Change, 1, cache_core::ErrorKind::Unavailable);
    assert!(here.set("k", "new".into()).await.is_err());
    assert_ne!(get(&here).await.as_deref(), Some("new"), "near is not ahead of far");
    eventually("what was not acknowledged is made up for", async || {
        tiered.pending_invalidations() == 0 && get(&there).await.is_none() && get(&here).await.is_none()
    })
    .await;
    common::audit::at_the_end().await;
}

/// FusionCache without a second level: each process's fill empties the others' memory, for ever.
#[tokio::test]
async fn a_fill_of_one_process_does_not_evict_from_another() {
    let far = Memory::new();
    let (a, b) = (node(&far).await, node(&far).await);
    for _ in 0..5 {
        for tiered in [&a, &b] {
            names(tiered).get_or_load("k", || ok("v")).await.unwrap();
            assert_eq!(names(tiered).lookup("k").await.unwrap().unwrap().tier, Tier::Near);
        }
    }
    for tiered in [&a, &b] {
        let metrics = tiered.metrics();
        assert_eq!((metrics.get(Metric::BusMessage), metrics.get(Metric::Purged)), (0, 0));
    }
    assert_eq!(a.metrics().get(Metric::Load) + b.metrics().get(Metric::Load), 1);
    common::audit::at_the_end().await;
}

/// FusionCache sends a tag's mark anew when it is read again from the far store.
#[tokio::test]
async fn a_process_that_learns_of_a_tag_does_not_evict_from_others() {
    let far = Memory::new();
    let here = node(&far).await;
    here.invalidate_tag("t").await.unwrap();
    let tagged = || async { Ok::<_, io::Error>(Loaded::value("v".to_owned()).tag("t")) };
    names(&here).load_with("k", tagged).await.unwrap();
    let heard = here.metrics().get(Metric::BusMessage);
    for _ in 0..3 {
        let cold = node(&far).await;
        assert_eq!(get(&names(&cold)).await.as_deref(), Some("v"), "it was loaded after the bump");
    }
    assert_eq!(here.metrics().get(Metric::BusMessage), heard);
    assert_eq!(names(&here).lookup("k").await.unwrap().unwrap().tier, Tier::Near);
    common::audit::at_the_end().await;
}

/// FusionCache and multi-tier-cache serve before their subscription stands.
#[tokio::test]
async fn a_process_that_was_just_built_misses_no_change() {
    let far = Memory::new();
    let writer = names(&node(&far).await);
    for round in 0..10 {
        writer.set("k", format!("old {round}")).await.unwrap();
        let fresh = names(&node(&far).await);
        assert_eq!(get(&fresh).await, Some(format!("old {round}")));
        writer.set("k", format!("new {round}")).await.unwrap();
        let told = Instant::now();
        let new = Some(format!("new {round}"));
        eventually("the change is heard", async || get(&fresh).await == new).await;
        assert!(told.elapsed() < BOUND * 10, "{:?}", told.elapsed());
        assert_eq!(fresh.tiered().metrics().get(Metric::BusMessage), 1, "by its message, not by a gap");
    }
    common::audit::at_the_end().await;
}

/// FusionCache ignores a tag where the memory level is skipped or nobody is told.
#[tokio::test]
async fn tags_work_without_the_near_store() {
    let memory = Memory::new();
    let bare = async || Tiered::builder().far(memory.clone()).bound(BOUND).build().await.unwrap();
    let (a, b, near) = (bare().await, bare().await, node(&memory).await);
    let tagged = || async { Ok::<_, io::Error>(Loaded::value("v".to_owned()).tag("t")) };
    for all in [false, true] {
        for tiered in [&a, &b, &near] {
            names(tiered).load_with("k", tagged).await.unwrap();
        }
        if all {
            a.clear().await.unwrap();
        } else {
            a.invalidate_tag("t").await.unwrap();
        }
        assert_eq!(get(&names(&a)).await, None);
        assert_eq!(get(&names(&bare().await)).await, None, "a cold process");
        for tiered in [&b, &near] {
            eventually("it is heard of", async || get(&names(tiered)).await.is_none()).await;
        }
    }
    let cache: Cache<String> = a.cache("names").codec(Raw).build().unwrap();
    cache.set("k", "set later".into()).await.unwrap();
    assert_eq!(get(&names(&b)).await.as_deref(), Some("set later"));
    common::audit::at_the_end().await;
}
