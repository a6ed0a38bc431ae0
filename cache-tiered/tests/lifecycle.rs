//! Closing.

mod common;

use std::time::{Duration, Instant};

use cache_core::memory::LocalMemory;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, ErrorKind, Frame, Leases, Memory, State};
use cache_tiered::{Cache, Consistency, Loaded, Tiered, Update};
use common::{BOUND, alone, eventually, names, node, ok};

async fn behind(far: &Chaos<Memory>) -> Tiered {
    Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(BOUND).build().await.unwrap()
}

async fn hung() -> Result<String, std::io::Error> {
    std::future::pending().await
}

/// A load that goes on for ever, and the task that waits for it.
async fn hang(tiered: &Tiered) -> tokio::task::JoinHandle<cache_core::Result<std::sync::Arc<String>>> {
    let cache = names(tiered);
    let task = tokio::spawn(async move { cache.get_or_load("hung", hung).await });
    eventually("the load runs", async || tiered.metrics().get(cache_core::observe::Metric::Load) > 0).await;
    task
}

#[tokio::test]
async fn calls_after_a_close_are_refused() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache: Cache<String> = names(&tiered);
        cache.set("k", "v".into()).await.unwrap();
        cache.get_or_load("near", || ok("v")).await.unwrap();
        assert!(cache.get("near").await.unwrap().is_some());
        let guard = cache.write_guard(&["other"], Duration::from_secs(1)).await.unwrap();
        assert!(tiered.close().await, "nothing was under way");
        let mut kinds = Vec::new();
        let mut said =
            |what: &'static str, error: Option<cache_core::Error>| kinds.push((what, error.map(|e| e.kind())));
        said("get", cache.get("k").await.err());
        said("get near", cache.get("near").await.err());
        said("get fresh", cache.with(Consistency::Fresh).get("near").await.err());
        said("get strict", cache.with(Consistency::Strict).get("near").await.err());
        said("lookup", cache.lookup("near").await.err());
        said("get_or_load", cache.get_or_load("near", || ok("v")).await.err());
        said("get_or_load fresh", cache.with(Consistency::Fresh).get_or_load("near", || ok("v")).await.err());
        said("get_many", cache.get_many(&["near"]).await.remove(0).err());
        said("set", cache.set("k", "v".into()).await.err());
        said("set_versioned", cache.set_versioned("k", "v".into(), 1).await.err());
        said("update", cache.update("k", |_| Update::Leave).await.err());
        said("invalidate", cache.invalidate("k").await.err());
        said("write_guard", cache.write_guard(&["k"], Duration::from_secs(1)).await.err());
        said("commit", guard.commit().await.err());
        said("invalidate_tag", tiered.invalidate_tag("t").await.err());
        said("clear", tiered.clear().await.err());
        said("service get", CacheService::get(&tiered, "k").await.err());
        said("service set", CacheService::set(&tiered, "k", "v".into(), Duration::from_secs(1)).await.err());
        said("service delete", tiered.delete("k").await.err());
        said("service get_many", CacheService::get_many(&tiered, &["k"]).await.err());
        for (what, kind) in kinds {
            assert_eq!(kind, Some(ErrorKind::Closed), "{what}");
        }
        assert!(tiered.close().await, "closing twice is fine");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_close_lets_a_load_end() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let cache = names(&tiered);
    let load = tokio::spawn(async move {
        cache
            .get_or_load("k", || async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, std::io::Error>("v".to_owned())
            })
            .await
    });
    eventually("the load runs", async || tiered.in_flight() == 1).await;
    assert!(tiered.close().await);
    assert_eq!(load.await.unwrap().unwrap().as_str(), "v");
    let other = node(&far).await;
    assert_eq!(names(&other).get("k").await.unwrap().unwrap().as_str(), "v", "it was stored for the others");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_close_cancels_what_does_not_end_and_gives_its_lease_back() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let load = hang(&tiered).await;
        let begun = Instant::now();
        assert!(!tiered.close_within(Duration::from_millis(500)).await);
        assert!(begun.elapsed() >= Duration::from_millis(400));
        assert_eq!(load.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!((tiered.in_flight(), tiered.under_way()), (0, 0));
        assert_eq!(far.read("strata:k:names:hung").await.unwrap(), None, "no lease is left");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_close_ends_beats_and_subscription() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far).await;
    assert!(tiered.close().await);
    let (beats, messages) = (far.calls(Op::Beat), tiered.metrics());
    let other = behind(&Chaos::new(far.inner().clone())).await;
    let mut heard = 0;
    while heard < 3 {
        names(&other).invalidate("k").await.unwrap();
        heard += 1;
    }
    tokio::time::sleep(BOUND).await;
    assert_eq!(far.calls(Op::Beat), beats);
    assert_eq!(tiered.metrics().since(&messages).iter().map(|(_, n)| n).sum::<u64>(), 0, "nothing is heard any more");
}

