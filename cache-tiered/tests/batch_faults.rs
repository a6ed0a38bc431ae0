//! Batches whose loader, caller or far store fails.

mod common;

use std::future::Future;
use std::io;
use std::task::{Context, Waker};
use std::time::Duration;

use cache_core::testkit::chaos::Op;
use cache_core::{ErrorKind, Memory, codec::Raw};
use cache_tiered::{Cache, Policy};
use tokio::time::timeout;

use common::batch::{Calls, Gate, answer, chaos, nothing_is_left, texts, values};
use common::{eventually, names, node, ok};

#[tokio::test]
async fn a_loader_that_fails_fails_what_it_was_asked_for_and_gives_the_leases_back() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache = names(&tiered);
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
}
