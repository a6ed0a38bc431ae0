//! What is due about the values that a batch serves: refreshes ahead of their time, sliding ttls, late loads.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cache_core::observe::Metric;
use cache_core::testkit::chaos::Op;
use cache_core::{Memory, codec::Raw};
use cache_tiered::{Backoff, Cache, Freshness, Loaded, Policy, Tiered};
use tokio::time::timeout;

use common::batch::{Calls, Gate, chaos, slow_chaos, texts, values};
use common::{BOUND, alone, eventually, node, ok};

const LONG: Duration = Duration::from_secs(120);
/// When values are due.
const DUE: Duration = Duration::from_millis(600);

/// Fresh for a minute, refreshed once `DUE` has passed, and tried once.
fn ahead(tiered: &Tiered) -> Cache<String> {
    let policy = Policy::minutes(1).jitter(0.0).refresh_ahead(0.01).backoff(Backoff::between(LONG, LONG));
    tiered.cache("names").codec(Raw).policy(policy).max_batch(50).build().unwrap()
}

/// Keys with old values that are due.
async fn due(cache: &Cache<String>, keys: &[String]) {
    let old = |keys: Vec<String>| {
        std::future::ready(Ok::<_, io::Error>(keys.into_iter().map(|key| (key, "old".to_owned())).collect::<Vec<_>>()))
    };
    assert!(cache.get_many_or_load(keys, old).await.iter().all(Result::is_ok));
    tokio::time::sleep(DUE + Duration::from_millis(150)).await;
}

fn all_old(n: usize) -> Vec<Option<String>> {
    vec![Some("old".to_owned()); n]
}

async fn until_new(cache: &Cache<String>, keys: &[String]) {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    eventually("the new values are served", async || {
        values(&cache.get_many(&keys).await).iter().zip(&keys).all(|(v, key)| v.as_deref() == Some(&format!("v:{key}")))
    })
    .await;
}

