//! What a dead far store costs: one short deadline for a few requests, nothing for near hits.

mod common;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use cache_core::codec::Raw;
use cache_core::memory::LocalMemory;
use cache_core::observe::Metric;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, Clock, ErrorKind, Memory};
use cache_tiered::{Loaded, Policy, Tiered};
use common::{eventually, names, ok, soon};
use tokio::sync::Notify;

/// What the store's own deadline is.
const DEADLINE: Duration = Duration::from_millis(200);

/// From now on every call is swallowed and ends at its deadline.
fn stall(far: &Chaos<Memory>) {
    far.slow(DEADLINE);
    far.lose_replies(u64::MAX);
}

/// Calls of requests: beats are the process's own.
fn calls(far: &Chaos<Memory>) -> u64 {
    far.total_calls() - far.calls(Op::Beat)
}

#[tokio::test]
async fn a_dead_far_store_costs_a_request_at_most_one_deadline_and_a_near_hit_nothing() {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    // trusted throughout: what is measured is the breaker, not the outage rule
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    let cache = names(&tiered);
    cache.get_or_load("hot", || ok("v")).await.unwrap();
    stall(&far);
    let (before, begun) = (calls(&far), Instant::now());
    let mut slow = 0;
    for n in 0..300 {
        let asked = calls(&far);
        let one = Instant::now();
        assert_eq!(*cache.get_or_load(&n.to_string(), || ok("loaded")).await.unwrap(), "loaded");
        assert!(calls(&far) - asked <= 1, "a request asks a dead store once");
        slow += u32::from(one.elapsed() >= DEADLINE);
    }
    // four failures open the breaker; while it is open one call in a second probes
    let windows = u32::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(slow <= 4 + windows, "{slow} of 300 requests waited, in {windows} windows of the breaker");
    assert!(calls(&far) - before <= u64::from(4 + windows));
    assert!(tiered.metrics().get(Metric::FarSkipped) >= 280);
    let (asked, seen) = (calls(&far), tiered.metrics());
    for _ in 0..10_000 {
        assert!(cache.get("hot").await.unwrap().is_some());
    }
    assert_eq!(calls(&far), asked, "a near hit asks nobody");
    assert_eq!(tiered.metrics().since(&seen).get(Metric::NearHit), 10_000);
}

#[tokio::test]
async fn many_requests_at_once_do_not_queue_behind_a_dead_far_store() {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    stall(&far);
    let begun = Instant::now();
    let requests: Vec<_> = (0..200)
        .map(|n| {
            let cache = names(&tiered);
            tokio::spawn(async move { cache.get_or_load(&n.to_string(), || ok("loaded")).await.unwrap() })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    // side by side: what left before the breaker opened ends at one deadline
    assert!(begun.elapsed() < DEADLINE * 20, "{:?}", begun.elapsed());
}

/// Loads until calls are no longer admitted.
async fn open_breaker(far: &Chaos<Memory>, tiered: &Tiered) {
    let skipped = tiered.metrics().get(Metric::FarSkipped);
    far.fail_next_of(Op::Read, 16, ErrorKind::Timeout);
    for n in 0.. {
        assert_eq!(*names(tiered).get_or_load(&n.to_string(), || ok("v")).await.unwrap(), "v");
        if tiered.metrics().get(Metric::FarSkipped) > skipped {
            return;
        }
    }
}

/// What was granted while the breaker opened runs out by itself: giving it back would be sent past the breaker.
#[tokio::test]
async fn leases_that_failed_are_not_given_back_past_an_open_breaker() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let near = LocalMemory::new(1 << 20);
    let (clock, hand) = Clock::manual();
    let builder = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60));
    let tiered = builder.clock(clock).lease(Duration::from_millis(300)).build().await.unwrap();
    let cache = names(&tiered);
    let given_back = || far.calls(Op::Release) + far.calls(Op::ReleaseMany) + far.calls(Op::Rest);
    far.slow(DEADLINE);
    let batch = tokio::spawn({
        let cache = cache.clone();
        let load = async |keys: Vec<String>| Ok::<_, io::Error>(keys.into_iter().map(|key| (key, "v".to_owned())));
        async move { cache.get_many_or_load(&["a", "b", "c"].map(str::to_owned), load).await }
    });
    eventually("its leases are asked for", async || far.calls(Op::LeaseMany) == 1).await;
    far.lose_replies(1);
    open_breaker(&far, &tiered).await;
    assert!(!batch.is_finished() && far.calls(Op::Read) <= 4, "the breaker opened while they are asked for");
    for value in batch.await.unwrap() {
        assert_eq!(value.unwrap().as_deref().map(String::as_str), Some("v"));
    }
    eventually("all is done", async || tiered.under_way() == 0).await;
    assert_eq!(given_back(), 0);
    assert!(memory.exists("strata:k:names:a").await.unwrap(), "the lease was granted");
    eventually("it runs out", async || !memory.exists("strata:k:names:a").await.unwrap()).await;
    // closed again, what was granted and is not wanted goes back as ever
    hand.advance(Duration::from_secs(2));
    far.calm();
    let failing = || async { Err::<String, _>(io::Error::other("no")) };
    cache.get_or_load("g", failing).await.unwrap_err();
    eventually("its lease is given back", async || given_back() == 1).await;
}

