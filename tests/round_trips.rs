//! What each call costs in round trips to the far store, counted at the socket.

use std::convert::Infallible;
use std::time::Duration;

use cache_core::testkit::PATIENT;
use cache_core::{Bus, Line};
use cache_redis::testkit::Server;
use cache_strata::observe::Metric;
use cache_strata::{Cache, Moka, Redis, Tier, Tiered, Tracking};
use strata_tests::relay::Relay;

/// A process of its own behind a relay. No beat and no heartbeat comes in between: they are far longer than the test.
async fn node(server: &Server, bound: Duration) -> (Relay, Tiered, Cache<u64>) {
    node_with(server, bound, Tracking::Off).await
}

async fn node_with(server: &Server, bound: Duration, tracking: Tracking) -> (Relay, Tiered, Cache<u64>) {
    let relay = Relay::spawn(server.address()).await.unwrap();
    let far = Redis::builder().url(format!("{}?{PATIENT}&heartbeat=1m", relay.url())).tracking(tracking);
    let far = far.connect().await.unwrap();
    let tiered = Tiered::builder().near(Moka::new()).far(far).bound(bound).build().await.unwrap();
    let cache = tiered.cache("numbers").build().unwrap();
    // the first beat makes the namespace trusted
    let trusted = async {
        while load(&cache, "warm", 0).await != Tier::Near {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), trusted).await.expect("trusted");
    (relay, tiered, cache)
}

const LONG: Duration = Duration::from_secs(1800);

async fn load(cache: &Cache<u64>, key: &str, value: u64) -> Tier {
    cache.load_with(key, move || async move { Ok::<_, Infallible>(value.into()) }).await.unwrap().tier
}

/// The round trips of `call`, and what it returned.
async fn trips<T>(relay: &Relay, call: impl Future<Output = T>) -> (u64, T) {
    let before = relay.trips();
    let returned = call.await;
    (relay.trips() - before, returned)
}

#[tokio::test]
async fn what_each_call_costs() {
    let server = Server::spawn().unwrap();
    let (here, tiered, one) = node(&server, LONG).await;
    let (there, _other, two) = node(&server, LONG).await;

    assert_eq!(trips(&here, load(&one, "a", 1)).await, (3, Tier::Origin), "a miss: get, lease, fill");
    assert_eq!(trips(&here, load(&one, "a", 2)).await, (0, Tier::Near), "a near hit");
    assert_eq!(trips(&here, one.get("a")).await.0, 0, "a near hit");
    assert_eq!(trips(&there, load(&two, "a", 2)).await, (1, Tier::Far), "a far hit");
    assert_eq!(trips(&there, two.get("nothing")).await.0, 1, "a get of nothing, without a loader");
    let (cost, done) = trips(&here, one.invalidate("a")).await;
    done.unwrap();
    assert_eq!(cost, 1, "invalidate");
    let (cost, done) = trips(&here, tiered.invalidate_tag("t")).await;
    done.unwrap();
    assert_eq!(cost, 1, "invalidate_tag");
    let (cost, done) = trips(&here, one.set("b", 1)).await;
    done.unwrap();
    assert_eq!(cost, 1, "set: deleted, numbered, stored and published in one step");
    assert_eq!(trips(&here, load(&one, "b", 2)).await.1, Tier::Far, "a set is kept by the far store");
}

