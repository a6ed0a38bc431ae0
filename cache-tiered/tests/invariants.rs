//! The invariants that are about coherence, by name: embedded, and over a far store. `docs/invariants.md` lists the rest.

mod common;

use std::sync::Arc;
use std::time::Duration;

use cache_core::memory::LocalMemory;
use cache_core::testkit::Chaos;
use cache_core::{Clock, LocalStore, Memory, Sweep, Tick, Ticks};
use cache_tiered::{Cache, Loaded, Tiered};
use common::{BOUND, alone, eventually, names, node, ok};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A loader that has read the old row and goes on when it is told to.
#[derive(Clone, Default)]
struct Dawdle {
    reading: Arc<Notify>,
    go: Arc<Notify>,
}

impl Dawdle {
    async fn old(self) -> Result<String, std::io::Error> {
        self.reading.notify_one();
        self.go.notified().await;
        Ok("old".to_owned())
    }
}

/// Every way in which a load that began before an invalidation may end after it.
async fn i1(loads: &Tiered, invalidates: &Tiered) {
    type Begin = fn(Cache<String>, Dawdle) -> JoinHandle<()>;
    let ways: [(&str, Begin); 4] = [
        ("foreground", |cache, slow| {
            tokio::spawn(async move { drop(cache.get_or_load("k", || slow.old()).await.unwrap()) })
        }),
        ("with tags of its own", |cache, slow| {
            tokio::spawn(async move {
                let load = || async move { slow.old().await.map(|value| Loaded::value(value).tag("t")) };
                drop(cache.load_with("k", load).await.unwrap());
            })
        }),
        ("batch", |cache, slow| {
            tokio::spawn(async move {
                let load = move |keys: Vec<&'static str>| {
                    let slow = slow.clone();
                    async move {
                        let value = slow.old().await?;
                        Ok::<_, std::io::Error>(
                            keys.into_iter().map(move |key| (key, value.clone())).collect::<Vec<_>>(),
                        )
                    }
                };
                drop(cache.get_many_or_load(&["k", "l"], load).await);
            })
        }),
        ("late: its caller is gone", |cache, slow| {
            let (joins, inner) = (cache.clone(), Dawdle { reading: Arc::default(), go: Arc::clone(&slow.go) });
            let reading = Arc::clone(&inner.reading);
            tokio::spawn(async move {
                let leader = tokio::spawn(async move { drop(cache.get_or_load("k", || inner.old()).await) });
                reading.notified().await;
                let joins = tokio::spawn(async move { drop(joins.get_or_load("k", || ok("never")).await) });
                tokio::task::yield_now().await;
                leader.abort();
                slow.reading.notify_one();
                joins.await.unwrap();
            })
        }),
    ];
    let (reader, writer) = (names(loads), names(invalidates));
    for (way, begin) in ways {
        writer.invalidate("k").await.unwrap();
        eventually("the key is gone", async || reader.get("k").await.unwrap().is_none()).await;
        let slow = Dawdle::default();
        let load = begin(reader.clone(), slow.clone());
        slow.reading.notified().await;
        writer.invalidate("k").await.unwrap();
        slow.go.notify_one();
        load.await.unwrap();
        for cache in [&reader, &writer] {
            assert!(cache.get("k").await.unwrap().is_none(), "{way}: the old value is there");
        }
        for cache in [&reader, &writer] {
            assert_eq!(*cache.get_or_load("k", || ok("new")).await.unwrap(), "new", "{way}");
        }
    }
}

#[tokio::test]
async fn i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_embedded() {
    let tiered = alone().await;
    i1(&tiered, &tiered).await;
}

#[tokio::test]
async fn i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_shared() {
    let far = Memory::new();
    let (one, other) = (node(&far).await, node(&far).await);
    i1(&one, &one).await;
    i1(&one, &other).await;
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
}

#[tokio::test]
async fn i7_after_a_lost_connection_nothing_older_than_the_gap_is_served_past_the_bound() {
    for heals in [true, false] {
        let memory = Memory::new();
        let far = Chaos::new(memory.clone());
        let near = LocalMemory::new(1 << 20);
        let strict = Tiered::builder().near(near).far(far.clone()).bound(BOUND).outage(Duration::ZERO);
        let reader = names(&strict.build().await.unwrap());
        reader.get_or_load("k", || ok("old")).await.unwrap();
        let writer = names(&node(&memory).await);
        far.partition(true);
        writer.set("k", "new".into()).await.unwrap();
        if heals {
            far.partition(false);
        }
        tokio::time::sleep(BOUND).await;
        for _ in 0..20 {
            match reader.get("k").await {
                Ok(value) => assert_eq!(value.as_deref().map(String::as_str), Some("new"), "healed: {heals}"),
                Err(_) => assert!(!heals, "the far store can be asked"),
            }
        }
        assert_eq!(*reader.get_or_load("k", || ok("new")).await.unwrap(), "new");
    }
}

