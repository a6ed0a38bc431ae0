//! Batches whose loader, caller or far store fails.

mod common;

use std::future::Future;
use std::io;
use std::task::{Context, Waker};
use std::time::Duration;

use cache_core::testkit::chaos::Op;
use cache_core::{ErrorKind, Memory, codec::Raw};
use cache_tiered::{Cache, Freshness, Policy, StaleReason, Tiered};
use tokio::time::timeout;

use common::batch::{Calls, Gate, answer, chaos, nothing_is_left, texts, values};
use common::{alone, eventually, names, node, ok};

#[tokio::test]
async fn a_loader_that_fails_fails_what_it_was_asked_for_and_gives_the_leases_back() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let policy = Policy::minutes(5).backoff(None);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    cache.get_or_load("k000", || ok("near")).await.unwrap();
    let fails = |_: Vec<String>| std::future::ready(Err::<Vec<(String, String)>, _>(io::Error::other("down")));
    let found = cache.get_many_or_load(&texts(0, 3), fails).await;
    assert_eq!(found[0].as_ref().unwrap().as_deref().map(String::as_str), Some("near"));
    for found in &found[1..] {
        assert_eq!(found.as_ref().unwrap_err().kind(), ErrorKind::Loader);
    }
    nothing_is_left(&tiered, &memory, &texts(1, 3)).await;
    let calls = Calls::default();
    assert!(cache.get_many_or_load(&texts(0, 3), calls.loader()).await.iter().all(Result::is_ok));
    assert_eq!(calls.keys(), texts(1, 3));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_loader_that_panics_wakes_everybody_and_gives_the_leases_back() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache = names(&tiered);
    let panics = |_: Vec<String>| async {
        if true {
            panic!("on purpose");
        }
        Ok::<Vec<(String, String)>, io::Error>(Vec::new())
    };
    let found = timeout(Duration::from_secs(10), cache.get_many_or_load(&texts(0, 3), panics)).await.unwrap();
    for found in found {
        let error = found.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    nothing_is_left(&tiered, &memory, &texts(0, 3)).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_loader_that_hangs_ends_at_the_deadline() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let policy = {
        let mut policy = Policy::minutes(5);
        policy.timeouts.hard = Duration::from_millis(100);
        policy
    };
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    let hangs = |_: Vec<String>| std::future::pending::<io::Result<Vec<(String, String)>>>();
    let found = timeout(Duration::from_secs(10), cache.get_many_or_load(&texts(0, 3), hangs)).await.unwrap();
    assert!(found.into_iter().all(|found| found.unwrap_err().kind() == ErrorKind::Timeout));
    nothing_is_left(&tiered, &memory, &texts(0, 3)).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn the_last_caller_to_leave_cancels_the_batch_and_gives_the_leases_back() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let gate = Gate::default();
    let batch = {
        let (cache, loader) = (names(&tiered), gate.many());
        tokio::spawn(async move { cache.get_many_or_load(&texts(0, 5), loader).await })
    };
    gate.began.notified().await;
    batch.abort();
    nothing_is_left(&tiered, &memory, &texts(0, 5)).await;
    common::audit::at_the_end().await;
}

