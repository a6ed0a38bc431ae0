//! Origin protection: the limit, the queue, the breaker, and what is never lost.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Clock, Error, ErrorKind, ManualClock, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Origin, OriginBreaker, Policy, Tiered};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use common::batch::{Calls, texts};
use common::{alone, eventually, ok};

/// An origin that counts its callers and holds them until it lets them go.
#[derive(Clone)]
struct Slow {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slow {
    fn new() -> Self {
        Self { now: Arc::default(), most: Arc::default(), calls: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    fn inside(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    async fn read(self) -> io::Result<String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        let _inside = Inside(Arc::clone(&self.now));
        self.most.fetch_max(now, Ordering::SeqCst);
        self.go.acquire().await.unwrap().forget();
        Ok("v".to_owned())
    }

    /// Starts a load of `key`.
    fn load(&self, cache: &Cache<String>, key: impl Into<String>) -> JoinHandle<Result<Arc<String>, Error>> {
        let (cache, slow, key) = (cache.clone(), self.clone(), key.into());
        tokio::spawn(async move { cache.get_or_load(&key, move || slow.read()).await })
    }
}

fn guarded(tiered: &Tiered, origin: Origin) -> Cache<String> {
    tiered.cache("names").codec(Raw).origin(origin).build().unwrap()
}

async fn fails() -> io::Result<String> {
    Err(io::Error::other("down"))
}

#[tokio::test]
async fn no_more_loads_run_at_once_than_allowed_and_the_rest_wait_their_turn() {
    let cache = guarded(&alone().await, Origin::default().at_most(3).queue(100).patience(Duration::from_secs(20)));
    let slow = Slow::new();
    let loads: Vec<_> = (0..20).map(|n| slow.load(&cache, format!("k{n}"))).collect();
    eventually("three are inside", async || slow.inside() == 3).await;
    slow.go.add_permits(20);
    for load in loads {
        load.await.unwrap().unwrap();
    }
    assert_eq!((slow.most.load(Ordering::SeqCst), slow.calls.load(Ordering::SeqCst)), (3, 20));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_load_beyond_the_queue_is_refused_at_once_and_told_what_to_change() {
    let tiered = alone().await;
    let cache = guarded(&tiered, Origin::default().at_most(1).queue(1).patience(Duration::from_secs(20)));
    let slow = Slow::new();
    let first = slow.load(&cache, "a");
    eventually("it is inside", async || slow.inside() == 1).await;
    let second = slow.load(&cache, "b");
    eventually("two are in flight", async || tiered.in_flight() == 2).await;
    // tasks run in the order in which they began, so the second waits already
    let error = cache.get_or_load("c", || ok("never")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.retry_after().is_some_and(|after| !after.is_zero()));
    assert!(error.to_string().contains("at_most") && error.to_string().contains("queue"), "{error}");
    assert_eq!(tiered.metrics().get(Metric::LoadShed), 1);
    slow.go.add_permits(2);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(tiered.metrics().get(Metric::Load), 2, "what was refused is no load");
    assert_eq!(cache.get_or_load("c", || ok("v")).await.unwrap().as_str(), "v");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_turn_is_waited_for_only_so_long() {
    let cache = guarded(&alone().await, Origin::default().at_most(1).patience(Duration::from_millis(50)));
    let slow = Slow::new();
    let first = slow.load(&cache, "a");
    eventually("it is inside", async || slow.inside() == 1).await;
    let error = timeout(Duration::from_secs(10), cache.get_or_load("b", || ok("never"))).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("patience"), "{error}");
    slow.go.add_permits(1);
    first.await.unwrap().unwrap();
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn no_permit_is_lost_to_callers_that_leave_panics_and_deadlines() {
    let tiered = alone().await;
    let policy = Policy::minutes(5).hard_timeout(Duration::from_millis(200));
    let origin = Origin::default().at_most(2).queue(50);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).origin(origin).build().unwrap();
    for round in 0..5 {
        let slow = Slow::new();
        // inside and in the queue alike
        let leave: Vec<_> = (0..6).map(|n| slow.load(&cache, format!("leave{round}.{n}"))).collect();
        eventually("two are inside", async || slow.inside() == 2).await;
        leave.iter().for_each(JoinHandle::abort);
        eventually("all have left", async || tiered.in_flight() == 0 && slow.inside() == 0).await;
        let panics = cache.get_or_load("panics", || async {
            if true {
                panic!("on purpose");
            }
            fails().await
        });
        assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Loader);
        let late = cache.get_or_load("late", std::future::pending::<io::Result<String>>);
        assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(cache.get_or_load("fails", fails).await.is_err());
    }
    let slow = Slow::new();
    let loads: Vec<_> = (0..4).map(|n| slow.load(&cache, format!("k{n}"))).collect();
    eventually("as many as ever are inside", async || slow.inside() == 2).await;
    slow.go.add_permits(4);
    for load in loads {
        load.await.unwrap().unwrap();
    }
    common::audit::at_the_end().await;
}

fn trips_after_four(tiered: &Tiered) -> Cache<String> {
    let breaker = OriginBreaker::default().fewest(4).pause(Duration::from_secs(10));
    guarded(tiered, Origin::default().breaker(breaker))
}

async fn with_clock() -> (Tiered, ManualClock) {
    let (clock, hand) = Clock::manual();
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).clock(clock).build().await.unwrap();
    (tiered, hand)
}

#[tokio::test]
async fn an_origin_that_fails_gets_a_pause_then_one_probe() {
    let (tiered, hand) = with_clock().await;
    let cache = trips_after_four(&tiered);
    cache.get_or_load("near", || ok("v")).await.unwrap();
    for n in 0..3 {
        assert_eq!(cache.get_or_load(&format!("f{n}"), fails).await.unwrap_err().kind(), ErrorKind::Loader);
    }
    let loads = tiered.metrics().get(Metric::Load);
    for n in 0..10 {
        let error = cache.get_or_load(&format!("o{n}"), || ok("never")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    }
    assert!(cache.get("near").await.unwrap().is_some(), "what is near is served");
    assert_eq!(tiered.metrics().get(Metric::Load), loads, "the origin is left alone");
    assert_eq!(tiered.metrics().get(Metric::OriginTripped), 1);
    hand.advance(Duration::from_secs(10));
    // the probe; while it is under way nobody else goes
    let slow = Slow::new();
    let probe = slow.load(&cache, "probe");
    eventually("the probe is inside", async || slow.inside() == 1).await;
    assert_eq!(cache.get_or_load("other", || ok("never")).await.unwrap_err().kind(), ErrorKind::Overloaded);
    slow.go.add_permits(1);
    probe.await.unwrap().unwrap();
    assert_eq!(*cache.get_or_load("other", || ok("v")).await.unwrap(), "v");
}

#[tokio::test]
async fn a_probe_that_its_caller_leaves_does_not_keep_the_breaker_open() {
    let (tiered, hand) = with_clock().await;
    let cache = trips_after_four(&tiered);
    for n in 0..4 {
        assert!(cache.get_or_load(&format!("f{n}"), fails).await.is_err());
    }
    hand.advance(Duration::from_secs(10));
    let slow = Slow::new();
    let probe = slow.load(&cache, "probe");
    eventually("the probe is inside", async || slow.inside() == 1).await;
    probe.abort();
    eventually("it is gone", async || tiered.in_flight() == 0 && slow.inside() == 0).await;
    assert_eq!(*cache.get_or_load("k", || ok("v")).await.unwrap(), "v", "the next one is the probe");
}

#[tokio::test]
async fn loads_past_their_deadline_open_the_breaker() {
    let tiered = alone().await;
    let policy = Policy::minutes(5).hard_timeout(Duration::from_millis(30));
    let breaker = OriginBreaker::default().fewest(4).pause(Duration::from_secs(60)).window(Duration::from_secs(60));
    let origin = Origin::default().breaker(breaker);
    let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).origin(origin).build().unwrap();
    for n in 0..4 {
        let key = format!("h{n}");
        let hangs = cache.get_or_load(&key, std::future::pending::<io::Result<String>>);
        assert_eq!(hangs.await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(cache.get_or_load("k", || ok("never")).await.unwrap_err().kind(), ErrorKind::Overloaded);
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_batch_is_one_call_and_what_is_refused_touches_no_near_hit() {
    let tiered = alone().await;
    let cache = guarded(&tiered, Origin::default().at_most(1).queue(0));
    let calls = Calls::default();
    assert!(cache.get_many_or_load(&texts(0, 50), calls.loader()).await.iter().all(Result::is_ok));
    assert_eq!(calls.all().len(), 1);
    let slow = Slow::new();
    let busy = slow.load(&cache, "busy");
    eventually("it is inside", async || slow.inside() == 1).await;
    let found = cache.get_many_or_load(&texts(45, 55), calls.loader()).await;
    for (n, found) in found.into_iter().enumerate() {
        match n {
            0..5 => assert!(found.unwrap().is_some()),
            _ => assert_eq!(found.unwrap_err().kind(), ErrorKind::Overloaded),
        }
    }
    slow.go.add_permits(1);
    busy.await.unwrap().unwrap();
    assert!(cache.get_many_or_load(&texts(45, 55), calls.loader()).await.iter().all(Result::is_ok));
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn caches_of_a_space_share_their_protection() {
    let tiered = alone().await;
    let origin = Origin::default().at_most(1).queue(0);
    let (a, b) = (guarded(&tiered, origin.clone()), guarded(&tiered, origin.clone()));
    let slow = Slow::new();
    let busy = slow.load(&a, "busy");
    eventually("it is inside", async || slow.inside() == 1).await;
    assert_eq!(b.get_or_load("k", || ok("never")).await.unwrap_err().kind(), ErrorKind::Overloaded);
    slow.go.add_permits(1);
    busy.await.unwrap().unwrap();
    let other = tiered.cache::<String>("names").codec(Raw).origin(origin.queue(7)).build().unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Config);
    assert!(tiered.cache::<String>("others").codec(Raw).origin(Origin::default().at_most(9)).build().is_ok());
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn contradictions_are_refused_with_one_error_that_lists_them() {
    let tiered = alone().await;
    let breaker = OriginBreaker::default().rate(1.5).fewest(0).pause(Duration::ZERO);
    let origin = Origin::default().at_most(0).patience(Duration::ZERO).breaker(breaker);
    let error = tiered.cache::<String>("names").codec(Raw).origin(origin).max_batch(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in ["at_most", "patience", "rate", "fewest", "pause", "max_batch"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    for origin in [Origin::default(), Origin::default().queue(5)] {
        assert!(tiered.cache::<String>("names").codec(Raw).origin(origin).build().is_err());
    }
    // a builder that failed leaves nothing behind
    assert!(tiered.cache::<String>("names").codec(Raw).origin(Origin::default().at_most(1)).build().is_ok());
    common::audit::at_the_end().await;
}
