//! Loaders that see what they would replace, and looks that leave no trace.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use cache_core::observe::Metric;
use cache_core::{ErrorKind, codec::Raw};
use cache_tiered::{Cache, Known, Loaded};

use super::super::eventually;
use super::{Duration, Far, LONG, Origin, Policy, TTL, cache, node, past_ttl, safe};

fn modified() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
}

/// What a loader was shown: value, etag, time, row.
type Shown = (String, Option<String>, Option<SystemTime>, u32);

/// Asks with a loader that says `unchanged` to whoever holds the etag `"v1"`, and what it was shown.
async fn ask(cache: &Cache<String>) -> (String, Option<Shown>) {
    let shown: Arc<Mutex<Option<Shown>>> = Arc::default();
    let seen = Arc::clone(&shown);
    let load = move |known: Option<Known<String>>| async move {
        let fresh = || Loaded::value("v".to_owned()).etag("\"v1\"").last_modified(modified()).row(7).tag("group");
        let loaded = match &known {
            Some(known) if known.etag.as_deref() == Some("\"v1\"") => Loaded::unchanged(),
            _ => fresh(),
        };
        let told = known.map(|known| (known.value.to_string(), known.etag, known.last_modified, known.row));
        *seen.lock().unwrap() = told;
        Ok::<_, io::Error>(loaded)
    };
    let answer = cache.load_if("k", load).await.unwrap();
    assert_eq!(answer.row, 7);
    let shown = shown.lock().unwrap().clone();
    (answer.value.unwrap().to_string(), shown)
}

pub(crate) async fn a_loader_that_sees_the_old_value_may_say_that_it_stands(far: impl Far) {
    let (left, right) = (node(&far).await, node(&far).await);
    let (a, b) = (cache(&left, safe(LONG)), cache(&right, safe(LONG)));
    assert_eq!(ask(&a).await, ("v".into(), None));
    assert_eq!(
        b.get("k").await.unwrap().as_deref().map(String::as_str),
        Some("v"),
        "the notes are no part of the value"
    );
    let known = Some(("v".to_owned(), Some("\"v1\"".to_owned()), Some(modified()), 7));
    // shown by the process that loaded it, by another one, and after it was confirmed once
    for cache in [&a, &b, &a] {
        past_ttl().await;
        assert_eq!(ask(cache).await, ("v".into(), known.clone()));
        let left = cache.time_left("k").await.unwrap().expect("fresh again");
        assert!(left <= TTL * 2, "{left:?}");
    }
    left.invalidate_tag("group").await.unwrap();
    assert_eq!(ask(&a).await.1, None, "tags were kept, and what they invalidate is not shown");
}

pub(crate) async fn unchanged_without_a_value_is_an_error(far: impl Far) {
    let a = cache(&node(&far).await, safe(LONG));
    let load = |_| async { Ok::<_, io::Error>(Loaded::unchanged()) };
    assert_eq!(a.load_if("k", load).await.unwrap_err().kind(), ErrorKind::Loader);
}

pub(crate) async fn a_peek_leaves_no_trace(far: impl Far) {
    let origin = Origin::says("v");
    let (left, right) = (node(&far).await, node(&far).await);
    let (a, b) = (cache(&left, safe(LONG).ttl(LONG / 4)), cache(&right, safe(LONG).ttl(LONG / 4)));
    assert!(a.peek("k").await.unwrap().is_none() && !a.has("k").await.unwrap());
    assert_eq!(origin.read(&a).await, "v");
    let before = right.metrics();
    for _ in 0..2 {
        let answer = b.peek("k").await.unwrap().unwrap();
        assert_eq!(answer.tier, cache_tiered::Tier::Far, "nothing was installed");
        assert!(b.has("k").await.unwrap());
        assert!(b.time_left("k").await.unwrap().is_some_and(|left| left <= LONG / 2));
    }
    let after = right.metrics();
    for metric in [Metric::NearHit, Metric::FarHit, Metric::Miss, Metric::Load] {
        assert_eq!(after.get(metric), before.get(metric), "{metric:?}");
    }
    // nor does it do what is due about an entry that stands near: the next read does
    let mut sliding = Policy::from(LONG).jitter(0.0).sliding();
    sliding.sliding = sliding.sliding.map(|mut sliding| {
        sliding.after = 0.001;
        sliding
    });
    let ahead = Policy::from(LONG).jitter(0.0).refresh_ahead(0.001);
    for (space, policy, metric) in [("slides", sliding, Metric::Touched), ("refreshes", ahead, Metric::Refresh)] {
        let cache: Cache<String> = left.cache(space).codec(Raw).policy(policy).build().unwrap();
        assert_eq!(origin.read(&cache).await, "v");
        tokio::time::sleep(LONG / 500).await;
        for _ in 0..3 {
            assert_eq!(cache.peek("k").await.unwrap().unwrap().tier, cache_tiered::Tier::Near);
            assert!(cache.has("k").await.unwrap() && cache.time_left("k").await.unwrap().is_some());
        }
        assert_eq!((left.under_way(), left.metrics().get(metric)), (0, 0), "{space}: a look did it");
        assert_eq!(origin.read(&cache).await, "v");
        eventually("a read does it", async || left.metrics().get(metric) == 1).await;
    }
}

pub(crate) async fn a_call_may_change_its_policy(far: impl Far) {
    let origin = Origin::says("v");
    let a = cache(&node(&far).await, safe(LONG));
    let long = a.with_policy(|policy| policy.ttl(LONG / 4)).unwrap();
    assert_eq!(origin.read(&long).await, "v");
    past_ttl().await;
    assert!(a.get("k").await.unwrap().is_some(), "it was stored under the call's policy");
    let error = a.with_policy(|policy| policy.refresh_ahead(1.5).sliding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("refresh_ahead is 1.5") && error.message().contains("exclude"), "{error}");
}
