//! Batches: one near pass, one far round, one loader call; a result for each key.

mod common;

use std::io;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, ErrorKind, Memory, codec::Raw};
use cache_tiered::{Cache, Consistency, Loaded, Tier};
use tokio::time::timeout;

use common::batch::{Calls, answer, chaos, texts, values};
use common::{alone, names, node, ok};

#[tokio::test]
async fn a_batch_costs_one_read_one_round_of_leases_one_load_and_one_round_of_fills() {
    let memory = Memory::new();
    let writer = names(&node(&memory).await);
    for key in texts(0, 4) {
        writer.get_or_load(&key, || ok("far")).await.unwrap();
    }
    let (far, tiered) = chaos(&memory).await;
    let cache = names(&tiered);
    let calls = Calls::default();
    let found = cache.get_many_or_load(&texts(0, 10), calls.loader()).await;
    let expected: Vec<_> = (0..10).map(|n| Some(if n < 4 { "far".to_owned() } else { format!("v:k{n:03}") })).collect();
    assert_eq!(values(&found), expected);
    assert_eq!(calls.all(), [texts(4, 10)]);
    for op in [Op::ReadMany, Op::LeaseMany, Op::FillMany] {
        assert_eq!(far.calls(op), 1, "{}", op.as_str());
    }
    for op in [Op::Read, Op::Lease, Op::Fill, Op::Release, Op::ReleaseMany] {
        assert_eq!(far.calls(op), 0, "{}", op.as_str());
    }
    // all are near now
    let again = cache.get_many_or_load(&texts(0, 10), calls.loader()).await;
    assert_eq!(values(&again), expected);
    assert_eq!((calls.all().len(), far.calls(Op::ReadMany)), (1, 1));
    assert_eq!(tiered.metrics().get(Metric::Load), 1);
    assert_eq!(tiered.in_flight(), 0);
    common::audit::at_the_end().await;
}

/// I4, and the endless loop of redcache's `GetMulti`.
#[tokio::test]
async fn a_key_that_the_loader_omits_is_nothing_and_is_asked_for_once() {
    let memory = Memory::new();
    for tiered in [node(&memory).await, alone().await] {
        let cache = names(&tiered);
        let calls = Calls::default();
        let loader = {
            let calls = calls.clone();
            move |keys: Vec<String>| {
                calls.note(&keys);
                let some: Vec<_> = keys.into_iter().filter(|key| key != "k001").map(answer).collect();
                std::future::ready(Ok::<_, io::Error>(some))
            }
        };
        let keys = texts(0, 3);
        for _ in 0..2 {
            let within = timeout(Duration::from_secs(10), cache.get_many_or_load(&keys, loader.clone())).await;
            assert_eq!(values(&within.unwrap()), [Some("v:k000".to_owned()), None, Some("v:k002".to_owned())]);
        }
        assert_eq!(calls.all(), [keys]);
        assert!(cache.get("k001").await.unwrap().is_none());
        assert!(cache.lookup("k001").await.unwrap().is_some_and(|answer| answer.value.is_none()), "it is remembered");
        memory.sweep().unwrap().clear("").await.unwrap();
    }
    common::audit::at_the_end().await;
}

