//! Long lists of keys in one call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{Bus, CacheService, Change, Claim, ErrorKind, Leases, Line, NodeId, Stamp};

use super::TTL;
use crate::Redis;
use crate::testkit::{Proxy, Server};

const SPAN: Duration = Duration::from_millis(500);

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("k{i:06}")).collect()
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// How many `command`s the server has run.
fn calls(server: &Server, command: &str) -> usize {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

async fn connect(url: String) -> Redis {
    // one late list is no reason for another connection: what was sent is answered in order
    Redis::builder().url(url).timeout(SPAN).rebuild_after(100).connect().await.unwrap()
}

#[tokio::test]
async fn a_long_list_does_not_flood_a_server_that_hangs() {
    let server = Server::spawn().unwrap();
    let redis = connect(server.patient_url()).await;
    let names = names(30_000);
    let keys = texts(&names);
    let claims: Vec<Claim<'_>> = keys.iter().take(3000).map(|key| Claim { key, token: Stamp::random() }).collect();
    // each list is the first that the server leaves without an answer: what comes later is not sent at all
    for list in 0..3 {
        server.pause().unwrap();
        let begun = Instant::now();
        match list {
            0 => assert_eq!(redis.get_many(&keys).await.unwrap_err().kind(), ErrorKind::Timeout),
            1 => assert_eq!(redis.delete_many(&keys).await.unwrap_err().kind(), ErrorKind::Timeout),
            _ => {
                let late = |error: &cache_core::Error| error.kind() == ErrorKind::Timeout;
                let leases = redis.lease_many(&claims, TTL).await;
                assert!(leases.iter().all(|lease| lease.as_ref().is_err_and(late)));
            }
        }
        assert!(begun.elapsed() < SPAN * 6, "the first that is late ends it: {:?}", begun.elapsed());
        server.resume().unwrap();
        super::until("it answers", || async { redis.get("after all that").await.is_ok() }).await;
    }
    let sent = ["mget", "del", "set"].map(|command| calls(&server, command));
    assert!(sent[0] <= 4 && sent[1] <= 4 && sent[2] <= 128, "{sent:?}");
}

#[tokio::test]
async fn a_long_list_is_not_late_for_its_length() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let redis = connect(proxy.url()).await;
    let names = names(10_000);
    let keys = texts(&names);
    proxy.delay_replies(SPAN / 6);
    let begun = Instant::now();
    let entries: Vec<(&str, Bytes)> = keys.iter().take(2560).map(|key| (*key, Bytes::from_static(b"v"))).collect();
    redis.set_many(&entries, TTL).await.unwrap();
    assert_eq!(redis.get_many(&keys).await.unwrap().into_iter().flatten().count(), 2560);
    let line = Line { seq: "seq".into(), channel: "channel".into(), tags: "tags:".into() };
    let applied = redis.change(&line, NodeId(7), &keys, Change::Delete).await.unwrap();
    assert_eq!(applied.removed, 2560);
    assert!(begun.elapsed() > SPAN * 2, "together they take longer than one may: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_single_call_does_not_wait_for_a_long_list() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let redis = connect(proxy.url()).await;
    let names = names(10_000);
    proxy.delay_replies(SPAN / 6);
    let list = {
        let redis = redis.clone();
        tokio::spawn(async move { redis.get_many(&texts(&names)).await.map(|values| values.len()) })
    };
    super::until("the list is under way", || async { calls(&server, "mget") > 0 }).await;
    assert_eq!(redis.get("small").await.unwrap(), None);
    assert!(!list.is_finished());
    assert_eq!(list.await.unwrap().unwrap(), 10_000);
}
