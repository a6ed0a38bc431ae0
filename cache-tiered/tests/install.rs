//! What the model of the protocol found in the engine: how entries get into the near store, and what joiners are told.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::testkit::Chaos;
use cache_core::{Bus, CacheService, Change, Entry, Line, LocalStore, Memory, NodeId, memory::LocalMemory};
use cache_tiered::{Cache, Freshness, Loaded, StaleReason, Tier, Tiered};
use common::{BOUND, dawdle, eventually, names, ok};
use tokio::sync::Notify;

/// A near store that counts entries that are put valid already, and can be made to find nothing.
#[derive(Debug)]
struct Watched {
    inner: LocalMemory,
    valid: AtomicU32,
    blind: AtomicBool,
}

impl Watched {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: LocalMemory::new(1 << 20), valid: AtomicU32::new(0), blind: AtomicBool::new(false) })
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Watched>);

impl LocalStore for Shared {
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.0.inner.get(key).filter(|_| !self.0.blind.load(Ordering::SeqCst))
    }
    fn put(&self, key: &str, entry: Arc<Entry>) {
        self.0.valid.fetch_add(u32::from(entry.epoch() != 0), Ordering::SeqCst);
        self.0.inner.put(key, entry);
    }
    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        self.0.inner.remove(key)
    }
    fn clear(&self) {
        self.0.inner.clear();
    }
    fn len(&self) -> u64 {
        self.0.inner.len()
    }
    fn weight(&self) -> u64 {
        self.0.inner.weight()
    }
    fn budget(&self) -> u64 {
        self.0.inner.budget()
    }
    fn settle(&self) {
        self.0.inner.settle();
    }
    fn each(&self, visit: &mut dyn FnMut(&str, &Arc<Entry>) -> bool) {
        self.0.inner.each(visit);
    }
}

async fn watched(far: &Arc<Chaos<Memory>>) -> (Tiered, Arc<Watched>) {
    let near = Watched::new();
    let tiered = Tiered::builder().near(Shared(Arc::clone(&near))).far(Arc::clone(far)).bound(BOUND);
    (tiered.build().await.unwrap(), near)
}

/// Changes `key` so that nobody hears of it before the next beat.
async fn change_unheard(far: &Memory, key: &str) {
    let line = Line { seq: "strata:seq".into(), channel: "nobody".into(), tags: "strata:tags:".into() };
    far.change(&line, NodeId(0), &[key], Change::Delete).await.unwrap();
}

#[tokio::test]
async fn entries_enter_the_near_store_before_they_are_valid() {
    let far = Arc::new(Chaos::new(Memory::new()));
    let (tiered, near) = watched(&far).await;
    let names = names(&tiered);
    // from here on it is known which tags were bumped, so that entries can prove themselves
    tiered.invalidate_tag("any").await.unwrap();
    names.get_or_load("k", || ok("v")).await.unwrap();
    let epochs = tiered.metrics().get(Metric::EpochBump);
    change_unheard(far.inner(), "strata:k:names:other").await;
    eventually("a gap is found", async || tiered.metrics().get(Metric::EpochBump) > epochs).await;
    assert_eq!(names.lookup("k").await.unwrap().unwrap().tier, Tier::Near);
    assert_eq!(tiered.metrics().get(Metric::Revalidated), 1);
    far.partition(true);
    eventually("cut off", async || tiered.is_cut_off()).await;
    names.get_or_load("other", || ok("v")).await.unwrap();
    assert!(names.get("other").await.unwrap().is_some());
    assert_eq!(near.valid.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_value_that_is_told_and_not_kept_is_not_followed_by_an_older_near_one() {
    let far = Arc::new(Chaos::new(Memory::new()));
    let (tiered, near) = watched(&far).await;
    let names = names(&tiered);
    names.get_or_load("k", || ok("old")).await.unwrap();
    change_unheard(far.inner(), "strata:k:names:k").await;
    near.blind.store(true, Ordering::SeqCst);
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("new".to_owned()).unstored()) };
    assert_eq!(names.load_with("k", load).await.unwrap().value.unwrap().as_str(), "new");
    near.blind.store(false, Ordering::SeqCst);
    assert_ne!(names.get("k").await.unwrap().as_deref().map(String::as_str), Some("old"));
}

