//! The coherence invariants over any far store: run over memory here, over servers in the workspace's own tests.

#![allow(clippy::future_not_send, reason = "a scenario stays in the thread of its test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::memory::LocalMemory;
use cache_core::observe::Metric;
use cache_core::{CacheService, Clock, LocalStore, Tick, Ticks};
use cache_tiered::{Cache, Loaded, Tiered};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::freshness::Far;
use super::{eventually, names, ok};

/// D in these scenarios: long enough for a busy machine with a server on it.
const BOUND: Duration = Duration::from_secs(1);

/// A connection, and the switch that cuts it and lets it be made again.
pub(crate) type Line = (Arc<dyn CacheService>, Box<dyn Fn(bool)>);

/// A far store whose connections can be cut.
pub(crate) trait Cuttable: Far {
    fn line(&self) -> impl Future<Output = Line>;
}

async fn node(far: &impl Far) -> Tiered {
    tiers(far).await.build().await.unwrap()
}

async fn tiers(far: &impl Far) -> cache_tiered::TieredBuilder {
    Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.connect().await).bound(BOUND)
}

/// A loader that has read the old row and goes on when it is told to.
#[derive(Clone, Default)]
pub(crate) struct Dawdle {
    pub(crate) reading: Arc<Notify>,
    pub(crate) go: Arc<Notify>,
}

impl Dawdle {
    pub(crate) async fn old(self) -> Result<String, std::io::Error> {
        self.reading.notify_one();
        self.go.notified().await;
        Ok("old".to_owned())
    }
}

/// Every way in which a load that began before an invalidation may end after it.
pub(crate) async fn i1(loads: &Tiered, invalidates: &Tiered) {
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

pub(crate) async fn i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_shared(far: impl Far) {
    let (one, other) = (node(&far).await, node(&far).await);
    i1(&one, &one).await;
    i1(&one, &other).await;
}

pub(crate) async fn i7_after_a_lost_connection_nothing_older_than_the_gap_is_served_past_the_bound(far: impl Cuttable) {
    let writer = names(&node(&far).await);
    for heals in [true, false] {
        let (line, cut) = far.line().await;
        let near = LocalMemory::new(1 << 20);
        let strict = Tiered::builder().near(near).far(line).bound(BOUND).outage(Duration::ZERO);
        let reader = names(&strict.build().await.unwrap());
        reader.get_or_load("k", || ok("old")).await.unwrap();
        cut(true);
        writer.set("k", "new".into()).await.unwrap();
        let changed = std::time::Instant::now();
        if heals {
            cut(false);
        }
        tokio::time::sleep(BOUND).await;
        for _ in 0..20 {
            match reader.get("k").await {
                Ok(value) => assert_eq!(value.as_deref().map(String::as_str), Some("new"), "healed: {heals}"),
                // a line that is made again takes its time
                Err(_) => assert!(!heals || changed.elapsed() < BOUND * 30, "the far store can be asked"),
            }
        }
        assert_eq!(*reader.get_or_load("k", || ok("new")).await.unwrap(), "new");
        cut(false);
        eventually("the line is made again", async || !reader.tiered().is_cut_off()).await;
        assert_eq!(*reader.get_or_load("k", || ok("new")).await.unwrap(), "new");
        writer.invalidate("k").await.unwrap();
    }
}

pub(crate) async fn i8(here: &Tiered, there: &Tiered) {
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

pub(crate) async fn i8_an_own_write_does_not_blind_for_the_next_foreign_one_shared(far: impl Far) {
    i8(&node(&far).await, &node(&far).await).await;
    let polling = tiers(&far).await.polling().build().await.unwrap();
    i8(&polling, &node(&far).await).await;
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

async fn skewed(far: &impl Far, hours: i64) -> Tiered {
    tiers(far).await.clock(Clock::from_source(Skewed(hours))).build().await.unwrap()
}

pub(crate) async fn i9_tags_hold_under_skewed_clocks_lost_counters_and_cold_processes(far: impl Far) {
    let store = far.connect().await;
    let (early, late) = (skewed(&far, -7).await, skewed(&far, 9).await);
    let load = || async { Ok::<_, std::io::Error>(Loaded::value("old".to_owned()).tag("t")) };
    let gone = async |who: &str, tiered: &Tiered| {
        eventually("the bump is heard", async || names(tiered).get("k").await.is_ok_and(|value| value.is_none())).await;
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
        // the bump is forgotten: what it ended must stay ended. Deleted by their plain names, as an eviction does
        for key in store.sweep().expect("keys can be listed").keys("strata:tags:").await.unwrap() {
            assert!(store.delete(&key).await.unwrap());
        }
        gone("a cold process without generations", &skewed(&far, 0).await).await;
        gone(who, reads).await;
        assert!(store.delete("strata:seq").await.unwrap());
        gone("a cold process without a sequence", &skewed(&far, 0).await).await;
        tokio::time::sleep(BOUND).await;
        gone(who, reads).await;
        names(writes).invalidate("k").await.unwrap();
    }
}

/// Of the near stores here.
pub(crate) const I12_BUDGET: u64 = 64 << 10;

pub(crate) async fn i12(far: Option<Arc<dyn CacheService>>) {
    i12_near(Arc::new(LocalMemory::new(I12_BUDGET)), far).await;
}

/// `near` is empty, and of [`I12_BUDGET`].
pub(crate) async fn i12_near(near: Arc<dyn LocalStore>, far: Option<Arc<dyn CacheService>>) {
    let builder = Tiered::builder().shared_near(Arc::clone(&near));
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
        // what a store defers is done by now
        near.settle();
        assert!(near.weight() <= near.budget(), "{} of {} bytes", near.weight(), near.budget());
        let mut held = 0;
        near.each(&mut |key, entry| {
            held += entry.weight(key.len());
            true
        });
        assert!(held <= near.budget(), "{held} bytes are held, {} are weighed", near.weight());
    }
    assert_eq!(near.budget(), I12_BUDGET);
    assert_ne!(near.len(), 0);
}

pub(crate) async fn i12_near_memory_stays_within_its_budget_shared(far: impl Far) {
    i12(Some(far.connect().await)).await;
}

pub(crate) async fn i4_ids_that_a_loader_omits_are_nothing_and_are_asked_for_once(far: impl Far) {
    let cache = names(&node(&far).await);
    let calls = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let counted = Arc::clone(&calls);
        let load = move |keys: Vec<&'static str>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let found = keys.into_iter().filter(|key| *key == "there").map(|key| (key, "v".to_owned()));
            std::future::ready(Ok::<_, std::io::Error>(found.collect::<Vec<_>>()))
        };
        let asked = tokio::time::timeout(BOUND * 10, cache.get_many_or_load(&["there", "gone", "too"], load));
        let found = asked.await.expect("it ends");
        let found: Vec<_> = found.into_iter().map(|value| value.unwrap().map(|value| value.to_string())).collect();
        assert_eq!(found, [Some("v".to_owned()), None, None]);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "that there is nothing is remembered too");
}