async fn i8(here: &Tiered, there: &Tiered) {
    let (here, there) = (names(here), names(there));
    for round in 0..5 {
        here.set("k", format!("own {round}")).await.unwrap();
        assert_eq!(*here.get("k").await.unwrap().unwrap(), format!("own {round}"));
        there.set("k", format!("foreign {round}")).await.unwrap();
        eventually("the foreign write is seen", async || {
            here.get("k").await.unwrap().is_some_and(|value| *value == format!("foreign {round}"))
        })
        .await;
    }
}

#[tokio::test]
async fn i8_an_own_write_does_not_blind_for_the_next_foreign_one_embedded() {
    let tiered = alone().await;
    i8(&tiered, &tiered.clone()).await;
}

#[tokio::test]
async fn i8_an_own_write_does_not_blind_for_the_next_foreign_one_shared() {
    let far = Memory::new();
    i8(&node(&far).await, &node(&far).await).await;
    let polling = || async {
        let near = LocalMemory::new(1 << 20);
        Tiered::builder().near(near).far(far.clone()).bound(BOUND).polling().build().await.unwrap()
    };
    i8(&polling().await, &node(&far).await).await;
}

/// A clock that is hours off.
struct Skewed(i64);

impl Ticks for Skewed {
    fn now(&self) -> Tick {
        Clock::system().now()
    }

    fn unix_ms(&self) -> u64 {
        Clock::system().unix_ms().saturating_add_signed(self.0 * 3_600_000)
    }
}

async fn skewed(far: &Memory, hours: i64) -> Tiered {
    let near = LocalMemory::new(1 << 20);
    let clock = Clock::from_source(Skewed(hours));
    Tiered::builder().near(near).far(far.clone()).bound(BOUND).clock(clock).build().await.unwrap()
}

#[tokio::test]
async fn i9_tags_hold_under_skewed_clocks_lost_counters_and_cold_processes() {
    let far = Memory::new();
    let (early, late) = (skewed(&far, -7).await, skewed(&far, 9).await);
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("old".to_owned()).tag("t")) };
    let gone = async |who: &str, tiered: &Tiered| {
        eventually("the bump is heard", async || names(tiered).get("k").await.unwrap().is_none()).await;
        for _ in 0..5 {
            assert!(names(tiered).get("k").await.unwrap().is_none(), "{who}: it came back");
        }
    };
    for (who, writes, reads) in [("late", &late, &early), ("early", &early, &late)] {
        names(writes).load_with("k", load).await.unwrap();
        names(reads).load_with("k", load).await.unwrap();
        writes.invalidate_tag("t").await.unwrap();
        gone(who, writes).await;
        gone(who, reads).await;
        gone("a cold process", &skewed(&far, 30).await).await;
        // the bump is forgotten: what it ended must stay ended
        for key in far.keys("strata:tags:").await.unwrap() {
            assert!(far.evict(&key));
        }
        gone("a cold process without generations", &skewed(&far, 0).await).await;
        gone(who, reads).await;
        assert!(far.evict("strata:seq"));
        gone("a cold process without a sequence", &skewed(&far, 0).await).await;
        tokio::time::sleep(BOUND).await;
        gone(who, reads).await;
        names(writes).invalidate("k").await.unwrap();
    }
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
}

async fn i12(far: Option<Memory>) {
    let near: Arc<LocalMemory> = Arc::new(LocalMemory::new(64 << 10));
    let builder = Tiered::builder().shared_near(Arc::clone(&near) as Arc<dyn LocalStore>);
    let tiered = match far {
        Some(far) => builder.far(far).build().await.unwrap(),
        None => builder.build().await.unwrap(),
    };
    let cache = names(&tiered);
    for n in 0..2000_usize {
        // nothing, tiny, just over a share, nearly the budget, more than it
        let size = [0, 1, 700, 9_000, 60_000, 64 << 10, 200_000][n % 7];
        let key = format!("{:0>1$}", n, 1 + n % 200);
        cache.get_or_load(&key, move || async move { Ok::<_, std::io::Error>("x".repeat(size)) }).await.unwrap();
        if n % 3 == 0 {
            cache.set(&key, "y".repeat(size / 2)).await.unwrap();
            cache.get(&key).await.unwrap();
        }
        assert!(near.weight() <= near.budget(), "{} of {} bytes", near.weight(), near.budget());
    }
    assert!(!near.is_empty());
}

#[tokio::test]
async fn i12_near_memory_stays_within_its_budget_embedded() {
    i12(None).await;
}

#[tokio::test]
async fn i12_near_memory_stays_within_its_budget_shared() {
    i12(Some(Memory::new())).await;
}
