//! Subscriptions: what arrives, and what is said about what did not.

use std::time::Duration;

use cache_core::{CacheService, ErrorKind};
use tokio::time::timeout;

use super::{TTL, connected, until};
use crate::connect::{SubEvent, Subscriber};
use crate::testkit::{Direction, Proxy, Server};
use crate::{Redis, RedisBuilder};

fn quick(url: &str) -> RedisBuilder {
    Redis::builder()
        .url(url)
        .timeout(Duration::from_millis(100))
        .heartbeat(Duration::from_millis(50))
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
}

async fn next(sub: &mut Subscriber) -> SubEvent {
    timeout(Duration::from_secs(20), sub.next()).await.expect("no event").expect("closed")
}

async fn publish(redis: &Redis, channel: &str, payload: &str) -> u64 {
    redis.link().call("test", redis::cmd("PUBLISH").arg(channel).arg(payload)).await.unwrap()
}

fn message(channel: &str, payload: &str) -> SubEvent {
    SubEvent::Message { channel: channel.to_owned(), payload: payload.to_owned().into() }
}

#[tokio::test]
async fn messages_arrive_in_order_from_the_moment_of_confirmation() {
    let server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url())).await;
    let mut sub = redis.link().subscribe(vec!["a".into(), "b".into(), "a".into()]).await.unwrap();
    for i in 0..200 {
        let channel = if i % 2 == 0 { "a" } else { "b" };
        assert_eq!(publish(&redis, channel, &i.to_string()).await, 1, "confirmed before subscribe returned");
    }
    publish(&redis, "c", "not ours").await;
    publish(&redis, "a", "").await;
    for i in 0..200 {
        assert_eq!(next(&mut sub).await, message(if i % 2 == 0 { "a" } else { "b" }, &i.to_string()));
    }
    assert_eq!(next(&mut sub).await, message("a", ""));
    drop(sub);
    until("unsubscribed", || async { publish(&redis, "a", "x").await == 0 }).await;
    let error = redis.link().subscribe(Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn idle_subscriptions_stay() {
    let server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url())).await;
    let mut sub = redis.link().subscribe(vec!["a".into()]).await.unwrap();
    // many heartbeats
    assert!(timeout(Duration::from_millis(600), sub.next()).await.is_err());
    publish(&redis, "a", "x").await;
    assert_eq!(next(&mut sub).await, message("a", "x"));
}

#[tokio::test]
async fn a_killed_connection_is_a_gap_that_ends() {
    let server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url())).await;
    let mut sub = redis.link().subscribe(vec!["a".into()]).await.unwrap();
    publish(&redis, "a", "1").await;
    assert_eq!(server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap(), "1");
    assert_eq!(next(&mut sub).await, message("a", "1"));
    assert_eq!(next(&mut sub).await, SubEvent::Lost);
    assert_eq!(next(&mut sub).await, SubEvent::Restored);
    assert_eq!(publish(&redis, "a", "2").await, 1);
    assert_eq!(next(&mut sub).await, message("a", "2"));
}

#[tokio::test]
async fn a_restarted_server_is_a_gap_that_ends() {
    let mut server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url())).await;
    let mut sub = redis.link().subscribe(vec!["a".into()]).await.unwrap();
    server.kill();
    assert_eq!(next(&mut sub).await, SubEvent::Lost);
    assert!(timeout(Duration::from_millis(200), sub.next()).await.is_err(), "nothing to restore yet");
    let error = redis.link().subscribe(vec!["a".into()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    server.restart().unwrap();
    assert_eq!(next(&mut sub).await, SubEvent::Restored);
    until("commands are back", || async { redis.get("x").await.is_ok() }).await;
    publish(&redis, "a", "2").await;
    assert_eq!(next(&mut sub).await, message("a", "2"));
}

#[tokio::test]
async fn a_silent_server_is_a_gap() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let redis = connected(quick(&proxy.url())).await;
    let mut sub = redis.link().subscribe(vec!["a".into()]).await.unwrap();
    proxy.stall(Direction::Replies);
    assert_eq!(next(&mut sub).await, SubEvent::Lost);
    proxy.flow();
    assert_eq!(next(&mut sub).await, SubEvent::Restored);
}

#[tokio::test]
async fn a_slow_reader_is_told_of_the_gap_and_memory_stays_bounded() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    let mut sub = redis.link().subscribe(vec!["a".into()]).await.unwrap();
    for (count, len) in [(6000, 1), (60, 900_000)] {
        let payload = "x".repeat(len);
        for part in (0..count).collect::<Vec<_>>().chunks(20) {
            let mut pipe = redis::pipe();
            for _ in part {
                pipe.cmd("PUBLISH").arg("a").arg(&payload).ignore();
            }
            // the link's own deadline is too short for a batch of large ones
            let _: () = pipe.query_async(&mut redis.raw().with_timeout(Duration::from_secs(20))).await.unwrap();
        }
        until("the buffer overflows", || async { sub.is_behind() }).await;
        let mut messages = 0;
        while next(&mut sub).await != SubEvent::Lost {
            messages += 1;
        }
        assert!(messages > 0 && messages < count, "{messages} of {count}");
        assert_eq!(next(&mut sub).await, SubEvent::Restored);
        // the stream flows again, without another gap
        redis.set("x", "1".into(), TTL).await.unwrap();
        publish(&redis, "a", "end").await;
        loop {
            match next(&mut sub).await {
                SubEvent::Message { payload, .. } if payload == "end" => break,
                SubEvent::Message { .. } => {}
                SubEvent::Lost | SubEvent::Restored => {
                    // what was still under way when the first gap was reported
                    publish(&redis, "a", "end").await;
                }
            }
        }
    }
}