/// rueidisaside answers such a load as if its value were kept.
#[tokio::test]
async fn a_value_whose_fill_was_refused_is_told_and_kept_nowhere() {
    let far = Memory::new();
    // no beat comes to help
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(Duration::from_secs(60));
    let tiered = tiered.build().await.unwrap();
    let names = names(&tiered);
    let (load, go) = dawdle(&names, "read before").await;
    // the lease is gone, and this process hears nothing of it
    change_unheard(&far, "strata:k:names:k").await;
    go.notify_one();
    assert_eq!(load.await.unwrap().as_str(), "read before", "its own caller has asked before the change");
    let count = |metric| tiered.metrics().get(metric);
    assert_eq!((count(Metric::FillRejected), count(Metric::Filled)), (1, 0));
    assert!(!far.exists("strata:k:names:k").await.unwrap(), "not far");
    assert!(names.lookup("k").await.unwrap().is_none(), "not near");
    let answer =
        names.load_with("k", || async { Ok::<_, std::io::Error>("read after".to_owned().into()) }).await.unwrap();
    assert_eq!((answer.value.unwrap().as_str(), answer.tier), ("read after", Tier::Origin));
}

#[tokio::test]
async fn whoever_joins_an_old_flight_while_cut_off_is_told_how_old_it_may_be() {
    let far = Arc::new(Chaos::new(Memory::new()));
    let (tiered, _) = watched(&far).await;
    let (reading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load = |cache: Cache<String>| {
        let (reading, go) = (Arc::clone(&reading), Arc::clone(&go));
        tokio::spawn(async move {
            let load = || async move {
                reading.notify_one();
                go.notified().await;
                Ok::<_, std::io::Error>(Loaded::value("v".to_owned()))
            };
            cache.load_with("k", load).await.unwrap().freshness
        })
    };
    let first = load(names(&tiered));
    reading.notified().await;
    far.partition(true);
    eventually("cut off", async || tiered.is_cut_off()).await;
    let second = load(names(&tiered));
    eventually("it has joined", async || tiered.metrics().get(Metric::Joined) == 1).await;
    go.notify_one();
    assert_eq!(first.await.unwrap(), Freshness::Fresh);
    assert_eq!(second.await.unwrap(), Freshness::Stale(StaleReason::Unconfirmed));
}

#[tokio::test]
async fn a_get_after_a_tag_was_invalidated_is_not_answered_by_a_load_from_before() {
    let far = Arc::new(Chaos::new(Memory::new()));
    let (tiered, _) = watched(&far).await;
    let (reading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = {
        let (cache, reading, go) = (names(&tiered), Arc::clone(&reading), Arc::clone(&go));
        tokio::spawn(async move {
            let load = || async move {
                reading.notify_one();
                go.notified().await;
                Ok::<_, std::io::Error>(Loaded::value("old".to_owned()).tag("t"))
            };
            cache.load_with("k", load).await.unwrap().value
        })
    };
    reading.notified().await;
    tiered.invalidate_tag("t").await.unwrap();
    let second = {
        let cache = names(&tiered);
        tokio::spawn(async move { cache.get_or_load("k", || ok("new")).await.unwrap() })
    };
    eventually("it has joined", async || tiered.metrics().get(Metric::Joined) == 1).await;
    go.notify_one();
    assert_eq!(first.await.unwrap().unwrap().as_str(), "old", "its own caller began before");
    assert_eq!(second.await.unwrap().as_str(), "new");
}

#[tokio::test]
async fn a_tag_is_invalid_at_once_also_when_the_far_store_could_not_number_the_change() {
    let far = Arc::new(Chaos::new(Memory::new()));
    let (tiered, _) = watched(&far).await;
    let names = names(&tiered);
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("old".to_owned()).tag("t")) };
    names.load_with("k", load).await.unwrap();
    assert_eq!(names.lookup("k").await.unwrap().unwrap().tier, Tier::Near);
    // a sequence that can't be counted on
    far.inner().set("strata:seq", "none".into(), Duration::from_secs(60)).await.unwrap();
    tiered.invalidate_tag("t").await.unwrap();
    assert!(names.get("k").await.unwrap().is_none());
}