/// cached asks for the value that it replaces, and gets it.
#[tokio::test]
async fn a_value_is_moved_once_by_a_write_and_once_by_each_process_that_reads_it() {
    const LENGTH: u64 = 40_000;
    /// What may come with it: key, script, frame, message.
    const AROUND: u64 = 2_000;
    let server = Server::spawn().unwrap();
    let (here, _one, one) = node(&server, LONG).await;
    let (there, other, two) = node(&server, LONG).await;
    let texts = |cache: &Cache<u64>| cache.tiered().cache::<String>("texts").build().unwrap();
    let (one, two) = (texts(&one), texts(&two));
    let value = |n: u32| n.to_string().repeat(usize::try_from(LENGTH).unwrap());
    let once = |bytes: u64| (LENGTH..LENGTH + AROUND).contains(&bytes);
    // the scripts are known from here on, and the reader holds something to be told of
    one.set("k", "short".to_owned()).await.unwrap();
    two.get("k").await.unwrap();
    for n in 0..3 {
        let (written, heard, purged) = (here.bytes(), there.bytes(), other.metrics().get(Metric::Purged));
        one.set("k", value(n)).await.unwrap();
        let written = here.bytes() - written;
        assert!(once(written), "a set of {LENGTH} bytes moved {written}");
        let told = async {
            while other.metrics().get(Metric::Purged) == purged {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("the reader is told");
        let heard = there.bytes() - heard;
        assert!(heard < AROUND, "who is told of it was sent {heard} bytes");
        let read = there.bytes();
        assert!(two.get("k").await.unwrap().is_some_and(|read| *read == value(n)));
        let read = there.bytes() - read;
        assert!(once(read), "a far hit of {LENGTH} bytes moved {read}");
    }
    let filled = here.bytes();
    let loaded = value(4);
    one.get_or_load("other", || std::future::ready(Ok::<_, Infallible>(loaded))).await.unwrap();
    let filled = here.bytes() - filled;
    assert!(once(filled), "a load of {LENGTH} bytes moved {filled}");
}

#[tokio::test]
async fn tracking_of_reads_costs_a_look_at_the_stamp_after_a_load_and_no_other_round_trip() {
    let server = Server::spawn().unwrap();
    let (here, tiered, one) = node_with(&server, LONG, Tracking::Reads).await;
    let (there, _other, two) = node_with(&server, LONG, Tracking::Reads).await;

    assert_eq!(trips(&here, load(&one, "a", 1)).await, (3, Tier::Origin), "a miss: get, lease, fill");
    // the process's own lease is pushed to it
    assert_eq!(trips(&here, load(&one, "a", 2)).await, (1, Tier::Near), "the stamp");
    assert_eq!(trips(&here, load(&one, "a", 2)).await, (0, Tier::Near), "a near hit");
    assert_eq!(trips(&there, load(&two, "a", 2)).await, (1, Tier::Far), "a far hit");
    assert_eq!(trips(&there, load(&two, "a", 2)).await, (0, Tier::Near), "a near hit");
    assert_eq!(trips(&here, load(&one, "a", 2)).await, (0, Tier::Near), "what others read is no news");
    let (cost, done) = trips(&here, one.invalidate("a")).await;
    done.unwrap();
    assert_eq!(cost, 1, "invalidate");
    let (cost, done) = trips(&here, tiered.invalidate_tag("t")).await;
    done.unwrap();
    assert_eq!(cost, 1, "invalidate_tag");
    let (cost, done) = trips(&here, one.set("b", 1)).await;
    done.unwrap();
    assert_eq!(cost, 1, "set");
}

#[tokio::test]
async fn a_hundred_keys_at_once_cost_no_more_than_one() {
    let server = Server::spawn().unwrap();
    let (here, _tiered, one) = node(&server, LONG).await;
    let (there, _other, two) = node(&server, LONG).await;
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        load(&one, key, 1).await;
    }
    let (cost, found) = trips(&there, two.get_many(&keys)).await;
    assert_eq!((cost, found.iter().filter(|found| matches!(found, Ok(Some(_)))).count()), (1, 100));
    let (cost, done) = trips(&here, one.invalidate_many(&keys)).await;
    done.unwrap();
    assert_eq!(cost, 1);
}

#[tokio::test]
async fn a_beat_is_one_round_trip_and_nothing_else_is_sent_while_nobody_asks() {
    let server = Server::spawn().unwrap();
    let (relay, tiered, _cache) = node(&server, Duration::from_millis(300)).await;
    let count = || (tiered.metrics().get(Metric::Beat) + tiered.metrics().get(Metric::BeatFailed), relay.trips());
    let enough = async {
        let (beats, sent) = count();
        while count().0 < beats + 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (count(), (beats, sent))
    };
    let ((beats, sent), (beats_before, sent_before)) =
        tokio::time::timeout(Duration::from_secs(60), enough).await.expect("beats");
    let (beats, sent) = (beats - beats_before, sent - sent_before);
    // one may be under way at either end
    assert!(sent.abs_diff(beats) <= 1, "{sent} round trips for {beats} beats");

    let line = Line { seq: "other:seq".into(), channel: "other:c".into(), tags: "other:tags:".into() };
    let idle = Relay::spawn(server.address()).await.unwrap();
    let alone = Redis::connect(format!("{}?heartbeat=1m", idle.url())).await.unwrap();
    let (cost, beat) = trips(&idle, alone.beat(&line)).await;
    beat.unwrap();
    assert_eq!(cost, 1);
}
