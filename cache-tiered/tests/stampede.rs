//! One load a key: what must not multiply loads, hold callers, or leave a lease behind.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cache_core::observe::Metric;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, ErrorKind, Memory, codec::Raw};
use cache_tiered::{Cache, Loaded, Policy};
use common::batch::{Gate, answer, chaos, nothing_is_left, slow_chaos};
use common::{alone, eventually, names, node, ok, soon};
use tokio::sync::Notify;

/// Counts loads, and how many run at once.
#[derive(Clone, Default)]
struct Loads(Arc<(AtomicU32, AtomicU32, AtomicU32)>);

impl Loads {
    /// A load that takes a moment.
    async fn run(self, answer: io::Result<&str>) -> io::Result<String> {
        let (all, now, most) = &*self.0;
        let n = all.fetch_add(1, Ordering::SeqCst);
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5 + u64::from(n % 3))).await;
        now.fetch_sub(1, Ordering::SeqCst);
        answer.map(str::to_owned)
    }

    fn all(&self) -> u32 {
        self.0.0.load(Ordering::SeqCst)
    }

    fn most_at_once(&self) -> u32 {
        self.0.2.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_plain_get_in_flight_does_not_break_coalescing() {
    let (far, tiered) = chaos(&Memory::new()).await;
    let cache = names(&tiered);
    let loads = Loads::default();
    far.slow(Duration::from_millis(20));
    let get = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("k").await }
    });
    eventually("the read is under way", async || far.calls(Op::Get) == 1).await;
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move { cache.get_or_load("k", || loads.run(Ok("v"))).await })
        })
        .collect();
    assert!(get.await.unwrap().unwrap().is_none());
    for caller in callers {
        assert_eq!(*soon(caller).await.unwrap().unwrap(), "v");
    }
    assert_eq!(loads.all(), 1);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn different_calls_for_a_key_do_not_load_it_twice() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        let loads = Loads::default();
        let (a, b, c, d) = (loads.clone(), loads.clone(), loads.clone(), loads.clone());
        let many = move |keys: Vec<&'static str>| {
            let d = d.clone();
            async move {
                let value = d.run(Ok("v")).await?;
                Ok::<_, io::Error>(keys.into_iter().map(move |key| (key, value.clone())).collect::<Vec<_>>())
            }
        };
        let (one, two, three, four) = tokio::join!(
            cache.get_or_load("k", || a.run(Ok("v"))),
            cache.find_or_load("k", || async { b.run(Ok("v")).await.map(Some) }),
            cache.load_with("k", || async { c.run(Ok("v")).await.map(Loaded::value) }),
            cache.get_many_or_load(&["k"], many),
        );
        four.into_iter().next().unwrap().unwrap().unwrap();
        assert_eq!((one.unwrap().as_str(), two.unwrap().unwrap().as_str()), ("v", "v"));
        assert!(three.unwrap().value.is_some());
        assert_eq!(loads.all(), 1);
    }
    common::audit::at_the_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_between_do_not_let_two_loads_run_at_once() {
    let far = Memory::new();
    let nodes = [node(&far).await, node(&far).await];
    let policy = || Policy::minutes(5).backoff(None);
    let caches: Vec<Cache<String>> =
        nodes.iter().map(|node| node.cache("names").codec(Raw).policy(policy()).build().unwrap()).collect();
    let loads = Loads::default();
    let callers: Vec<_> = (0..40_u64)
        .map(|n| {
            let (cache, loads) = (caches[usize::try_from(n).unwrap() % 2].clone(), loads.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                let answer = move || if n < 30 { Err(io::Error::other("not yet")) } else { Ok("v") };
                cache.get_or_load("k", move || loads.run(answer())).await.is_ok()
            })
        })
        .collect();
    let mut good = 0;
    for caller in callers {
        good += u32::from(caller.await.unwrap());
    }
    assert!(good > 0 && loads.all() > 1, "{good} of 40 were served, by {} loads", loads.all());
    assert_eq!(loads.most_at_once(), 1);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_far_error_under_the_leader_does_not_hold_its_followers() {
    let (far, tiered) = chaos(&Memory::new()).await;
    let cache = names(&tiered);
    for op in [Op::Read, Op::Lease, Op::Fill] {
        let key = format!("{op:?}");
        far.fail_next_of(op, 1, ErrorKind::Unavailable);
        far.slow(Duration::from_millis(10));
        let begun = Instant::now();
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (cache, key) = (cache.clone(), key.clone());
                tokio::spawn(async move { cache.get_or_load(key.as_str(), || ok("v")).await })
            })
            .collect();
        for caller in callers {
            assert_eq!(*soon(caller).await.unwrap().unwrap(), "v");
        }
        // a lease lasts five seconds
        assert!(begun.elapsed() < Duration::from_secs(3), "{key}: {:?}", begun.elapsed());
        far.slow(Duration::ZERO);
    }
    eventually("nothing is in flight", async || tiered.in_flight() == 0).await;
    common::audit::at_the_end().await;
}

