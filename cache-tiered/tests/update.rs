//! Read-modify-write.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::memory::LocalMemory;
use cache_core::observe::Metric;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{Atomic, CacheService, Clock, ErrorKind, Frame, Header, Memory, Result, Stamp, Tags};
use cache_tiered::{Cache, Loaded, Tiered, Update};
use common::{BOUND, alone, eventually, names, node, ok};

/// One more than what is there.
fn plus_one(old: Option<Arc<String>>) -> Update<String> {
    let sum = old.map_or(0, |text| text.parse::<u64>().unwrap()) + 1;
    Update::from(sum.to_string())
}

async fn get(cache: &Cache<String>) -> Option<String> {
    cache.get("k").await.unwrap().map(|value| value.to_string())
}

/// A store that tells nobody.
#[derive(Clone, Debug)]
struct Silent {
    store: Memory,
    /// Whether it can compare and set.
    compares: bool,
}

#[async_trait]
impl CacheService for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.store.get(key).await
    }
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.store.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        self.store.delete(key).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        self.store.exists(key).await
    }
    fn atomic(&self) -> Option<&dyn Atomic> {
        self.store.atomic().filter(|_| self.compares)
    }
}

async fn silent(far: &Silent) -> Tiered {
    let near = LocalMemory::new(1 << 20);
    Tiered::builder().near(near).far(far.clone()).incoherent(Duration::from_secs(60)).build().await.unwrap()
}

