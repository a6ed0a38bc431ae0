//! A far store that is away, comes back, or comes back as another.

mod common;

use std::io;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Clock, Memory, Tick, Ticks, memory::LocalMemory, testkit::Chaos};
use cache_tiered::{Freshness, Loaded, StaleReason, Tier, Tiered};
use common::{BOUND, eventually, names, node, ok};
use tokio::time::Instant;

#[tokio::test]
async fn a_restarted_far_store_makes_near_entries_prove_themselves() {
    let far = Memory::new();
    let tiered = node(&far).await;
    names(&tiered).get_or_load("k", || ok("v")).await.unwrap();
    far.restart();
    eventually("an epoch begins", async || tiered.metrics().get(Metric::EpochBump) >= 2).await;
    assert!(names(&tiered).get("k").await.unwrap().is_none(), "the store no longer has the stamp");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_new_server_is_told_of_the_tags_and_keys_that_were_invalidated_a_moment_ago() {
    let far = Memory::new();
    let (tiered, started) = (node(&far).await, node(&far).await);
    tiered.invalidate_tag("t").await.unwrap();
    tiered.clear().await.unwrap();
    names(&tiered).invalidate("k").await.unwrap();
    let told = async |n| {
        eventually("they are repeated", async || tiered.metrics().get(Metric::Invalidated) == n).await;
    };
    told(3).await;
    far.restart();
    told(6).await;
    // what was repeated is told again to the next one
    far.restart();
    told(9).await;
    assert_eq!(started.metrics().get(Metric::Invalidated), 0, "by whoever had it acknowledged");
    common::audit::at_the_end().await;
}

#[tokio::test]
async fn a_value_loaded_while_cut_off_is_not_followed_by_an_older_one_from_the_far_store() {
    let far = Chaos::new(Memory::new());
    let tiered = Tiered::builder().far(far.clone()).bound(BOUND).outage(Duration::ZERO).build().await.unwrap();
    let cache = names(&tiered);
    assert_eq!(cache.get_or_load("k", || ok("old")).await.unwrap().as_str(), "old");
    far.partition(true);
    eventually("cut off", async || tiered.is_cut_off()).await;
    // the row changed; whoever changed it could not invalidate yet
    assert_eq!(cache.get_or_load("k", || ok("new")).await.unwrap().as_str(), "new");
    far.partition(false);
    eventually("connected", async || !tiered.is_cut_off()).await;
    assert_eq!(cache.get_or_load("k", || ok("new")).await.unwrap().as_str(), "new");
    assert_eq!(names(&tiered).get_or_load("k", || ok("newest")).await.unwrap().as_str(), "new", "and it is kept again");
}

#[tokio::test]
async fn while_cut_off_near_hits_go_on_for_the_outage_window_and_say_so() {
    let far = Chaos::new(Memory::new());
    let window = Duration::from_millis(600);
    let tiers = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(BOUND).outage(window);
    let tiered = tiers.build().await.unwrap();
    let cache = names(&tiered);
    cache.get_or_load("k", || ok("v")).await.unwrap();
    far.partition(true);
    eventually("cut off", async || tiered.is_cut_off()).await;
    let answer = cache.lookup("k").await.unwrap().unwrap();
    assert_eq!((answer.tier, answer.freshness), (Tier::Near, Freshness::Stale(StaleReason::Unconfirmed)));
    eventually("the window is over", async || cache.lookup("k").await.is_err()).await;
    let answer = cache.load_with("k", || async { Ok::<_, io::Error>(Loaded::value("w".to_owned())) }).await.unwrap();
    assert_eq!(answer.tier, Tier::Origin);
    let again = cache.lookup("k").await.unwrap().unwrap();
    assert_eq!(again.freshness, Freshness::Stale(StaleReason::Unconfirmed), "a load while cut off is kept, marked");
    far.partition(false);
    eventually("connected", async || !tiered.is_cut_off()).await;
    let answer = cache.load_with("k", || async { Ok::<_, io::Error>(Loaded::value("w".to_owned())) }).await.unwrap();
    assert_eq!(answer.freshness, Freshness::Fresh);
}

/// Time as the runtime has it, so that a wait that is not awaited costs none.
struct Paused(Instant);

impl Ticks for Paused {
    fn now(&self) -> Tick {
        Tick::ZERO + self.0.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        self.0.elapsed().as_millis().try_into().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn no_near_hit_waits_for_a_far_store_that_hangs() {
    let clock = Clock::from_source(Paused(Instant::now()));
    let far = Chaos::new(Memory::builder().clock(clock.clone()).build());
    let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).clock(clock).build().await.unwrap();
    let cache = names(&tiered);
    cache.get_or_load("k", || ok("v")).await.unwrap();
    far.hang();
    let hung = Instant::now();
    let mut marked = 0;
    // trust ends on the way, and the outage window does not
    while hung.elapsed() < tiered.bound() * 10 {
        let asked = Instant::now();
        assert!(cache.get("k").await.unwrap().is_some());
        let answer = cache.load_with("k", async || Ok::<_, io::Error>(Loaded::value("w".to_owned()))).await.unwrap();
        assert_eq!((answer.value.as_deref().map(String::as_str), asked.elapsed()), (Some("v"), Duration::ZERO));
        marked += u32::from(answer.freshness != Freshness::WithinBound);
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    assert!(marked > 0 && tiered.is_cut_off());
    assert_eq!(tiered.metrics().get(Metric::TrustLapse), 1, "once, however many beats fail");
    assert!(tiered.beat_lag().unwrap() > tiered.bound() * 9);
}