#[tokio::test]
async fn leases_that_a_batch_does_not_fill_are_not_given_back_past_an_open_breaker() {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    let (loading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let batch = tokio::spawn({
        let (cache, loading, go) = (names(&tiered), Arc::clone(&loading), Arc::clone(&go));
        async move {
            let load = move |_: Vec<String>| {
                let (loading, go) = (Arc::clone(&loading), Arc::clone(&go));
                async move {
                    loading.notify_one();
                    go.notified().await;
                    let failed = Err(io::Error::other("no"));
                    let unstored = Ok(Loaded::value("v".to_owned()).unstored());
                    Ok::<_, io::Error>([("a".to_owned(), failed), ("b".to_owned(), unstored)])
                }
            };
            cache.load_many_with(&["a", "b"].map(str::to_owned), load).await
        }
    });
    soon(loading.notified()).await;
    open_breaker(&far, &tiered).await;
    go.notify_one();
    let results = batch.await.unwrap();
    assert!(results[0].is_err() && results[1].is_ok());
    eventually("all is done", async || tiered.under_way() == 0).await;
    assert_eq!(far.calls(Op::Release) + far.calls(Op::ReleaseMany) + far.calls(Op::Rest), 0);
}

/// A far store that takes longer for each call than a load may take, and has no deadline of its own.
async fn slower_than_a_load() -> (Chaos<Memory>, Tiered, Policy) {
    let far = Chaos::new(Memory::new());
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far.clone()).bound(Duration::from_secs(60)).build().await.unwrap();
    far.slow(Duration::from_secs(5));
    (far, tiered, Policy::minutes(5).hard_timeout(Duration::from_millis(500)))
}

/// I2. The time that the far store takes counts, not only the loader's.
#[tokio::test(start_paused = true)]
async fn no_load_keeps_its_caller_past_the_hard_timeout_whatever_is_slow() {
    let (_far, tiered, policy) = slower_than_a_load().await;
    let hard = policy.timeouts.hard;
    let cache = tiered.cache::<String>("names").codec(Raw).policy(policy).build().unwrap();
    let in_time = |asked: tokio::time::Instant| {
        assert!(asked.elapsed() >= hard && asked.elapsed() < hard + hard / 10, "{:?}", asked.elapsed());
    };
    let asked = tokio::time::Instant::now();
    assert_eq!(cache.get_or_load("k", || ok("v")).await.unwrap_err().kind(), ErrorKind::Timeout);
    in_time(asked);
    let asked = tokio::time::Instant::now();
    let load = async |keys: Vec<&'static str>| Ok::<_, io::Error>(keys.into_iter().map(|key| (key, String::new())));
    let found = cache.get_many_or_load(&["a", "b"], load).await;
    assert!(found.iter().all(|found| found.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout)));
    in_time(asked);
}

/// I2. A caller that drives the flight's first read and is not polled any more holds up nobody else for longer.
#[tokio::test(start_paused = true)]
async fn who_joins_a_flight_that_nobody_drives_waits_no_longer_than_the_hard_timeout() {
    let (_far, tiered, policy) = slower_than_a_load().await;
    let cache = tiered.cache::<String>("names").codec(Raw).policy(policy).build().unwrap();
    let mut leader = pin!(cache.get_or_load("k", || ok("v")));
    assert!(poll_fn(|context| Poll::Ready(leader.as_mut().poll(context).is_pending())).await);
    let asked = tokio::time::Instant::now();
    assert_eq!(cache.get_or_load("k", || ok("w")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}
