//! The invariants that are about coherence, by name: embedded, and over a far store in memory; over servers in the workspace's
//! tests. `docs/invariants.md` lists the rest.

mod common;

use std::sync::Arc;
use std::time::Duration;

use cache_core::memory::LocalMemory;
use cache_core::testkit::Chaos;
use cache_core::{CacheService, Memory};
use cache_tiered::{Loaded, Tiered};
use common::freshness::Far;
use common::invariants::{self, Cuttable, Dawdle, Line, i1, i8, i12};
use common::{BOUND, alone, eventually, names, node};

struct Shared(Memory);

impl Far for Shared {
    async fn connect(&self) -> Arc<dyn CacheService> {
        Arc::new(self.0.clone())
    }
}

impl Cuttable for Shared {
    async fn line(&self) -> Line {
        let line = Chaos::new(self.0.clone());
        let switch = line.clone();
        (Arc::new(line), Box::new(move |cut| switch.partition(cut)))
    }
}

#[tokio::test]
async fn i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_embedded() {
    let tiered = alone().await;
    i1(&tiered, &tiered).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn i1_a_far_read_that_comes_late_is_not_kept() {
    let memory = Memory::new();
    let writer = names(&node(&memory).await);
    writer.set("k", "old".into()).await.unwrap();
    let far = Chaos::new(memory);
    let near = LocalMemory::new(1 << 20);
    let reader = Tiered::builder().near(near).far(far.clone()).bound(BOUND).build().await.unwrap();
    let reader = names(&reader);
    // the answer has left the store and is on its way
    far.slow_replies(Duration::from_millis(50));
    let late = tokio::spawn({
        let reader = reader.clone();
        async move { reader.get("k").await }
    });
    eventually("the read is under way", async || reader.tiered().in_flight() == 1).await;
    reader.invalidate("k").await.unwrap();
    far.calm();
    drop(late.await.unwrap());
    assert!(reader.get("k").await.unwrap().is_none());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn i8_an_own_write_does_not_blind_for_the_next_foreign_one_embedded() {
    let tiered = alone().await;
    i8(&tiered, &tiered.clone()).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn i9_a_tag_or_a_clear_is_never_undone_embedded() {
    let tiered = alone().await;
    let cache = names(&tiered);
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("old".to_owned()).tag("t")) };
    for all in [false, true] {
        cache.load_with("k", load).await.unwrap();
        let slow = Dawdle::default();
        let late = tokio::spawn({
            let (cache, slow) = (cache.clone(), slow.clone());
            async move {
                let load = || async move { slow.old().await.map(|value| Loaded::value(value).tag("t")) };
                cache.load_with("other", load).await
            }
        });
        slow.reading.notified().await;
        if all {
            tiered.clear().await.unwrap();
        } else {
            tiered.invalidate_tag("t").await.unwrap();
        }
        slow.go.notify_one();
        late.await.unwrap().unwrap();
        for key in ["k", "other"] {
            assert!(cache.get(key).await.unwrap().is_none(), "{key}");
        }
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn i12_near_memory_stays_within_its_budget_embedded() {
    i12(None).await;
}

#[tokio::test]
async fn i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_shared() {
    invariants::i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_shared(Shared(Memory::new())).await;
}

#[tokio::test]
async fn i7_after_a_lost_connection_nothing_older_than_the_gap_is_served_past_the_bound() {
    let far = Shared(Memory::new());
    invariants::i7_after_a_lost_connection_nothing_older_than_the_gap_is_served_past_the_bound(far).await;
}

#[tokio::test]
async fn i8_an_own_write_does_not_blind_for_the_next_foreign_one_shared() {
    invariants::i8_an_own_write_does_not_blind_for_the_next_foreign_one_shared(Shared(Memory::new())).await;
}

#[tokio::test]
async fn i9_tags_hold_under_skewed_clocks_lost_counters_and_cold_processes() {
    invariants::i9_tags_hold_under_skewed_clocks_lost_counters_and_cold_processes(Shared(Memory::new())).await;
}

#[tokio::test]
async fn i12_near_memory_stays_within_its_budget_shared() {
    invariants::i12_near_memory_stays_within_its_budget_shared(Shared(Memory::new())).await;
}

#[tokio::test]
async fn i4_ids_that_a_loader_omits_are_nothing_and_are_asked_for_once_shared() {
    let far = Shared(Memory::new());
    invariants::i4_ids_that_a_loader_omits_are_nothing_and_are_asked_for_once(far).await;
}

#[tokio::test]
async fn i13_bytes_that_are_not_a_whole_frame_of_the_key_are_a_miss_and_a_count_shared() {
    let far = Shared(Memory::new());
    invariants::i13_bytes_that_are_not_a_whole_frame_of_the_key_are_a_miss_and_a_count(far).await;
}
