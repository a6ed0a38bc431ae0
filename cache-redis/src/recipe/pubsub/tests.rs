//! Gaps over real connections.

use std::time::Duration;

use bytes::Bytes;
use cache_core::codec::Raw;
use cache_core::recipe::Topic;
use cache_core::recipe::pubsub::{Event, Events, Listening};
use cache_core::testkit::{eventually, within};

use crate::testkit::{Proxy, Server};
use crate::{Redis, RedisBuilder};

fn quick(url: &str) -> RedisBuilder {
    Redis::builder()
        .url(url)
        .timeout(Duration::from_secs(2))
        .heartbeat(Duration::from_millis(100))
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
}

async fn next(events: &mut Events<Bytes>) -> Event<Bytes> {
    within("an event", events.next()).await.expect("open")
}

fn message(text: &'static str) -> Event<Bytes> {
    Event::Message { channel: "orders.eu".into(), value: text.into() }
}

#[tokio::test]
async fn a_lost_connection_is_one_gap_and_then_messages_again() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let direct = quick(&server.url()).connect().await.unwrap();
    let behind = quick(&proxy.url()).connect().await.unwrap();
    let topic: Topic<Bytes> = Topic::new(direct, "orders.eu", Raw).unwrap();
    for by_pattern in [false, true] {
        let listening = Listening::new(behind.clone(), Raw);
        let listening = if by_pattern { listening.pattern("orders.*") } else { listening.channel("orders.eu") };
        let mut events = listening.open().await.unwrap();
        topic.publish(&"before".into()).await.unwrap();
        assert_eq!(next(&mut events).await, message("before"));
        for _ in 0..3 {
            proxy.cut();
            topic.publish(&"nobody hears this, or it comes before the gap".into()).await.unwrap();
            let gap = loop {
                match next(&mut events).await {
                    Event::Message { .. } => {}
                    other => break other,
                }
            };
            assert_eq!(gap, Event::Gap { lost: None });
            assert!(events.is_live());
            topic.publish(&"after".into()).await.unwrap();
            assert_eq!(next(&mut events).await, message("after"), "after the gap nothing is missing");
        }
        assert_eq!((events.lost(), events.undecodable()), (0, 0));
    }
}

#[tokio::test]
async fn while_the_server_is_away_the_stream_says_so() {
    let mut server = Server::spawn().unwrap();
    let redis = quick(&server.url()).connect().await.unwrap();
    let topic: Topic<Bytes> = Topic::new(redis, "orders.eu", Raw).unwrap();
    let mut events = topic.subscribe().await.unwrap();
    server.kill();
    eventually("the stream is down", async || !events.is_live()).await;
    server.restart().unwrap();
    assert_eq!(next(&mut events).await, Event::Gap { lost: None });
    eventually("published", async || topic.publish(&"back".into()).await.is_ok()).await;
    assert_eq!(next(&mut events).await, message("back"));
}