/// Polls a fresh batch `n` times, then drops it. Says whether it had ended by then.
async fn dropped_after(n: u32, cache: &Cache<String>, keys: &[String]) -> bool {
    let loader = |keys: Vec<String>| async move {
        tokio::task::yield_now().await;
        Ok::<_, io::Error>(keys.into_iter().map(answer).collect::<Vec<_>>())
    };
    let mut batch = Box::pin(cache.get_many_or_load(keys, loader));
    for _ in 0..n {
        if batch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        // its waker is deaf, so it is the clock that brings it on
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    false
}

/// I6: dropped at any point, a batch leaves no flight and no lease.
#[tokio::test]
async fn a_batch_that_is_dropped_anywhere_leaves_nothing_behind() {
    for n in 0..200 {
        let memory = Memory::new();
        let (far, tiered) = chaos(&memory).await;
        // every call to the far store takes a moment, so that there are points to drop at
        far.slow(Duration::from_micros(1));
        let cache = names(&tiered);
        let keys = texts(0, 3);
        let done = dropped_after(n, &cache, &keys).await;
        eventually("nothing is in flight", async || tiered.in_flight() == 0).await;
        far.calm();
        let calls = Calls::default();
        let again = timeout(Duration::from_secs(1), cache.get_many_or_load(&keys, calls.loader())).await;
        assert!(again.expect("no lease bars the next load").iter().all(Result::is_ok), "dropped after {n} polls");
        if done {
            assert!(n > 3, "there were points to drop at");
            common::audit::at_the_end().await;
            return;
        }
    }
    panic!("it never ended");
}

#[tokio::test]
async fn while_the_far_store_is_down_a_batch_loads() {
    let memory = Memory::new();
    let (far, tiered) = chaos(&memory).await;
    let cache = names(&tiered);
    far.partition(true);
    let calls = Calls::default();
    let found = timeout(Duration::from_secs(10), cache.get_many_or_load(&texts(0, 3), calls.loader())).await.unwrap();
    assert_eq!(values(&found).len(), 3);
    assert_eq!(calls.all(), [texts(0, 3)]);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_far_store_that_refuses_leases_or_fills_costs_no_result() {
    for op in [Op::ReadMany, Op::LeaseMany, Op::FillMany] {
        let memory = Memory::new();
        let (far, tiered) = chaos(&memory).await;
        far.fail_next_of(op, 1, ErrorKind::Other);
        let calls = Calls::default();
        let found = names(&tiered).get_many_or_load(&texts(0, 3), calls.loader()).await;
        assert_eq!(values(&found).len(), 3, "{}", op.as_str());
        assert_eq!(calls.all(), [texts(0, 3)], "{}", op.as_str());
        eventually("nothing is in flight", async || tiered.in_flight() == 0).await;
    }
    common::audit::at_the_end().await;
}

/// A cache whose values are fresh for a moment and fallbacks for long.
fn with_fallbacks(tiered: &Tiered, policy: Policy) -> Cache<String> {
    let policy = policy.ttl(Duration::from_millis(40)).jitter(0.0).fail_safe(Duration::from_secs(600));
    tiered.cache("names").codec(Raw).policy(policy).build().unwrap()
}

async fn all_are_past_their_time(cache: &Cache<String>, keys: &[String]) {
    eventually("their time is over", async || {
        for key in keys {
            if cache.get(key).await.unwrap().is_some() {
                return false;
            }
        }
        true
    })
    .await;
}

/// sturdyc: with its origin down, a refresh of a batch deletes records that are still good.
#[tokio::test]
async fn a_batch_whose_origin_fails_serves_fallbacks_and_fails_only_what_has_none() {
    let memory = Memory::new();
    for (tiered, far) in [(node(&memory).await, true), (alone().await, false)] {
        let cache = with_fallbacks(&tiered, Policy::minutes(5));
        let calls = Calls::default();
        assert!(cache.get_many_or_load(&texts(0, 3), calls.loader()).await.iter().all(Result::is_ok));
        all_are_past_their_time(&cache, &texts(0, 3)).await;
        let down = Calls::default();
        let fails = {
            let down = down.clone();
            move |keys: Vec<String>| {
                down.note(&keys);
                std::future::ready(Err::<Vec<(String, String)>, _>(io::Error::other("down")))
            }
        };
        for _ in 0..5 {
            let found = cache.get_many_or_load(&texts(0, 4), fails.clone()).await;
            assert_eq!(values(&found[..3]), texts(0, 3).into_iter().map(|key| Some(answer(key).1)).collect::<Vec<_>>());
            assert_eq!(found[3].as_ref().unwrap_err().kind(), ErrorKind::Loader);
        }
        assert_eq!(down.all()[0], texts(0, 4));
        assert_eq!(down.keys().iter().filter(|key| *key != "k003").count(), 3, "one probe a key and throttle window");
        let answers = cache
            .load_many_with(&texts(0, 1), |_: Vec<String>| {
                std::future::ready(Ok::<Vec<(_, io::Result<_>)>, io::Error>(vec![]))
            })
            .await;
        assert!(matches!(answers[0].as_ref().unwrap().freshness, Freshness::Stale(StaleReason::LoadFailed)));
        if far {
            // another process has no fallback near: it finds the far store's, and that the origin is left alone
            let other = with_fallbacks(&node(&memory).await, Policy::minutes(5));
            let calls = Calls::default();
            let found = other.get_many_or_load(&texts(0, 3), calls.loader()).await;
            assert_eq!(values(&found).len(), 3);
            assert!(calls.all().is_empty(), "one probe for the whole fleet");
        }
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_batch_that_is_late_serves_fallbacks_and_goes_on() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache = with_fallbacks(&tiered, Policy::minutes(5).soft_timeout(Duration::from_millis(20)));
    let calls = Calls::default();
    assert!(cache.get_many_or_load(&texts(0, 3), calls.loader()).await.iter().all(Result::is_ok));
    all_are_past_their_time(&cache, &texts(0, 3)).await;
    let gate = Gate::default();
    let found = timeout(Duration::from_secs(10), cache.get_many_or_load(&texts(0, 3), gate.many())).await.unwrap();
    assert_eq!(values(&found).len(), 3);
    assert!(tiered.in_flight() > 0, "the load goes on without its callers");
    gate.go.notify_one();
    eventually("it ends", async || tiered.in_flight() == 0).await;
    assert_eq!(gate.calls.all(), [texts(0, 3)]);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_batch_on_a_failing_origin_costs_one_call_a_backoff() {
    let tiered = alone().await;
    let cache = names(&tiered);
    let calls = Calls::default();
    let fails = {
        let calls = calls.clone();
        move |keys: Vec<String>| {
            calls.note(&keys);
            std::future::ready(Err::<Vec<(String, String)>, _>(io::Error::other("down")))
        }
    };
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        let found = cache.get_many_or_load(&texts(0, 3), fails.clone()).await;
        assert!(found.into_iter().all(|found| found.unwrap_err().kind() == ErrorKind::Loader));
    }
    let windows = 1 + begun.elapsed().as_millis() / 50;
    assert!((calls.all().len() as u128) <= windows, "{} calls in {windows} windows", calls.all().len());
    common::audit::at_the_end().await;
}
