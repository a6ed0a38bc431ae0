//! Guarded, versioned and settled writes.

mod common;

use std::time::{Duration, Instant};

use cache_core::memory::LocalMemory;
use cache_core::testkit::Chaos;
use cache_core::{CacheService, ErrorKind, Memory};
use cache_tiered::{Freshness, Loaded, StaleReason, Tiered};
use common::{BOUND, alone, dawdle, eventually, names, node, ok};

const HOLD: Duration = Duration::from_secs(30);

async fn under_a_guard_nothing_is_kept(writer: &Tiered, reader: &Tiered) {
    let (writer, reader) = (names(writer), names(reader));
    reader.get_or_load("k", || ok("old")).await.unwrap();
    writer.invalidate("k").await.unwrap();
    let (dawdling, go) = dawdle(&reader, "old").await;
    let guard = writer.write_guard(&["k"], HOLD).await.unwrap();
    eventually("the guard reaches the reader", async || {
        reader.get_or_load("k", || ok("before the commit")).await.unwrap().as_str() == "before the commit"
    })
    .await;
    assert!(reader.get("k").await.unwrap().is_none(), "what was loaded under the guard is not kept");
    go.notify_one();
    dawdling.await.unwrap();
    assert!(reader.get("k").await.unwrap().is_none(), "nor is what was begun before it");
    guard.commit().await.unwrap();
    eventually("loads are kept again", async || {
        reader.get_or_load("k", || ok("new")).await.unwrap();
        reader.get("k").await.unwrap().is_some_and(|value| *value == "new")
    })
    .await;
}

#[tokio::test]
async fn under_a_guard_nothing_is_kept_in_any_process() {
    let far = Memory::new();
    under_a_guard_nothing_is_kept(&node(&far).await, &node(&far).await).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn under_a_guard_nothing_is_kept_without_a_far_store() {
    let tiered = alone().await;
    under_a_guard_nothing_is_kept(&tiered, &tiered).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_guard_that_is_dropped_runs_out() {
    for tiered in [node(&Memory::new()).await, alone().await] {
        let cache = names(&tiered);
        drop(cache.write_guard(&["k"], Duration::from_millis(100)).await.unwrap());
        cache.get_or_load("k", || ok("during")).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none());
        eventually("kept again", async || {
            cache.get_or_load("k", || ok("after")).await.unwrap();
            cache.get("k").await.unwrap().is_some()
        })
        .await;
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_strict_guard_waits_for_the_bound_and_the_outage_window() {
    let far = Memory::new();
    let (a, b) = (quick(far.clone()).await, quick(far).await);
    names(&b).get_or_load("k", || ok("old")).await.unwrap();
    let begun = Instant::now();
    let guard = names(&a).write_guard(&["k"], HOLD).await.unwrap();
    guard.strict().await.unwrap();
    assert!(begun.elapsed() >= BOUND * 2);
    assert!(names(&b).get("k").await.unwrap().is_none(), "nobody serves the old value when the transaction commits");
    guard.commit().await.unwrap();
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_strict_guard_that_would_outlast_its_hold_says_so() {
    let a = quick(Memory::new()).await;
    let guard = names(&a).write_guard(&["k"], BOUND * 2).await.unwrap();
    let begun = Instant::now();
    assert_eq!(guard.strict().await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(begun.elapsed() < BOUND * 2, "at once");
    let alone = names(&alone().await).write_guard(&["k"], BOUND).await.unwrap();
    alone.strict().await.unwrap();
}

#[tokio::test]
async fn an_older_or_equal_version_is_not_stored() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        assert!(cache.set_versioned("k", "two".into(), 2).await.unwrap());
        for version in [1, 2] {
            assert!(!cache.set_versioned("k", "other".into(), version).await.unwrap());
        }
        assert_eq!(cache.get("k").await.unwrap().unwrap().as_str(), "two");
        assert!(cache.set_versioned("k", "three".into(), 3).await.unwrap());
        assert_eq!(cache.lookup("k").await.unwrap().unwrap().row, 3);
        let error = cache.set_versioned("k", "none".into(), 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    common::audit::at_the_end().await;
}

/// A process whose outage window is as long as the bound.
async fn quick(far: impl CacheService + 'static) -> Tiered {
    let tiers = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far).bound(BOUND).outage(BOUND);
    tiers.build().await.unwrap()
}

#[tokio::test]
async fn a_settled_invalidation_returns_when_nobody_serves_the_old_value_not_even_who_is_cut_off() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let (a, b) = (quick(memory).await, quick(far.clone()).await);
    let cut = names(&b);
    cut.get_or_load("k", || ok("old")).await.unwrap();
    far.partition(true);
    let (served, settled) = tokio::join!(
        async {
            // for as long as it may
            let (mut marked, mut asked, mut last) = (0, Instant::now(), None);
            while let Ok(Some(answer)) = cut.lookup("k").await {
                marked += u32::from(answer.freshness == Freshness::Stale(StaleReason::Unconfirmed));
                last = Some(asked);
                tokio::time::sleep(Duration::from_millis(5)).await;
                asked = Instant::now();
            }
            (marked, last)
        },
        async {
            names(&a).invalidate_settled("k").await.unwrap();
            Instant::now()
        },
    );
    assert!(served.0 > 0, "it served the old value marked");
    assert!(served.1.is_some_and(|last| last <= settled), "it went on after the invalidation was settled");
}

/// A load may bring the new row sooner than its writer, after the far store evicted the old one. It tells nobody, so the
/// writer has to, though he finds nothing to store.
#[tokio::test]
async fn a_versioned_write_that_is_refused_is_heard_by_those_who_hold_an_older_row() {
    let memory = Memory::new();
    let [writer, holder, loader] = [node(&memory).await, node(&memory).await, node(&memory).await];
    let [writer, holder, loader] = [&writer, &holder, &loader].map(names);
    assert!(writer.set_versioned("k", "one".into(), 1).await.unwrap());
    assert_eq!(*holder.get("k").await.unwrap().unwrap(), "one");
    assert!(memory.delete("strata:k:names:k").await.unwrap(), "evicted: nobody is told");
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("two".to_owned()).row(2)) };
    loader.load_with("k", load).await.unwrap();
    assert_eq!(*holder.get("k").await.unwrap().unwrap(), "one", "nothing was acknowledged yet");
    assert!(!writer.set_versioned("k", "two".into(), 2).await.unwrap());
    eventually("the holder reads the new row", async || *holder.get("k").await.unwrap().unwrap() == "two").await;
    common::audit::at_the_end().await;
}

/// A refused versioned write says that the far store holds what is newer. The near copy of its process may be older yet:
/// the message of the newer one may be on its way, or lost.
#[tokio::test]
async fn a_versioned_write_that_is_refused_leaves_no_older_value_near() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiers = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone());
    let (tiered, other) = (tiers.build().await.unwrap(), node(&memory).await);
    let (cache, other) = (names(&tiered), names(&other));
    assert!(cache.set_versioned("k", "one".into(), 1).await.unwrap());
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "one");
    far.mute(true);
    assert!(other.set_versioned("k", "three".into(), 3).await.unwrap());
    eventually("the message is lost", async || far.dropped() > 0).await;
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "one", "nobody told it, and the bound is not over");
    assert!(!cache.set_versioned("k", "two".into(), 2).await.unwrap());
    assert_eq!(*cache.get("k").await.unwrap().unwrap(), "three");
    common::audit::at_the_end().await;
}