/// What is dropped with a load.
struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn loads_past_their_deadline_do_not_pile_up() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let policy = Policy::minutes(5).hard_timeout(Duration::from_millis(50)).backoff(None);
        let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
        let running = Arc::new(AtomicU32::new(0));
        for _ in 0..5 {
            let running = Arc::clone(&running);
            let hang = || async move {
                running.fetch_add(1, Ordering::SeqCst);
                let _running = Running(running);
                std::future::pending::<io::Result<String>>().await
            };
            assert_eq!(cache.get_or_load("k", hang).await.unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(running.load(Ordering::SeqCst), 0, "they go on though nobody waits for them");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_load_longer_than_its_lease_is_neither_thrown_away_nor_repeated() {
    let far = Memory::new();
    let short = async || {
        let near = cache_core::memory::LocalMemory::new(1 << 20);
        let builder = cache_tiered::Tiered::builder().near(near).far(far.clone()).bound(common::BOUND);
        builder.lease(Duration::from_millis(300)).build().await.unwrap()
    };
    let (a, b) = (short().await, short().await);
    let calls = Arc::new(AtomicU32::new(0));
    let load = |cache: Cache<String>| {
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            let slow = || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1000)).await;
                Ok::<_, io::Error>("v".to_owned())
            };
            cache.get_or_load("k", slow).await.unwrap()
        })
    };
    let (one, two) = (load(names(&a)), load(names(&b)));
    assert_eq!((one.await.unwrap().as_str(), two.await.unwrap().as_str()), ("v", "v"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(a.metrics().get(Metric::FillRejected) + b.metrics().get(Metric::FillRejected), 0);
}

#[tokio::test]
async fn a_load_that_is_not_stored_leaves_no_lease() {
    let memory = Memory::builder().max_value(300).build();
    let (far, tiered) = chaos(&memory).await;
    let cache = names(&tiered);
    let unstored = || async { Ok::<_, io::Error>(Loaded::value("v".to_owned()).unstored()) };
    cache.load_with("unstored", unstored).await.unwrap();
    cache.get_or_load("large", || async { Ok::<_, io::Error>("x".repeat(1000)) }).await.unwrap();
    far.fail_next_of(Op::Fill, 1, ErrorKind::Unavailable);
    cache.get_or_load("refused", || ok("v")).await.unwrap();
    let keys = ["unstored", "large", "refused"].map(str::to_owned);
    nothing_is_left(&tiered, &memory, &keys).await;
    let other = names(&node(&memory).await);
    for key in &keys {
        let begun = Instant::now();
        other.get_or_load(key.as_str(), || ok("again")).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{key} is held");
    }
    common::audit::at_the_end().await;
}

/// sturdyc answers as if all had gone well if the first call that it joined failed and the second did not.
#[tokio::test]
async fn one_flights_success_does_not_swallow_anothers_error() {
    let far = Memory::new();
    for tiered in [node(&far).await, alone().await] {
        let cache = names(&tiered);
        for (bad, good) in [("a", "b"), ("d", "c")] {
            let gate = Gate::default();
            let fails = {
                let (cache, go) = (cache.clone(), Arc::clone(&gate.go));
                let began = Arc::new(Notify::new());
                let told = Arc::clone(&began);
                let task = tokio::spawn(async move {
                    let load = || async move {
                        told.notify_one();
                        go.notified().await;
                        Err::<String, _>(io::Error::other("no such table"))
                    };
                    cache.get_or_load(bad, load).await
                });
                soon(began.notified()).await;
                task
            };
            let works = {
                let (cache, loader) = (cache.clone(), gate.many());
                tokio::spawn(async move { cache.get_many_or_load(&[good.to_owned()], loader).await })
            };
            soon(gate.began.notified()).await;
            let joined = tiered.metrics().get(Metric::Joined);
            let both = {
                let cache = cache.clone();
                let never = |keys: Vec<String>| async { Ok::<_, io::Error>(keys.into_iter().map(answer)) };
                tokio::spawn(async move { cache.get_many_or_load(&[bad.to_owned(), good.to_owned()], never).await })
            };
            eventually("it joined both", async || tiered.metrics().get(Metric::Joined) == joined + 2).await;
            gate.go.notify_one();
            gate.go.notify_one();
            let both = soon(both).await.unwrap();
            assert_eq!(both[0].as_ref().unwrap_err().kind(), ErrorKind::Loader);
            assert!(both[1].as_ref().unwrap().is_some());
            assert!(fails.await.unwrap().is_err());
            works.await.unwrap();
        }
    }
    common::audit::at_the_end().await;
}

/// An error of the far store is told as one: it is no miss, and not the end of a load either.
#[tokio::test]
async fn an_error_of_the_far_store_is_not_taken_for_a_miss_and_does_not_fail_a_load() {
    let (far, tiered) = chaos(&Memory::new()).await;
    let cache = names(&tiered);
    far.fail_next_of(Op::Get, 1, ErrorKind::Timeout);
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Timeout);
    for op in [Op::Read, Op::Lease, Op::Fill] {
        far.fail_next_of(op, 1, ErrorKind::Timeout);
        assert_eq!(*cache.get_or_load(&format!("{op:?}"), || ok("v")).await.unwrap(), "v");
    }
    assert!(far.inner().get("strata:k:names:k").await.unwrap().is_none());
    common::audit::at_the_end().await;
}

