//! Options that contradict each other or the tiers, and values that ask for more than their namespace gives.

mod common;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{CacheService, ErrorKind, Frame, Memory, Result, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Loaded, Origin, Policy, Tiered, Update};

const MAX: Duration = Duration::from_secs(60);

/// A store that tells nobody of changes.
#[derive(Debug)]
struct Mute(Memory);

#[async_trait]
impl CacheService for Mute {
    fn name(&self) -> &'static str {
        "mute"
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.0.get(key).await
    }
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.0.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        self.0.delete(key).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key).await
    }
}

fn built(tiered: &Tiered, policy: Policy, origin: Option<Origin>) -> Result<Cache<String>> {
    let builder = tiered.cache("names").codec(Raw).policy(policy);
    match origin {
        Some(origin) => builder.origin(origin).build(),
        None => builder.build(),
    }
}

#[tokio::test]
async fn what_contradicts_the_tiers_is_refused_with_one_error_that_lists_it() {
    let near = LocalMemory::new(1 << 16);
    let builder = Tiered::builder().near(near).far(Mute(Memory::new())).incoherent(Duration::from_secs(5));
    let tiered = builder.max_ttl(MAX).build().await.unwrap();
    let wrong = |policy: Policy| {
        policy
            .near_ttl(Duration::from_secs(6))
            .near_max((1 << 16) + 1)
            .ttl(MAX * 2)
            .hard_timeout(Duration::from_secs(3))
    };
    let patient = || Origin::default().at_most(1).patience(Duration::from_secs(3));
    let parts =
        ["near_ttl 6s is longer than 5s", "near_max is 65537 bytes", "a ttl is longer than 60s", "origin.patience 3s"];
    let all = |error: cache_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Config);
        for part in parts {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    };
    all(built(&tiered, wrong(Policy::seconds(10)), Some(patient())).unwrap_err());
    // a call that changes its policy is held to the same
    let cache = built(&tiered, Policy::seconds(10), Some(patient())).unwrap();
    all(cache.with_policy(wrong).unwrap_err());
    // what is at its limit is none
    let right = Policy::seconds(60).near_ttl(Duration::from_secs(5)).near_max(1 << 16);
    assert!(cache.with_policy(|_| right).is_ok());
}

#[tokio::test]
async fn a_patience_that_nobody_needs_is_refused() {
    let tiered = common::alone().await;
    let some = Duration::from_millis(100);
    for (origin, part) in [
        (Origin::default().breaker(cache_tiered::OriginBreaker::default()).patience(some), "without at_most"),
        (Origin::default().at_most(1).queue(0).patience(some), "with a queue of 0"),
    ] {
        let error = built(&tiered, Policy::seconds(10), Some(origin)).unwrap_err();
        assert!(error.message().contains(part), "{part}: {error}");
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_near_store_without_room_is_refused() {
    let error = Tiered::builder().near(LocalMemory::new(100)).buckets(0).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in ["the near store holds 100 bytes", "buckets is 0"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
}

/// Beyond the namespace's longest ttl the tags' generations are forgotten, and with them what was invalidated.
#[tokio::test]
async fn a_values_own_ttl_is_cut_to_the_namespaces_whichever_way_it_comes() {
    let far = Memory::new();
    let long = || Ok::<_, std::io::Error>(Loaded::value("v".to_owned()).ttl(MAX * 10));
    for with_far in [true, false] {
        let builder = Tiered::builder().near(LocalMemory::new(1 << 20)).max_ttl(MAX);
        let builder = if with_far { builder.far(far.clone()) } else { builder };
        let tiered = builder.build().await.unwrap();
        let cache = built(&tiered, Policy::from(MAX).jitter(0.0), None).unwrap();
        cache.load_with("one", async move || long()).await.unwrap();
        let many = move |keys: Vec<&'static str>| async move {
            Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, long())).collect::<Vec<_>>())
        };
        cache.load_many_with(&["two", "three"], many).await;
        tiered.set("plain", Bytes::from_static(b"v"), MAX * 10).await.unwrap();
        cache.store("four", long().unwrap()).await.unwrap();
        cache.update("five", |_| Update::Store(long().unwrap())).await.unwrap();
        for key in ["one", "two", "three", "four", "five"] {
            let left = cache.time_left(key).await.unwrap().expect("it is kept");
            assert!(left <= MAX && left > MAX / 2, "{key}: {left:?}");
        }
    }
    for key in
        ["k:names:one", "k:names:two", "k:names:four", "k:names:five", "k::plain"].map(|key| format!("strata:{key}"))
    {
        let bytes = far.get(&key).await.unwrap().unwrap_or_else(|| panic!("{key} is there"));
        let header = Frame::parse(&key, &bytes).unwrap().header;
        assert!(header.soft_exp - header.created <= 60_000, "{key}");
    }
}