#[tokio::test]
async fn the_due_values_of_a_batch_are_served_and_refreshed_by_one_call_in_the_background() {
    for with_far in [true, false] {
        let memory = Memory::new();
        let tiered = if with_far { node(&memory).await } else { alone().await };
        let cache = ahead(&tiered);
        due(&cache, &texts(0, 40)).await;
        cache.get_or_load("young", || ok("young")).await.unwrap();
        let gate = Gate::default();
        let mut keys = texts(0, 40);
        keys.push("young".to_owned());
        for _ in 0..10 {
            // nobody waits for it, and a key named twice is refreshed once
            keys.push("k000".to_owned());
            let found = timeout(LONG, cache.get_many_or_load(&keys, gate.many())).await.unwrap();
            assert_eq!(values(&found)[..40], all_old(40));
        }
        timeout(LONG, gate.began.notified()).await.unwrap();
        assert_eq!(gate.calls.all(), [texts(0, 40)], "what is due, and nothing else");
        gate.go.notify_one();
        until_new(&cache, &texts(0, 40)).await;
        assert_eq!(gate.calls.all().len(), 1);
        assert_eq!(tiered.metrics().get(Metric::Refresh), 40);
        // those of the first load, of the young one, and of the refresh
        assert_eq!(tiered.metrics().get(Metric::Load), 3);
        eventually("the flights have ended", async || tiered.in_flight() + tiered.under_way() == 0).await;
    }
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn due_values_that_are_found_far_are_served_and_refreshed_by_one_call() {
    let memory = Memory::new();
    due(&ahead(&node(&memory).await), &texts(0, 20)).await;
    let tiered = node(&memory).await;
    let cache = ahead(&tiered);
    let calls = Calls::default();
    let found = cache
        .load_many_with(&texts(0, 20), {
            let load = calls.loader();
            move |keys: Vec<String>| {
                let load = load(keys);
                async move {
                    let answers = load.await?.into_iter();
                    Ok::<_, io::Error>(
                        answers.map(|(key, v)| (key, Ok::<_, io::Error>(Loaded::value(v)))).collect::<Vec<_>>(),
                    )
                }
            }
        })
        .await;
    for answer in found {
        let answer = answer.unwrap();
        assert_eq!((answer.value.unwrap().as_str(), answer.freshness), ("old", Freshness::Fresh));
    }
    until_new(&cache, &texts(0, 20)).await;
    assert_eq!(calls.all(), [texts(0, 20)]);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_batch_that_only_reads_refreshes_nothing() {
    let tiered = node(&Memory::new()).await;
    let cache = ahead(&tiered);
    due(&cache, &texts(0, 3)).await;
    for _ in 0..3 {
        assert_eq!(values(&cache.get_many(&["k000", "k001", "k002"]).await), all_old(3));
    }
    assert_eq!(tiered.metrics().get(Metric::Refresh), 0);
    // and leaves it to a caller that has a loader
    let calls = Calls::default();
    cache.get_many_or_load(&texts(0, 3), calls.loader()).await;
    until_new(&cache, &texts(0, 3)).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn refreshes_of_overlapping_batches_and_single_gets_load_each_key_once_in_a_fleet() {
    let memory = Memory::new();
    let caches = [ahead(&node(&memory).await), ahead(&node(&memory).await), ahead(&node(&memory).await)];
    for cache in &caches[1..] {
        due(cache, &texts(0, 30)).await;
    }
    due(&caches[0], &texts(0, 30)).await;
    let calls = Calls::default();
    let mut callers = tokio::task::JoinSet::new();
    for cache in &caches {
        for from in [0, 5, 10] {
            let (cache, load) = (cache.clone(), calls.loader());
            callers.spawn(async move {
                let found = cache.get_many_or_load(&texts(from, from + 20), load).await;
                assert_eq!(found.len(), 20);
                assert!(found.iter().all(Result::is_ok));
            });
        }
        let (cache, noted) = (cache.clone(), calls.clone());
        callers.spawn(async move {
            let load = async move || {
                noted.note(&["k007".to_owned()]);
                Ok::<_, io::Error>("v:k007".to_owned())
            };
            cache.get_or_load("k007", load).await.unwrap();
        });
    }
    callers.join_all().await;
    for cache in &caches {
        // who was not the one to load finds it far, a while later
        eventually("every process has the new values", async || {
            let found = values(&cache.get_many_or_load(&texts(0, 30), calls.loader()).await);
            found.iter().flatten().all(|value| value.starts_with("v:"))
        })
        .await;
    }
    assert_eq!(calls.keys(), texts(0, 30), "no key was loaded twice: {:?}", calls.all());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_key_invalidated_during_the_refresh_of_its_batch_is_not_stored_and_the_others_are() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let (cache, other) = (ahead(&tiered), ahead(&node(&memory).await));
    due(&cache, &texts(0, 3)).await;
    let gate = Gate::default();
    assert_eq!(values(&cache.get_many_or_load(&texts(0, 3), gate.many()).await), all_old(3));
    timeout(LONG, gate.began.notified()).await.unwrap();
    other.invalidate("k001").await.unwrap();
    eventually("the refresher hears of it", async || cache.get("k001").await.unwrap().is_none()).await;
    gate.go.notify_one();
    eventually("the refresh has ended", async || tiered.under_way() == 0).await;
    until_new(&cache, &["k000".to_owned(), "k002".to_owned()]).await;
    for cache in [&cache, &other] {
        assert!(cache.get("k001").await.unwrap().is_none(), "what was read before the invalidation is kept");
    }
    common::audit::at_the_end().await;
}

/// sturdyc deletes what it could not refresh.
#[tokio::test]
async fn a_refresh_of_a_batch_that_fails_leaves_the_values_and_is_not_tried_again_at_once() {
    let tiered = node(&Memory::new()).await;
    let cache = ahead(&tiered);
    due(&cache, &texts(0, 3)).await;
    let calls = Calls::default();
    let fails = {
        let calls = calls.clone();
        move |keys: Vec<String>| {
            calls.note(&keys);
            std::future::ready(Err::<Vec<(String, String)>, _>(io::Error::other("down")))
        }
    };
    assert_eq!(values(&cache.get_many_or_load(&texts(0, 3), fails.clone()).await), all_old(3));
    eventually("it has failed", async || tiered.metrics().get(Metric::LoadFailed) == 1).await;
    eventually("the flights have ended", async || tiered.in_flight() + tiered.under_way() == 0).await;
    for _ in 0..20 {
        assert_eq!(values(&cache.get_many_or_load(&texts(0, 3), fails.clone()).await), all_old(3));
    }
    assert_eq!(calls.all(), [texts(0, 3)]);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn refreshes_of_a_batch_are_no_larger_than_a_call_may_be() {
    let tiered = node(&Memory::new()).await;
    let cache = ahead(&tiered);
    due(&cache, &texts(0, 120)).await;
    let calls = Calls::default();
    cache.get_many_or_load(&texts(0, 120), calls.loader()).await;
    until_new(&cache, &texts(0, 120)).await;
    assert_eq!(calls.keys(), texts(0, 120));
    assert!(calls.all().iter().all(|keys| keys.len() <= 50), "{:?}", calls.all());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn reads_of_a_batch_make_sliding_ttls_count_anew_near_and_far() {
    let ttl = Duration::from_secs(3);
    let policy = || Policy::from(ttl).jitter(0.0).sliding();
    let sliding =
        |tiered: &Tiered| -> Cache<String> { tiered.cache("names").codec(Raw).policy(policy()).build().unwrap() };
    let memory = Memory::new();
    // one reads near, one has nothing near
    let (near, bare) = (node(&memory).await, Tiered::builder().far(memory.clone()).bound(BOUND).build().await.unwrap());
    let (a, b) = (sliding(&near), sliding(&bare));
    a.get_or_load("a", || ok("v")).await.unwrap();
    b.get_or_load("b", || ok("v")).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < ttl * 3 / 2 {
        assert_eq!(values(&a.get_many(&["a"]).await), [Some("v".to_owned())]);
        assert_eq!(values(&b.get_many(&["b"]).await), [Some("v".to_owned())]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for tiered in [&near, &bare] {
        assert!(tiered.metrics().get(Metric::Touched) > 0);
    }
    common::audit::at_the_end().await;
}

/// A soft timeout is a promise to the caller of a batch, not to each of its keys.
#[tokio::test]
async fn a_late_batch_keeps_its_caller_for_one_soft_timeout_and_not_for_one_a_key() {
    let soft = Duration::from_millis(300);
    let memory = Memory::new();
    let (far, tiered) = chaos(&memory).await;
    let policy = Policy::minutes(5).ttl(Duration::from_millis(40)).jitter(0.0);
    let policy = policy.fail_safe(Duration::from_secs(600)).soft_timeout(soft);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    let keys = texts(0, 100);
    assert!(cache.get_many_or_load(&keys, Calls::default().loader()).await.iter().all(Result::is_ok));
    let texts: Vec<&str> = keys.iter().map(String::as_str).collect();
    eventually("their time is over", async || cache.get_many(&texts).await.iter().all(|v| matches!(v, Ok(None)))).await;
    let asked = far.calls(Op::LeaseMany);
    let over = Arc::new(AtomicBool::new(false));
    let hangs = {
        let over = Arc::clone(&over);
        move |_: Vec<String>| {
            let over = Arc::clone(&over);
            async move {
                let () = std::future::pending().await;
                over.store(true, Ordering::SeqCst);
                Ok::<Vec<(String, String)>, io::Error>(Vec::new())
            }
        }
    };
    let begun = Instant::now();
    let found = timeout(LONG, cache.get_many_or_load(&keys, hangs)).await.unwrap();
    assert!(begun.elapsed() < soft * 20, "{:?} for 100 late keys", begun.elapsed());
    assert!(found.iter().all(|found| found.as_ref().is_ok_and(Option::is_some)));
    assert_eq!(far.calls(Op::LeaseMany), asked + 1);
    assert!(!over.load(Ordering::SeqCst));
    tiered.close().await;
    common::audit::at_the_end().await;
}

/// Values past their time, and how long a caller waits where there is one to serve.
async fn past_their_time(tiered: &Tiered, keys: &[String], soft: Duration) -> Cache<String> {
    let policy = Policy::minutes(5).ttl(Duration::from_millis(40)).jitter(0.0);
    let policy = policy.fail_safe(Duration::from_secs(600)).soft_timeout(soft);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    assert!(cache.get_many_or_load(keys, Calls::default().loader()).await.iter().all(Result::is_ok));
    let texts: Vec<&str> = keys.iter().map(String::as_str).collect();
    eventually("their time is over", async || cache.get_many(&texts).await.iter().all(|v| matches!(v, Ok(None)))).await;
    cache
}

/// As a single call does: the far store's deadline is not the caller's.
#[tokio::test]
async fn a_slow_far_store_does_not_hold_a_batch_whose_keys_all_have_a_fallback() {
    let soft = Duration::from_millis(100);
    let memory = Memory::new();
    let (far, tiered) = slow_chaos(&memory).await;
    let cache = past_their_time(&tiered, &texts(0, 5), soft).await;
    far.slow(Duration::from_secs(3));
    let calls = Calls::default();
    let begun = Instant::now();
    let found = cache.get_many_or_load(&texts(0, 5), calls.loader()).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(values(&found), texts(0, 5).iter().map(|key| Some(format!("v:{key}"))).collect::<Vec<_>>());
    assert!(calls.all().is_empty() && tiered.in_flight() == 5, "the load goes on in the background");
    far.slow(Duration::ZERO);
    eventually("and ends", async || tiered.in_flight() == 0).await;
    assert_eq!(calls.all(), [texts(0, 5)]);
    common::audit::at_the_end().await;
}

/// What has a fallback is served it, and who has none keeps the call; the far store's time counts, once.
#[tokio::test]
async fn in_a_late_batch_keys_without_a_fallback_are_waited_for() {
    let soft = Duration::from_millis(300);
    let memory = Memory::new();
    let (far, tiered) = slow_chaos(&memory).await;
    let cache = past_their_time(&tiered, &texts(0, 3), soft).await;
    // most of the soft timeout goes into asking the far store: what is left is for the load
    far.slow(soft * 2 / 3);
    let gate = Gate::default();
    let begun = Instant::now();
    let stale = cache.load_many_with(&texts(0, 3), single(&gate, "new")).await;
    let took = begun.elapsed();
    assert!(stale.iter().all(|found| matches!(found.as_ref().unwrap().freshness, Freshness::Stale(_))));
    assert!(took >= soft && took < soft * 5 / 3, "{took:?} for a soft timeout of {soft:?}");
    far.slow(Duration::ZERO);
    let both = [texts(0, 3), texts(7, 8)].concat();
    let call = tokio::spawn({
        let (cache, load) = (cache.clone(), single(&gate, "new"));
        async move { cache.load_many_with(&both, load).await }
    });
    eventually("the missing one is loaded", async || gate.calls.keys().contains(&texts(7, 8)[0])).await;
    tokio::time::sleep(soft * 2).await;
    assert!(!call.is_finished(), "there is nothing to serve for one of them");
    gate.go.notify_one();
    gate.go.notify_one();
    let found = timeout(LONG, call).await.unwrap().unwrap();
    assert!(found.iter().all(|found| found.as_ref().is_ok_and(|answer| answer.value.is_some())));
    assert_eq!(found[3].as_ref().unwrap().freshness, Freshness::Fresh);
    tiered.close().await;
    common::audit::at_the_end().await;
}

type Answers = io::Result<Vec<(String, io::Result<Loaded<String>>)>>;

/// A loader that answers when it is let go.
fn single(
    gate: &Gate,
    value: &'static str,
) -> impl Fn(Vec<String>) -> std::pin::Pin<Box<dyn Future<Output = Answers> + Send>> + Send + Sync + 'static + use<> {
    let gate = gate.clone();
    move |keys| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.calls.note(&keys);
            gate.go.notified().await;
            Ok(keys.into_iter().map(|key| (key, Ok(Loaded::value(value.to_owned())))).collect())
        })
    }
}