/// FusionCache's soft timeout does not count while the far store is asked.
#[tokio::test]
async fn a_slow_far_store_does_not_hold_a_caller_that_has_a_fallback() {
    let (far, tiered) = chaos(&Memory::new()).await;
    let policy = Policy::from(Duration::from_millis(50))
        .jitter(0.0)
        .fail_safe(Duration::from_secs(60))
        .soft_timeout(Duration::from_millis(100));
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    cache.get_or_load("k", || ok("old")).await.unwrap();
    eventually("past its time", async || cache.get("k").await.unwrap().is_none()).await;
    far.slow(Duration::from_secs(3));
    let begun = Instant::now();
    assert_eq!(*cache.get_or_load("k", || ok("new")).await.unwrap(), "old");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    far.slow(Duration::ZERO);
    eventually("the load goes on", async || cache.get("k").await.unwrap().is_some_and(|value| *value == "new")).await;
    common::audit::at_the_end().await;
}

/// The soft timeout is for the call, not for each of the stores and origins that it asks.
#[tokio::test]
async fn the_time_that_a_far_store_takes_is_part_of_the_soft_timeout() {
    let soft = Duration::from_millis(300);
    let (far, tiered) = slow_chaos(&Memory::new()).await;
    let policy =
        Policy::from(Duration::from_millis(50)).jitter(0.0).fail_safe(Duration::from_secs(60)).soft_timeout(soft);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    cache.get_or_load("k", || ok("old")).await.unwrap();
    eventually("past its time", async || cache.get("k").await.unwrap().is_none()).await;
    far.slow(soft * 2 / 3);
    let begun = Instant::now();
    let hangs = || std::future::pending::<io::Result<String>>();
    assert_eq!(*cache.get_or_load("k", hangs).await.unwrap(), "old");
    assert!(begun.elapsed() < soft * 5 / 3, "{:?} for a soft timeout of {soft:?}", begun.elapsed());
    tiered.close().await;
    common::audit::at_the_end().await;
}