pub(crate) async fn i13_bytes_that_are_not_a_whole_frame_of_the_key_are_a_miss_and_a_count(far: impl Far) {
    let (store, tiered) = (far.connect().await, node(&far).await);
    let (cache, key) = (names(&tiered), "strata:k:names:k");
    cache.set("k", "v".into()).await.unwrap();
    cache.set("other", "theirs".into()).await.unwrap();
    let ours = store.get(key).await.unwrap().expect("it is stored");
    let mut flipped = ours.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut newer = ours.to_vec();
    newer[1] += 1;
    let misplaced = store.get("strata:k:names:other").await.unwrap().expect("it is stored");
    let wrong = [
        ("foreign", Bytes::from_static(b"{\"name\":\"ada\"}")),
        ("cut", ours.slice(..ours.len() - 1)),
        ("flipped", flipped.into()),
        ("of another format", newer.into()),
        ("of another key", misplaced),
    ];
    for (what, bytes) in wrong {
        let before = tiered.metrics().get(Metric::Malformed);
        // its own process holds no near entry after this
        cache.invalidate("k").await.unwrap();
        store.set(key, bytes, BOUND * 100).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none(), "{what}");
        assert!(tiered.metrics().get(Metric::Malformed) > before, "{what} is not counted");
        assert_eq!(*cache.get_or_load("k", || ok("loaded")).await.unwrap(), "loaded");
        assert_eq!(
            names(&node(&far).await).get("k").await.unwrap().as_deref().map(String::as_str),
            Some("loaded"),
            "{what}"
        );
    }
}