/// I5.
#[tokio::test]
async fn one_keys_error_neither_hides_nor_fails_anothers_result() {
    let memory = Memory::new();
    for tiered in [node(&memory).await, alone().await] {
        let cache = names(&tiered);
        let keys = texts(0, 4);
        let found = cache
            .load_many_with(&keys, |keys: Vec<String>| {
                let answers: Vec<_> = keys
                    .into_iter()
                    .map(|key| match &*key {
                        "k001" => (key, Err(io::Error::other("row is corrupt"))),
                        "k002" => (key, Ok(Loaded::nothing())),
                        _ => (key.clone(), Ok(Loaded::value(key))),
                    })
                    .collect();
                std::future::ready(Ok::<_, io::Error>(answers))
            })
            .await;
        let error = found[1].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert_eq!(error.cause::<io::Error>().unwrap().to_string(), "row is corrupt");
        assert!(found[2].as_ref().unwrap().value.is_none());
        for n in [0, 3] {
            let answer = found[n].as_ref().unwrap();
            assert_eq!((answer.tier, answer.value.as_deref()), (Tier::Origin, Some(&keys[n])));
            assert!(cache.get(&keys[n]).await.unwrap().is_some(), "it is kept");
        }
        assert!(cache.lookup("k001").await.unwrap().is_none(), "an error is no value");
        memory.sweep().unwrap().clear("").await.unwrap();
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_dropped() {
    let tiered = alone().await;
    let cache = names(&tiered);
    let foreign = |_: Vec<String>| {
        let answers = vec![answer("k000".to_owned()), answer("other".to_owned()), answer("k000x".to_owned())];
        std::future::ready(Ok::<_, io::Error>(answers))
    };
    let found = cache.get_many_or_load(&texts(0, 1), foreign).await;
    assert_eq!(values(&found), [Some("v:k000".to_owned())]);
    assert!(cache.get("other").await.unwrap().is_none());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn empty_bad_and_double_keys() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache = names(&tiered);
    let calls = Calls::default();
    assert!(cache.get_many_or_load(&[] as &[String], calls.loader()).await.is_empty());
    assert!(calls.all().is_empty());
    let keys = ["a", "b", "", "a", "x\ny", "a"].map(str::to_owned);
    let found = cache.get_many_or_load(&keys, calls.loader()).await;
    assert_eq!(calls.all(), [["a", "b"]], "a key that stands there twice is asked for once");
    for (key, found) in keys.iter().zip(found) {
        match &**key {
            "a" | "b" => assert_eq!(*found.unwrap().unwrap(), format!("v:{key}")),
            _ => assert_eq!(found.unwrap_err().kind(), ErrorKind::Invalid),
        }
    }
    assert_eq!(tiered.in_flight(), 0);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn batches_are_split_and_a_part_fails_alone() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache: Cache<String> = tiered.cache("names").codec(Raw).max_batch(10).build().unwrap();
    let calls = Calls::default();
    let loader = {
        let calls = calls.clone();
        move |keys: Vec<String>| {
            calls.note(&keys);
            let fails = keys.contains(&"k010".to_owned());
            let answers = if fails { Err(io::Error::other("down")) } else { Ok(keys.into_iter().map(answer)) };
            std::future::ready(answers)
        }
    };
    let found = cache.get_many_or_load(&texts(0, 25), loader).await;
    let mut sizes: Vec<usize> = calls.all().iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
    for (n, found) in found.iter().enumerate() {
        assert_eq!(found.is_err(), (10..20).contains(&n), "key {n}");
    }
    assert!(tiered.cache::<String>("x").codec(Raw).max_batch(0).build().is_err());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn without_a_far_store_a_batch_loads_and_keeps() {
    let tiered = alone().await;
    let cache = names(&tiered);
    let calls = Calls::default();
    for _ in 0..2 {
        let found = cache.get_many_or_load(&texts(0, 3), calls.loader()).await;
        assert_eq!(values(&found).len(), 3);
    }
    assert_eq!(calls.all(), [texts(0, 3)]);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_batch_that_asks_for_fresh_answers_does_not_trust_near() {
    let memory = Memory::new();
    let (a, b) = (node(&memory).await, node(&memory).await);
    let reader = names(&a);
    reader.get_or_load("k000", || ok("old")).await.unwrap();
    // written behind the reader's back: no message, so near goes on
    memory.delete("strata:k:names:k000").await.unwrap();
    names(&b).get_or_load("k000", || ok("new")).await.unwrap();
    assert_eq!(*reader.get("k000").await.unwrap().unwrap(), "old");
    let fresh = reader.with(Consistency::Fresh);
    assert_eq!(*fresh.get_many(&["k000"]).await[0].as_ref().unwrap().clone().unwrap(), "new");
    let calls = Calls::default();
    let found = fresh.get_many_or_load(&texts(0, 2), calls.loader()).await;
    assert_eq!(values(&found), [Some("new".to_owned()), Some("v:k001".to_owned())]);
    assert_eq!(calls.all(), [["k001"]]);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn what_a_batch_costs_by_how_current_it_has_to_be() {
    let (far, tiered) = chaos(&Memory::new()).await;
    let cache = names(&tiered);
    let keys = texts(0, 50);
    for key in &keys {
        cache.set(key, "v".into()).await.unwrap();
    }
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let costs = async |cache: &Cache<String>| {
        let before = far.total_calls();
        assert!(cache.get_many(&asked).await.iter().all(|found| found.as_ref().unwrap().is_some()));
        far.total_calls() - before
    };
    for (wish, most) in
        [(Consistency::Local, 1), (Consistency::Local, 0), (Consistency::Fresh, 50), (Consistency::Strict, 100)]
    {
        assert_eq!(costs(&cache.with(wish)).await, most, "{wish:?}");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_guarded_write_is_neither_waited_for_nor_filled_by_a_batch() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache = names(&tiered);
    let guard = cache.write_guard(&["k000"], Duration::from_secs(30)).await.unwrap();
    let calls = Calls::default();
    let found = cache.get_many_or_load(&texts(0, 2), calls.loader()).await;
    assert_eq!(values(&found).len(), 2);
    assert!(cache.get("k000").await.unwrap().is_none(), "barred: kept nowhere");
    assert!(cache.get("k001").await.unwrap().is_some());
    drop(guard);
    common::audit::at_the_end().await;
}
