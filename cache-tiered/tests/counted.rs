//! Hits and misses are gets: every answer to every kind of read is counted once, under one name.

mod common;

use std::io;
use std::time::Duration;

use cache_core::Memory;
use cache_core::codec::Raw;
use cache_core::observe::Metric;
use cache_tiered::{Cache, Consistency, Loaded, Policy, Tiered};
use common::{alone, node};

/// The kinds of read, in the order in which [`ask`] makes them.
const READS: [&str; 11] = [
    "get",
    "lookup",
    "get_or_load",
    "find_or_load",
    "load_with",
    "load_if",
    "batched",
    "batched lookup",
    "get_many",
    "get_many_or_load",
    "load_many_with",
];
/// How many keys a read of many asks for: three and one of them again.
const MANY: u64 = 4;

/// What the loader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Value,
    Nothing,
    Fault,
}

impl Says {
    fn loaded(self) -> io::Result<Loaded<String>> {
        match self {
            Self::Value => Ok(Loaded::value("v".to_owned())),
            Self::Nothing => Ok(Loaded::nothing()),
            Self::Fault => Err(io::Error::other("the origin is down")),
        }
    }

    fn value(self) -> io::Result<String> {
        if self == Self::Value { Ok("v".to_owned()) } else { Err(io::Error::other("the origin is down")) }
    }
}

fn cache(tiered: &Tiered) -> Cache<String, String> {
    let policy = Policy::minutes(5).negative(Duration::from_secs(60));
    tiered.cache("names").keyed::<String>().codec(Raw).policy(policy).build().unwrap()
}

/// Makes one read of `key`, or of keys that begin with it; how many answers it gave.
async fn ask(cache: &Cache<String, String>, read: &str, key: &str, says: Says) -> u64 {
    let key = key.to_owned();
    let many: Vec<String> = ["", "2", "3", ""].map(|end| format!("{key}{end}")).to_vec();
    let names: Vec<&String> = many.iter().collect();
    let loaded = move || async move { says.loaded() };
    let batch = move |keys: Vec<String>| async move {
        drop(says.loaded()?);
        Ok::<_, io::Error>(keys.into_iter().map(|key| (key, says.loaded())).collect::<Vec<_>>())
    };
    let values = move |keys: Vec<String>| async move {
        drop(says.loaded()?);
        let found = keys.into_iter().filter(|_| says == Says::Value);
        Ok::<_, io::Error>(found.map(|key| (key, "v".to_owned())).collect::<Vec<_>>())
    };
    match read {
        "get" => drop(cache.get(&key).await),
        "lookup" => drop(cache.lookup(&key).await),
        "get_or_load" => drop(cache.get_or_load(&key, move || async move { says.value() }).await),
        "find_or_load" => {
            let find = move || async move { says.loaded().map(|_| (says == Says::Value).then(|| "v".to_owned())) };
            drop(cache.find_or_load(&key, find).await);
        }
        "load_with" => drop(cache.load_with(&key, loaded).await),
        "load_if" => drop(cache.load_if(&key, move |_| async move { says.loaded() }).await),
        "batched" => drop(cache.batched_with(batch).find_or_load(&key).await),
        "batched lookup" => drop(cache.batched_with(batch).lookup_or_load(&key).await),
        "get_many" => return cache.get_many(&names).await.len() as u64,
        "get_many_or_load" => return cache.get_many_or_load(&many, values).await.len() as u64,
        "load_many_with" => return cache.load_many_with(&many, batch).await.len() as u64,
        _ => unreachable!("no such read"),
    }
    1
}

/// Every read, of what is missing, then of what it left, by each process in turn.
async fn every_answer_is_counted_once(processes: &[Tiered]) {
    for says in [Says::Value, Says::Nothing, Says::Fault] {
        for consistency in [Consistency::Local, Consistency::Fresh] {
            for read in READS {
                for (process, tiered) in processes.iter().chain(processes).enumerate() {
                    let before = tiered.metrics();
                    let key = format!("{says:?}{consistency:?}{read}");
                    let asked = ask(&cache(tiered).with(consistency), read, &key, says).await;
                    let counted = tiered.metrics().since(&before);
                    let gets = [Metric::NearHit, Metric::FarHit, Metric::OriginHit, Metric::Miss, Metric::Failed];
                    let gets: u64 = gets.iter().map(|metric| counted.get(*metric)).sum();
                    assert_eq!(gets, asked, "{key}, process {process}: {counted:?}");
                    assert_eq!(asked, if read.contains("many") { MANY } else { 1 });
                }
            }
        }
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn every_answer_is_counted_once_over_shared_tiers() {
    let far = Memory::new();
    every_answer_is_counted_once(&[node(&far).await, node(&far).await]).await;
}

#[tokio::test]
async fn every_answer_is_counted_once_where_there_is_only_a_near_store() {
    every_answer_is_counted_once(&[alone().await]).await;
}

/// What looks without asking is no get.
#[tokio::test]
async fn a_look_without_side_effects_is_not_counted() {
    let tiered = node(&Memory::new()).await;
    let cache = cache(&tiered);
    let key = "k".to_owned();
    for _ in 0..2 {
        let before = tiered.metrics();
        cache.peek(&key).await.unwrap();
        cache.has(&key).await.unwrap();
        cache.time_left(&key).await.unwrap();
        let counted = tiered.metrics().since(&before);
        assert!(
            [Metric::NearHit, Metric::FarHit, Metric::OriginHit, Metric::Miss].iter().all(|m| counted.get(*m) == 0)
        );
        cache.set(&key, "v".to_owned()).await.unwrap();
    }
    common::audit::at_the_end().await;
}