#[tokio::test]
async fn a_close_retries_what_was_not_acknowledged() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far).await;
    let cache = names(&tiered);
    cache.set("k", "v".into()).await.unwrap();
    far.fail_next_of(Op::Change, 1, ErrorKind::Unavailable);
    cache.invalidate("k").await.unwrap_err();
    assert_eq!(tiered.pending_invalidations(), 1);
    assert!(tiered.close().await);
    assert_eq!(tiered.pending_invalidations(), 0);
    assert_eq!(far.inner().read("strata:k:names:k").await.unwrap(), None);
}

#[tokio::test]
async fn a_close_does_not_ask_a_far_store_without_a_pause_that_does_not_answer() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far).await;
    far.partition(true);
    names(&tiered).invalidate("k").await.unwrap_err();
    let before = far.calls(Op::Beat);
    assert!(!tiered.close_within(Duration::from_secs(1)).await, "it can't be told");
    let beats = far.calls(Op::Beat) - before;
    assert!((2..=16).contains(&beats), "{beats} beats in a second");
}

#[tokio::test]
async fn a_close_ends_in_time_though_the_far_store_hangs() {
    let far = Chaos::new(Memory::new());
    let tiered = behind(&far).await;
    let cache = names(&tiered);
    cache.set("k", "v".into()).await.unwrap();
    far.hang();
    let change = tokio::spawn(async move { cache.invalidate("k").await });
    eventually("the change hangs", async || tiered.under_way() == 1).await;
    let begun = Instant::now();
    assert!(!tiered.close_within(Duration::from_millis(300)).await);
    assert!(begun.elapsed() < Duration::from_secs(5));
    far.unhang();
    change.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_close_that_is_dropped_refuses_calls_all_the_same() {
    let far = Memory::new();
    let tiered = node(&far).await;
    let load = hang(&tiered).await;
    let closing = tokio::time::timeout(Duration::from_millis(20), tiered.close()).await;
    assert!(closing.is_err());
    assert_eq!(names(&tiered).get("k").await.unwrap_err().kind(), ErrorKind::Closed);
    let lease = Frame::parse("strata:k:names:hung", &far.read("strata:k:names:hung").await.unwrap().unwrap().frame);
    assert_eq!(lease.unwrap().header.state, State::Lease, "the load goes on");
    assert!(!tiered.close_within(Duration::from_millis(100)).await);
    assert_eq!(load.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_tag_that_was_not_acknowledged_is_retried() {
    let far = Chaos::new(Memory::new());
    let (here, there) = (behind(&far).await, behind(&Chaos::new(far.inner().clone())).await);
    for all in [false, true] {
        let load = || async { Ok::<_, std::io::Error>(Loaded::value("v".to_owned()).tag("t")) };
        names(&there).load_with("k", load).await.unwrap();
        far.fail_next_of(Op::Bump, 2, ErrorKind::Unavailable);
        let refused = if all { here.clear().await } else { here.invalidate_tag("t").await };
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(here.pending_invalidations(), 1);
        eventually("it is done", async || here.pending_invalidations() == 0).await;
        eventually("the others hear of it", async || names(&there).get("k").await.unwrap().is_none()).await;
    }
}

#[test]
fn where_the_runtime_has_ended_on_which_it_was_built_a_call_says_so_at_once() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let home = runtime();
    let cache = home.block_on(async { names(&node(&Memory::new()).await) });
    drop(home);
    runtime().block_on(async {
        eventually("trust ends", async || cache.get("k").await.is_err()).await;
        let begun = Instant::now();
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("runtime"), "{error}");
        for key in ["one", "two", "three", "four"] {
            assert_eq!(cache.get_or_load(key, || ok("loaded")).await.unwrap().as_str(), "loaded");
        }
        assert!(begun.elapsed() < BOUND / 3 * 2, "calls wait for beats that nobody sends");
        assert!(cache.tiered().is_cut_off());
    });
}
