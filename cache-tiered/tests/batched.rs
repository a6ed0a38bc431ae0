//! A cache with a batch loader of its own: what comes together is loaded together.

mod common;

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::testkit::chaos::Op;
use cache_core::{ErrorKind, Memory, codec::Raw};
use cache_tiered::{Batched, Cache, Loaded, Origin, Policy};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use common::batch::{Calls, Gate, answer, chaos, nothing_is_left, texts};
use common::{alone, eventually, names, node, ok};

type Names = Batched<String, String, str>;

fn find(names: &Names, key: &str) -> JoinHandle<cache_core::Result<Option<Arc<String>>>> {
    let (names, key) = (names.clone(), key.to_owned());
    tokio::spawn(async move { names.find_or_load(&key).await })
}

async fn many_at_once(names: &Names, calls: &Calls) {
    let loads: Vec<_> = texts(0, 64).iter().map(|key| find(names, key)).collect();
    for (key, load) in texts(0, 64).into_iter().zip(loads) {
        assert_eq!(*load.await.unwrap().unwrap().unwrap(), answer(key).1);
    }
    assert_eq!(calls.keys(), texts(0, 64), "each key once");
}

#[tokio::test]
async fn concurrent_misses_are_loaded_in_one_call() {
    let memory = Memory::new();
    for tiered in [alone().await, node(&memory).await] {
        let calls = Calls::default();
        let names = names(&tiered).batched(calls.loader()).window(Duration::from_secs(5));
        many_at_once(&names, &calls).await;
        assert_eq!(calls.all().len(), 1);
        assert_eq!(tiered.metrics().get(Metric::Load), 1, "one call is one load");
        assert_eq!(tiered.in_flight(), 0);
        // near now
        assert!(names.get_or_load(&"k000".to_owned()).await.is_ok());
        assert_eq!(calls.all().len(), 1);
    }
    common::audit::at_the_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_calls_are_few() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let calls = Calls::default();
    let names = names(&tiered).batched(calls.loader());
    many_at_once(&names, &calls).await;
    assert!(calls.all().len() <= 32, "{} calls for 64 keys", calls.all().len());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn who_is_alone_waits_for_nobody() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let calls = Calls::default();
    let names = names(&tiered).batched(calls.loader()).window(Duration::from_secs(3600));
    let found = timeout(Duration::from_secs(10), names.get_or_load(&"a".to_owned())).await;
    assert_eq!(*found.expect("no window is sat out").unwrap(), "v:a");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_far_hit_on_the_way_holds_nobody_back() {
    let memory = Memory::new();
    names(&node(&memory).await).get_or_load("far", || ok("far")).await.unwrap();
    let (far, tiered) = chaos(&memory).await;
    let calls = Calls::default();
    let names = names(&tiered).batched(calls.loader()).window(Duration::from_secs(3600));
    far.slow(Duration::from_millis(1));
    let (a, b) = (find(&names, "far"), find(&names, "k"));
    let both = timeout(Duration::from_secs(10), async { (a.await.unwrap().unwrap(), b.await.unwrap().unwrap()) });
    let (a, b) = both.await.expect("a key that was found is not waited for");
    assert_eq!((a.unwrap().as_str(), b.unwrap().as_str()), ("far", "v:k"));
    assert_eq!(calls.all(), [["k"]]);
    assert_eq!(far.calls(Op::Read), 2);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn the_window_ends_a_wait_for_a_key_that_does_not_come() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    // another process loads it, and takes its time
    let held = cache_core::Stamp(7);
    let leases = cache_core::CacheService::leases(&memory).unwrap();
    leases.lease("strata:k:names:held", held, Duration::from_secs(60)).await.unwrap();
    let calls = Calls::default();
    let names = names(&tiered).batched(calls.loader()).window(Duration::from_millis(50));
    let waits = find(&names, "held");
    eventually("it waits", async || tiered.metrics().get(Metric::LeaseWait) > 0).await;
    assert!(find(&names, "k").await.unwrap().unwrap().is_some());
    assert_eq!(calls.all(), [["k"]]);
    waits.abort();
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn calls_are_no_larger_than_allowed() {
    let tiered = alone().await;
    let calls = Calls::default();
    let cache: Cache<String> = tiered.cache("names").codec(Raw).max_batch(10).build().unwrap();
    many_at_once(&cache.batched(calls.loader()).window(Duration::from_millis(50)), &calls).await;
    assert!(calls.all().iter().all(|call| call.len() <= 10));
    assert!(calls.all().len() < 20, "{} calls", calls.all().len());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn what_is_left_out_is_nothing_and_one_keys_error_is_its_own() {
    let tiered = alone().await;
    let names: Names = names(&tiered)
        .batched_with(|keys: Vec<String>| {
            let answers: Vec<_> = keys
                .into_iter()
                .filter(|key| key != "none")
                .map(|key| match &*key {
                    "bad" => (key, Err(io::Error::other("row is corrupt"))),
                    _ => (key, Ok(Loaded::value("v".to_owned()))),
                })
                .collect();
            ready(Ok::<_, io::Error>(answers))
        })
        .window(Duration::from_secs(5));
    let loads = [find(&names, "none"), find(&names, "bad"), find(&names, "good")];
    let [none, bad, good] = loads;
    assert!(none.await.unwrap().unwrap().is_none());
    assert_eq!(bad.await.unwrap().unwrap_err().kind(), ErrorKind::Loader);
    assert_eq!(*good.await.unwrap().unwrap().unwrap(), "v");
    assert_eq!(tiered.metrics().get(Metric::Load), 1);
    assert_eq!(names.get_or_load(&"none".to_owned()).await.unwrap_err().kind(), ErrorKind::Loader);
    assert!(names.lookup_or_load(&"none".to_owned()).await.unwrap().value.is_none());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_call_that_panics_fails_its_own_keys_and_the_next_goes_well() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let policy = Policy::minutes(5).backoff(None);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
    let panics = std::sync::atomic::AtomicBool::new(true);
    let names: Names = cache.batched(move |keys: Vec<String>| {
        assert!(!panics.swap(false, std::sync::atomic::Ordering::SeqCst), "on purpose");
        ready(Ok::<_, io::Error>(keys.into_iter().map(answer)))
    });
    let names = names.window(Duration::from_secs(5));
    let loads = [find(&names, "a"), find(&names, "b")];
    for load in loads {
        let error = timeout(Duration::from_secs(10), load).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    nothing_is_left(&tiered, &memory, &["a".to_owned(), "b".to_owned()]).await;
    assert!(find(&names, "a").await.unwrap().unwrap().is_some());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_call_that_everybody_left_is_cancelled_and_one_that_somebody_waits_for_is_not() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let gate = Gate::default();
    let names = names(&tiered).batched(gate.many()).window(Duration::from_secs(5));
    let (a, b) = (find(&names, "a"), find(&names, "b"));
    gate.began.notified().await;
    a.abort();
    eventually("one is left", async || tiered.in_flight() == 1).await;
    gate.go.notify_one();
    assert!(b.await.unwrap().unwrap().is_some());
    // now all leave
    let loads: Vec<_> = ["c", "d"].iter().map(|key| find(&names, key)).collect();
    gate.began.notified().await;
    loads.iter().for_each(JoinHandle::abort);
    nothing_is_left(&tiered, &memory, &["c".to_owned(), "d".to_owned()]).await;
    // ours, and the loader's own
    eventually("the loader's future is gone", async || Arc::strong_count(&gate.go) == 2).await;
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_gathered_call_takes_one_place_of_the_origin() {
    let tiered = alone().await;
    let calls = Calls::default();
    let origin = Origin::default().at_most(1).queue(0);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).origin(origin).build().unwrap();
    many_at_once(&cache.batched(calls.loader()).window(Duration::from_secs(5)), &calls).await;
    assert_eq!(calls.all().len(), 1, "64 keys and one place: nobody was refused");
    assert_eq!(tiered.metrics().get(Metric::LoadShed), 0);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn an_invalidation_during_a_gathered_load_is_heeded() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let cache = names(&tiered);
    let gate = Gate::default();
    let names = cache.batched(gate.many()).window(Duration::from_secs(5));
    let slow = find(&names, "k");
    gate.began.notified().await;
    cache.invalidate("k").await.unwrap();
    let again = find(&names, "k");
    gate.began.notified().await;
    assert_eq!(gate.calls.all(), [["k"], ["k"]], "nobody joins a load older than the invalidation");
    gate.go.notify_one();
    gate.go.notify_one();
    let _ = (slow, again);
    eventually("both end", async || {
        gate.go.notify_one();
        tiered.in_flight() == 0
    })
    .await;
    assert_eq!(tiered.metrics().get(Metric::FillRejected), 1);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn single_gathered_and_batch_loads_share_one_flight_table() {
    let memory = Memory::new();
    let tiered = node(&memory).await;
    let calls = Calls::default();
    let names = names(&tiered).batched(calls.loader()).window(Duration::from_millis(20));
    let mut tasks = JoinSet::new();
    for from in 0..10 {
        let names = names.clone();
        tasks.spawn(async move {
            let many = names.get_many_or_load(&texts(from, from + 10)).await;
            assert!(many.iter().all(Result::is_ok));
            for key in texts(from, from + 20) {
                names.get_or_load(&key).await.unwrap();
                names.cache().get_or_load(&key, || ok("never")).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(calls.keys(), texts(0, 29));
    common::audit::at_the_end().await;
}
