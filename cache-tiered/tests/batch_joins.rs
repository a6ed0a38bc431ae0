//! Batches that meet: each other, single loads, invalidations and other processes.

mod common;

use std::io;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{CacheService, Memory, memory::LocalMemory};
use cache_tiered::Tiered;
use tokio::time::timeout;

use common::batch::{Calls, Gate, answer, chaos, texts, values};
use common::{BOUND, alone, eventually, names, node, ok};

/// sturdyc keeps two maps: there, a single load and a batch load the same key twice.
#[tokio::test]
async fn a_single_load_and_a_batch_share_one_flight() {
    let memory = Memory::new();
    for tiered in [node(&memory).await, alone().await] {
        let cache = names(&tiered);
        let gate = Gate::default();
        // a batch joins a single load
        let single = {
            let (cache, gate) = (cache.clone(), gate.clone());
            tokio::spawn(async move {
                let load = || async move {
                    gate.began.notify_one();
                    gate.go.notified().await;
                    Ok::<_, io::Error>("single".to_owned())
                };
                cache.get_or_load("k000", load).await
            })
        };
        gate.began.notified().await;
        let calls = Calls::default();
        let batch = {
            let (cache, loader) = (cache.clone(), calls.loader());
            tokio::spawn(async move { cache.get_many_or_load(&texts(0, 2), loader).await })
        };
        eventually("the other key is loaded", async || calls.all() == [["k001"]]).await;
        gate.go.notify_one();
        assert_eq!(values(&batch.await.unwrap()), [Some("single".to_owned()), Some("v:k001".to_owned())]);
        single.await.unwrap().unwrap();
        // a single load joins a batch
        let batch = {
            let (cache, loader) = (cache.clone(), gate.many());
            tokio::spawn(async move { cache.get_many_or_load(&texts(5, 7), loader).await })
        };
        gate.began.notified().await;
        let joined = tiered.metrics().get(Metric::Joined);
        let single = {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get_or_load("k005", || ok("never")).await })
        };
        eventually("it joined", async || tiered.metrics().get(Metric::Joined) > joined).await;
        gate.go.notify_one();
        assert_eq!(*single.await.unwrap().unwrap(), "v:k005");
        batch.await.unwrap();
        assert_eq!(gate.calls.all(), [texts(5, 7)]);
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn overlapping_batches_of_two_processes_load_each_key_once() {
    let memory = Memory::new();
    let (a, b) = (node(&memory).await, node(&memory).await);
    let gate = Gate::default();
    let first = {
        let (cache, loader) = (names(&a), gate.many());
        tokio::spawn(async move { cache.get_many_or_load(&texts(0, 20), loader).await })
    };
    gate.began.notified().await;
    let calls = Calls::default();
    let second = {
        let (cache, loader) = (names(&b), calls.loader());
        tokio::spawn(async move { cache.get_many_or_load(&texts(10, 30), loader).await })
    };
    eventually("b loads its share without waiting for a", async || calls.all() == [texts(20, 30)]).await;
    gate.go.notify_one();
    let expected = |from, to| texts(from, to).into_iter().map(|key| Some(answer(key).1)).collect::<Vec<_>>();
    assert_eq!(values(&first.await.unwrap()), expected(0, 20));
    assert_eq!(values(&second.await.unwrap()), expected(10, 30));
    assert_eq!(gate.calls.all(), [texts(0, 20)]);
    assert_eq!(calls.all(), [texts(20, 30)], "what a loads, b does not");
    assert!(b.metrics().get(Metric::LeaseWait) > 0);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn many_overlapping_batches_in_many_processes_load_each_key_once() {
    let memory = Memory::new();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&memory).await);
    }
    let calls = Calls::default();
    let mut tasks = tokio::task::JoinSet::new();
    for node in &nodes {
        for from in 0..20 {
            let (cache, calls) = (names(node), calls.clone());
            tasks.spawn(async move {
                let loader = move |keys: Vec<String>| {
                    let calls = calls.clone();
                    async move {
                        calls.note(&keys);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        Ok::<_, io::Error>(keys.into_iter().map(answer))
                    }
                };
                let keys = texts(from, from + 20);
                let found = cache.get_many_or_load(&keys, loader).await;
                assert_eq!(values(&found), keys.into_iter().map(|key| Some(answer(key).1)).collect::<Vec<_>>());
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(calls.keys(), texts(0, 39), "each key once");
    assert!(nodes.iter().all(|node| node.in_flight() == 0));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_reader_that_only_reads_does_not_stop_a_batch_from_loading() {
    let memory = Memory::new();
    let (far, tiered) = chaos(&memory).await;
    let cache = names(&tiered);
    far.hang();
    let reader = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k000").await })
    };
    eventually("the read is in flight", async || tiered.in_flight() == 1).await;
    let calls = Calls::default();
    let batch = {
        let (cache, loader) = (cache.clone(), calls.loader());
        tokio::spawn(async move { cache.get_many_or_load(&texts(0, 1), loader).await })
    };
    eventually("the batch joined it", async || tiered.metrics().get(Metric::Joined) == 1).await;
    far.unhang();
    assert!(reader.await.unwrap().unwrap().is_none());
    assert_eq!(values(&batch.await.unwrap()), [Some("v:k000".to_owned())]);
    common::audit::at_the_end().await;
}

/// I1 for batches.
#[tokio::test]
async fn a_batch_begun_before_an_invalidation_is_never_served_after_it() {
    for same_process in [true, false] {
        let memory = Memory::new();
        let (a, b) = (node(&memory).await, node(&memory).await);
        let gate = Gate::default();
        let slow = {
            let (cache, loader) = (names(&a), gate.many());
            tokio::spawn(async move { cache.get_many_or_load(&texts(0, 3), loader).await })
        };
        gate.began.notified().await;
        let invalidator = names(if same_process { &a } else { &b });
        invalidator.invalidate("k001").await.unwrap();
        gate.go.notify_one();
        assert!(slow.await.unwrap().iter().all(Result::is_ok), "its own caller began before the invalidation");
        for cache in [names(&a), names(&b)] {
            assert_eq!(*cache.get_or_load("k001", || ok("new")).await.unwrap(), "new");
            assert_eq!(*cache.get("k000").await.unwrap().unwrap(), "v:k000", "the others are kept");
        }
        assert_eq!(a.metrics().get(Metric::FillRejected), 1);
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_batch_goes_on_while_somebody_waits_for_one_of_its_keys() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let gate = Gate::default();
    let batch = {
        let (cache, loader) = (names(&tiered), gate.many());
        tokio::spawn(async move { cache.get_many_or_load(&texts(0, 5), loader).await })
    };
    gate.began.notified().await;
    let joiner = {
        let cache = names(&tiered);
        tokio::spawn(async move { cache.get_or_load("k003", || ok("never")).await })
    };
    eventually("it joined", async || tiered.metrics().get(Metric::Joined) == 1).await;
    batch.abort();
    eventually("the caller is gone", async || tiered.in_flight() == 1).await;
    gate.go.notify_one();
    assert_eq!(*joiner.await.unwrap().unwrap(), "v:k003");
    assert_eq!(gate.calls.all().len(), 1);
    eventually("nothing is in flight", async || tiered.in_flight() == 0).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_lease_of_a_dead_process_is_taken_over() {
    let memory = Memory::new();
    let tiered =
        Tiered::builder().near(LocalMemory::new(1 << 20)).far(memory.clone()).bound(BOUND).build().await.unwrap();
    let dead = cache_core::Stamp(7);
    memory.leases().unwrap().lease("strata:k:names:k001", dead, Duration::from_millis(300)).await.unwrap();
    let calls = Calls::default();
    let (cache, keys) = (names(&tiered), texts(0, 3));
    let found = timeout(Duration::from_secs(10), cache.get_many_or_load(&keys, calls.loader())).await.unwrap();
    assert_eq!(values(&found)[1], Some("v:k001".to_owned()));
    assert_eq!(calls.keys(), texts(0, 3));
    assert_eq!(calls.all()[0], ["k000", "k002"], "nobody waits for the dead");
}

#[tokio::test]
async fn a_long_batch_keeps_its_leases() {
    let memory = Memory::new();
    let lease = Duration::from_millis(150);
    let build = || Tiered::builder().near(LocalMemory::new(1 << 20)).far(memory.clone()).bound(BOUND).lease(lease);
    let (a, b) = (build().build().await.unwrap(), build().build().await.unwrap());
    let gate = Gate::default();
    let batch = {
        let (cache, loader) = (names(&a), gate.many());
        tokio::spawn(async move { cache.get_many_or_load(&texts(0, 2), loader).await })
    };
    gate.began.notified().await;
    let calls = Calls::default();
    let other = {
        let (cache, loader) = (names(&b), calls.loader());
        tokio::spawn(async move { cache.get_many_or_load(&texts(0, 2), loader).await })
    };
    // three spans of the lease
    let begun = std::time::Instant::now();
    eventually("three spans have passed", async || begun.elapsed() > lease * 3).await;
    gate.go.notify_one();
    batch.await.unwrap();
    assert_eq!(values(&other.await.unwrap()), [Some("v:k000".to_owned()), Some("v:k001".to_owned())]);
    assert!(calls.all().is_empty(), "the lease was renewed");
}