async fn no_update_is_lost(nodes: &[Tiered]) {
    const TASKS: usize = 6;
    const EACH: usize = 20;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let cache = names(&nodes[task % nodes.len()]);
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let slow = |old| {
                        std::thread::sleep(Duration::from_micros(200));
                        plus_one(old)
                    };
                    cache.update("k", slow).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let sum = names(&nodes[0]).update("k", |_| Update::Leave).await.unwrap().unwrap();
    assert_eq!(*sum, (TASKS * EACH).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost_among_processes() {
    let far = Memory::new();
    no_update_is_lost(&[node(&far).await, node(&far).await, node(&far).await]).await;
    common::audit::at_the_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost_without_a_far_store() {
    no_update_is_lost(&[alone().await]).await;
    common::audit::at_the_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost_where_nobody_is_told() {
    let far = Silent { store: Memory::new(), compares: true };
    no_update_is_lost(&[silent(&far).await, silent(&far).await]).await;
}

#[tokio::test]
async fn an_update_is_seen_at_once_here_and_soon_elsewhere() {
    let far = Memory::new();
    for (shared, here, there) in [(true, node(&far).await, node(&far).await), (false, alone().await, alone().await)] {
        let cache = names(&here);
        assert_eq!(cache.update("k", plus_one).await.unwrap().unwrap().as_str(), "1");
        assert_eq!(get(&cache).await.as_deref(), Some("1"));
        let there = shared.then(|| names(&there));
        if let Some(there) = &there {
            assert_eq!(get(there).await.as_deref(), Some("1"));
        }
        assert_eq!(cache.update("k", plus_one).await.unwrap().unwrap().as_str(), "2");
        assert_eq!(get(&cache).await.as_deref(), Some("2"));
        if let Some(there) = &there {
            eventually("the other process sees it", async || get(there).await.as_deref() == Some("2")).await;
        }
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_update_may_leave_things_alone_or_remove_them() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await, silent(&Silent { store: Memory::new(), compares: true }).await] {
        let cache = names(&tiered);
        assert!(cache.update("k", |_| Update::Leave).await.unwrap().is_none());
        assert!(cache.update("k", |_| Update::Remove).await.unwrap().is_none());
        cache.set("k", "v".into()).await.unwrap();
        assert_eq!(cache.update("k", |_| Update::Leave).await.unwrap().unwrap().as_str(), "v");
        let unstored = cache.update("k", |_| Loaded::value("w".to_owned()).unstored().into()).await.unwrap();
        assert_eq!(unstored.unwrap().as_str(), "v");
        assert_eq!(get(&cache).await.as_deref(), Some("v"));
        assert!(cache.update("k", |_| Update::Remove).await.unwrap().is_none());
        assert_eq!(get(&cache).await, None);
        assert_eq!(*cache.get_or_load("k", || ok("loaded")).await.unwrap(), "loaded");
        assert!(cache.update("k", |_| Loaded::nothing().into()).await.unwrap().is_none());
        assert!(
            cache.find_or_load("k", || async { Ok::<_, std::io::Error>(Some("x".into())) }).await.unwrap().is_none()
        );
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn what_may_not_be_served_is_nothing_to_an_update() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        let given_none = async |what: &str| {
            let mut given = None;
            cache
                .update("k", |old| {
                    given = Some(old);
                    Update::Leave
                })
                .await
                .unwrap();
            assert_eq!(given, Some(None), "{what}");
        };
        given_none("a miss").await;
        cache.store("k", Loaded::nothing()).await.unwrap();
        given_none("a remembered nothing").await;
        cache.store("k", Loaded::value("v".into()).tag("t")).await.unwrap();
        tiered.invalidate_tag("t").await.unwrap();
        given_none("a value whose tag was invalidated").await;
        cache.set("k", "v".into()).await.unwrap();
        cache.invalidate("k").await.unwrap();
        given_none("an invalidated value").await;
        cache.store("k", Loaded::value("v".into()).ttl(Duration::from_millis(20))).await.unwrap();
        eventually("it expires", async || get(&cache).await.is_none()).await;
        given_none("an expired value").await;
        // and such a value does not stand in the way of a new one
        cache.store("k", Loaded::value("v".into()).tag("t")).await.unwrap();
        tiered.invalidate_tag("t").await.unwrap();
        assert_eq!(cache.update("k", plus_one).await.unwrap().unwrap().as_str(), "1");
        assert_eq!(get(&cache).await.as_deref(), Some("1"));
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_update_keeps_tags_and_row_version() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        cache.store("k", Loaded::value("1".into()).tag("t").row(7)).await.unwrap();
        cache.update("k", plus_one).await.unwrap();
        assert_eq!(cache.lookup("k").await.unwrap().unwrap().row, 7);
        tiered.invalidate_tag("t").await.unwrap();
        assert_eq!(get(&cache).await, None);
        cache.store("k", Loaded::value("1".into()).tag("t").row(7)).await.unwrap();
        cache.update("k", |_| Loaded::value("2".to_owned()).tag("u").row(8).into()).await.unwrap();
        tiered.invalidate_tag("t").await.unwrap();
        assert_eq!(cache.lookup("k").await.unwrap().unwrap().row, 8);
    }
    common::audit::at_the_end().await;
}

/// Runs to its end what never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

const FAR_KEY: &str = "strata:k:names:k";

/// Puts a value with a stamp of its own, as another process would.
fn overtake(far: &Memory, text: &str) {
    let held = now(far.get(FAR_KEY)).unwrap().unwrap();
    let header = Header { stamp: Stamp::random(), ..Header::parse(&held).unwrap() };
    let frame = Frame { header, tags: Tags::default(), payload: Bytes::copy_from_slice(text.as_bytes()) };
    now(far.set(FAR_KEY, frame.to_bytes(FAR_KEY), Duration::from_secs(60))).unwrap();
}

#[tokio::test]
async fn an_update_that_was_overtaken_runs_again_on_what_is_there() {
    let far = Memory::new();
    let cache = names(&node(&far).await);
    cache.set("k", "1".into()).await.unwrap();
    let mut given = Vec::new();
    let stands = cache.update("k", |old| {
        given.push(old.as_ref().unwrap().to_string());
        if given.len() == 1 {
            overtake(&far, "10");
        }
        plus_one(old)
    });
    assert_eq!(stands.await.unwrap().unwrap().as_str(), "11");
    assert_eq!(given, ["1", "10"]);
    assert_eq!(get(&cache).await.as_deref(), Some("11"));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_value_that_keeps_changing_is_a_conflict() {
    let far = Memory::new();
    let (clock, hand) = Clock::manual();
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).clock(clock).build().await.unwrap();
    let cache = names(&tiered);
    cache.set("k", "1".into()).await.unwrap();
    let mut tries = 0;
    let error = cache.update("k", |old| {
        tries += 1;
        hand.advance(Duration::from_secs(1));
        overtake(&far, "1");
        plus_one(old)
    });
    let error = error.await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Conflict, Some("update")));
    assert_eq!(tries, 5);
}

#[tokio::test]
async fn an_update_of_a_value_whose_tag_was_invalidated_meanwhile_does_not_stand() {
    let far = Memory::new();
    let (here, there) = (node(&far).await, node(&far).await);
    let cache = names(&here);
    cache.store("k", Loaded::value("1".into()).tag("t")).await.unwrap();
    // the bump comes while the update computes
    let bump = tokio::runtime::Handle::current();
    let (started, done) = std::sync::mpsc::channel::<()>();
    let slow = tokio::task::spawn_blocking(move || {
        bump.block_on(cache.update("k", |old| {
            started.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            while here_has_not_heard(&here) {
                std::thread::yield_now();
            }
            plus_one(old)
        }))
        .unwrap();
        (cache, here)
    });
    tokio::task::spawn_blocking(move || done.recv()).await.unwrap().unwrap();
    there.invalidate_tag("t").await.unwrap();
    let (cache, _here) = slow.await.unwrap();
    assert_eq!(get(&cache).await, None, "what was made of an invalid value is invalid");
    common::audit::at_the_end().await;
}

fn here_has_not_heard(here: &Tiered) -> bool {
    here.metrics().get(Metric::BusMessage) < 2
}

#[tokio::test]
async fn an_update_waits_for_a_guarded_write() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        cache.set("k", "1".into()).await.unwrap();
        let guard = cache.write_guard(&["k"], Duration::from_secs(30)).await.unwrap();
        let tries = Arc::new(AtomicUsize::new(0));
        let update = tokio::spawn({
            let (cache, tries) = (cache.clone(), Arc::clone(&tries));
            async move {
                cache
                    .update("k", |old| {
                        tries.fetch_add(1, Ordering::SeqCst);
                        plus_one(old)
                    })
                    .await
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!update.is_finished(), "nothing is stored under the guard");
        guard.commit().await.unwrap();
        assert_eq!(update.await.unwrap().unwrap().unwrap().as_str(), "1", "the commit removed the old value");
        assert!(tries.load(Ordering::SeqCst) > 0);
        assert_eq!(get(&cache).await.as_deref(), Some("1"));
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_update_whose_reply_is_lost_is_not_undone() {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(BOUND).build().await.unwrap();
    let cache = names(&tiered);
    cache.set("k", "1".into()).await.unwrap();
    assert_eq!(get(&cache).await.as_deref(), Some("1"));
    let error = cache.update("k", |old| {
        far.fail_next_of(Op::Beat, 1, ErrorKind::Timeout);
        far.lose_replies(1);
        plus_one(old)
    });
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(tiered.pending_invalidations(), 0, "either value is good");
    assert_eq!(get(&cache).await.as_deref(), Some("2"), "nor does this process serve what it held before");
    let beats = tiered.metrics().get(Metric::Beat);
    eventually("two more beats", async || tiered.metrics().get(Metric::Beat) >= beats + 2).await;
    assert_eq!(get(&cache).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_store_that_can_not_compare_refuses_updates() {
    let ttl = Duration::from_secs(60);
    let tiered =
        Tiered::builder().far(Silent { store: Memory::new(), compares: false }).incoherent(ttl).build().await.unwrap();
    let error = names(&tiered).update("k", plus_one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_bad_update_touches_nothing() {
    let far = Memory::builder().max_value(200).build();
    let tiered = node(&far).await;
    let cache = names(&tiered);
    cache.set("k", "v".into()).await.unwrap();
    let large = cache.update("k", |_| Update::from("x".repeat(1000))).await.unwrap_err();
    assert_eq!(large.kind(), ErrorKind::TooLarge);
    let brief = cache.update("k", |_| Loaded::value("x".to_owned()).ttl(Duration::ZERO).into()).await.unwrap_err();
    assert_eq!(brief.kind(), ErrorKind::Invalid);
    assert_eq!(cache.update("", plus_one).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(get(&cache).await.as_deref(), Some("v"));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_version_is_not_set_where_an_older_one_could_replace_it() {
    let tiered = silent(&Silent { store: Memory::new(), compares: true }).await;
    let error = names(&tiered).set_versioned("k", "two".into(), 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(get(&names(&tiered)).await, None);
}
