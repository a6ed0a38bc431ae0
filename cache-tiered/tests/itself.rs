//! Loaders that ask for what they are run for.

mod common;

use std::pin::Pin;
use std::time::{Duration, Instant};

use cache_core::{ErrorKind, Memory, Result};
use cache_tiered::{Cache, Policy};
use common::{alone, names, node, ok};

/// Far below the hard timeout.
const SOON: Duration = Duration::from_secs(5);

type Load = Pin<Box<dyn Future<Output = Result<String>> + Send>>;

/// A load of the first key whose loader loads the second, and so on; after the last comes the first again.
fn in_a_circle(cache: Cache<String>, keys: &'static [&'static str], at: usize) -> Load {
    Box::pin(async move {
        let again = cache.clone();
        let loader = move || in_a_circle(again, keys, at + 1);
        cache.get_or_load(keys[at % keys.len()], loader).await.map(|value| value.to_string())
    })
}

async fn is_told(cache: &Cache<String>) {
    for keys in [&["own"][..], &["a", "b"], &["x", "y", "z"]] {
        let begun = Instant::now();
        let error = in_a_circle(cache.clone(), keys, 0).await.unwrap_err();
        assert!(begun.elapsed() < SOON, "{keys:?} waited for itself");
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert!(error.to_string().contains("would wait for itself"), "{error}");
    }
}

#[tokio::test]
async fn a_loader_that_would_wait_for_itself_is_told() {
    is_told(&names(&alone().await)).await;
    is_told(&names(&node(&Memory::new()).await)).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_loader_may_read_its_key_and_load_others() {
    let cache = names(&alone().await);
    let inner = cache.clone();
    let loader = async move || {
        assert_eq!(inner.get("k").await?, None, "not loaded yet");
        let [one, two] = [inner.get_or_load("one", || ok("1")).await?, inner.get_or_load("two", || ok("2")).await?];
        Ok::<_, cache_core::Error>(format!("{one}{two}"))
    };
    assert_eq!(cache.get_or_load("k", loader).await.unwrap().as_str(), "12");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_loader_that_invalidates_its_key_may_load_it() {
    let cache = names(&node(&Memory::new()).await);
    let inner = cache.clone();
    let loader = async move || {
        inner.invalidate("k").await?;
        inner.get_or_load("k", || ok("new")).await.map(|value| value.to_string())
    };
    assert_eq!(cache.get_or_load("k", loader).await.unwrap().as_str(), "new");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_loader_that_asks_for_itself_is_served_its_fallback() {
    let tiered = node(&Memory::new()).await;
    let policy = Policy::minutes(1).fail_safe(Duration::from_secs(60));
    let cache: Cache<String> = tiered.cache("names").codec(cache_core::codec::Raw).policy(policy).build().unwrap();
    cache.set("k", "old".into()).await.unwrap();
    cache.get("k").await.unwrap();
    cache.expire("k").await.unwrap();
    let value = in_a_circle(cache.clone(), &["k"], 0).await.unwrap();
    assert_eq!(value, "old");
    common::audit::at_the_end().await;
}
