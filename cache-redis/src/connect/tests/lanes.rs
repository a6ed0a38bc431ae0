//! Who shares a connection with whom, batches, and the raw door.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{CacheService, ErrorKind};
use redis::AsyncCommands;

use super::{TTL, client_id, until};
use crate::Redis;
use crate::testkit::{Proxy, Server};

const LARGE: usize = 900_000;

#[tokio::test]
async fn large_values_do_not_share_a_connection_with_small_ones() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).client_name("lane").connect().await.unwrap();
    let id = client_id(&redis).await;
    redis.set("small", "1".into(), TTL).await.unwrap();
    assert_eq!(connections(&server, "lane").len(), 1);
    redis.set("large", vec![7; LARGE].into(), TTL).await.unwrap();
    assert_eq!(connections(&server, "lane").len(), 2);

    // the first large reply may share; from then on the key is known
    assert_eq!(redis.get("large").await.unwrap().map(|v| v.len()), Some(LARGE));
    let sent = |server: &Server| {
        let lanes = connections(server, "lane");
        lanes.into_iter().find(|(lane, _)| *lane == id).map(|(_, commands)| commands)
    };
    assert_eq!(redis.get("large").await.unwrap().map(|v| v.len()), Some(LARGE));
    assert_eq!(sent(&server).as_deref(), Some("get"), "last command of the small lane");
    redis.exists("small").await.unwrap();
    redis.get("large").await.unwrap();
    assert_eq!(sent(&server).as_deref(), Some("exists"), "the large read went elsewhere");
}

#[tokio::test]
async fn a_large_value_does_not_hold_up_small_ones() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    redis.set("small", "1".into(), TTL).await.unwrap();
    // a connection whose write is held back answers nothing that comes after it
    server.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]).unwrap();
    let large = {
        let redis = redis.clone();
        tokio::spawn(async move { redis.set("large", vec![7; LARGE].into(), TTL).await })
    };
    until("the large value waits", || async {
        server.cli(&["INFO", "clients"]).unwrap().contains("blocked_clients:1")
    })
    .await;
    for _ in 0..100 {
        assert_eq!(redis.get("small").await.unwrap().as_deref(), Some(&b"1"[..]));
    }
    assert!(!large.is_finished());
    server.cli(&["CLIENT", "UNPAUSE"]).unwrap();
    large.await.unwrap().unwrap();
}

#[tokio::test]
async fn concurrent_calls_share_one_connection() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).client_name("one").connect().await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    let calls = (0..2000).map(|i| {
        let redis = redis.clone();
        tokio::spawn(async move { redis.get(if i % 2 == 0 { "a" } else { "b" }).await })
    });
    for (i, call) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        let expected = (i % 2 == 0).then(|| Bytes::from_static(b"1"));
        assert_eq!(call.unwrap().unwrap(), expected, "no call gets another's reply");
    }
    assert_eq!(connections(&server, "one").len(), 1);
    let many = Redis::builder().url(server.patient_url()).client_name("many").connections(3).connect().await.unwrap();
    futures_util::future::join_all((0..30).map(|_| many.get("a"))).await;
    assert_eq!(connections(&server, "many").len(), 3);
}

/// oxcache holds a lock for as long as a call is under way.
#[tokio::test]
async fn calls_do_not_wait_for_each_others_round_trips() {
    const DELAY: Duration = Duration::from_millis(200);
    const CALLS: u32 = 50;
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let redis = Redis::builder().url(proxy.url()).timeout(Duration::from_secs(30)).connect().await.unwrap();
    proxy.delay_replies(DELAY);
    for what in ["reads", "writes", "reads that share nothing"] {
        let begun = Instant::now();
        let calls = (0..CALLS).map(|n| {
            let redis = redis.clone();
            tokio::spawn(async move {
                let key = n.to_string();
                match what {
                    "reads" => redis.get(&key).await.map(drop),
                    "writes" => redis.set(&key, "v".into(), TTL).await,
                    _ => redis.exists(&key).await.map(drop),
                }
            })
        });
        for call in futures_util::future::join_all(calls).await {
            call.unwrap().unwrap();
        }
        let took = begun.elapsed();
        assert!(took >= DELAY, "{what}: no reply was late: {took:?}");
        // one after the other they would take 10 s
        assert!(took < DELAY * CALLS / 4, "{what}: {CALLS} calls took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gathered_writes_strand_no_call() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    for tasks in [1, 2, 3, 64] {
        let calls = (0..tasks).map(|_| {
            let redis = redis.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    assert_eq!(redis.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
                }
            })
        });
        for call in futures_util::future::join_all(calls).await {
            call.unwrap();
        }
    }
}

#[tokio::test]
async fn dropped_calls_leave_the_replies_of_others_alone() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    for i in 0..200 {
        redis.set(&format!("k{i}"), format!("v{i}").into(), TTL).await.unwrap();
    }
    for i in 0..200 {
        let key = format!("k{}", (i + 7) % 200);
        let mut call = Box::pin(redis.get(&key));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        drop(call);
        let got = redis.get(&format!("k{i}")).await.unwrap();
        assert_eq!(got, Some(format!("v{i}").into()));
    }
}

#[tokio::test]
async fn batches_of_any_length() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    for count in [0, 1, 255, 256, 257, 1500] {
        let names: Vec<_> = (0..count).map(|i| format!("{count}:{i}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), Bytes::from(name.clone()))).collect();
        redis.set_many(&entries, TTL).await.unwrap();
        let mut keys: Vec<_> = names.iter().map(String::as_str).collect();
        keys.push("missing");
        let values = redis.get_many(&keys).await.unwrap();
        let expected: Vec<_> = entries.iter().map(|(_, value)| Some(value.clone())).chain([None]).collect();
        assert_eq!(values, expected);
        assert_eq!(redis.delete_many(&keys).await.unwrap(), count as u64);
        assert_eq!(redis.delete_many(&keys).await.unwrap(), 0);
    }
    // duplicates, in order, also across the cuts that large values make
    let entries: Vec<_> = (0..20).map(|i| ("same", Bytes::from(vec![i; 60_000]))).collect();
    redis.set_many(&entries, TTL).await.unwrap();
    assert_eq!(redis.get("same").await.unwrap(), Some(Bytes::from(vec![19; 60_000])));
    assert_eq!(redis.get_many(&["same", "same"]).await.unwrap().len(), 2);
    assert_eq!(redis.delete_many(&["same", "same"]).await.unwrap(), 1);
}

#[tokio::test]
async fn bad_arguments_are_refused_before_any_call() {
    let mut server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).max_value(10).connect().await.unwrap();
    server.kill();
    let long = "k".repeat(2000);
    let ok = Bytes::from_static(b"v");
    for (what, error) in [
        ("empty", redis.get("").await.unwrap_err()),
        ("long", redis.delete(&long).await.unwrap_err()),
        ("control", redis.exists("a\nb").await.unwrap_err()),
        ("many", redis.get_many(&["a", ""]).await.unwrap_err()),
        ("many", redis.delete_many(&["a", ""]).await.unwrap_err()),
        ("many", redis.set_many(&[("a", ok.clone()), ("", ok.clone())], TTL).await.unwrap_err()),
        ("ttl", redis.set("a", ok.clone(), Duration::ZERO).await.unwrap_err()),
    ] {
        assert_eq!((error.kind(), error.store()), (ErrorKind::Invalid, Some("redis")), "{what}: {error:?}");
    }
    let big = Bytes::from_static(b"elevenbytes");
    assert_eq!(redis.set("a", big.clone(), TTL).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(redis.set_many(&[("a", big)], TTL).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(redis.get_many(&[]).await.unwrap(), Vec::new(), "nothing to ask needs no server");
}

#[tokio::test]
async fn raw_has_the_drivers_commands() {
    let mut server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    let mut raw = redis.raw();
    let _: () = raw.hset("hash", "name", "Ada").await.unwrap();
    let name: String = raw.hget("hash", "name").await.unwrap();
    assert_eq!(name, "Ada");
    let _: () = raw.rpush("list", &[1, 2, 3]).await.unwrap();
    let list: Vec<i64> = raw.lrange("list", 0, -1).await.unwrap();
    assert_eq!(list, [1, 2, 3]);
    let _: () = raw.zadd("board", "ann", 10).await.unwrap();
    let board: Vec<(String, f64)> = raw.zrange_withscores("board", 0, -1).await.unwrap();
    assert_eq!(board, [("ann".to_owned(), 10.0)]);
    let id: String = raw.xadd("stream", "*", &[("k", "v")]).await.unwrap();
    assert!(id.contains('-'));
    let pair: (i64, i64) = redis::pipe().atomic().incr("n", 1).incr("n", 1).query_async(&mut raw).await.unwrap();
    assert_eq!(pair, (1, 2));
    let script = redis::Script::new("return ARGV[1]");
    assert_eq!(script.arg(5).invoke_async::<i64>(&mut raw).await.unwrap(), 5);

    // what is done to this connection stays there, and a blocking call is bounded
    let mut slow = redis.raw().with_timeout(Duration::from_millis(50));
    let began = Instant::now();
    let error = slow.blpop::<_, (String, String)>("nothing", 60.0).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(redis.get("a").await.unwrap(), None, "the cache is not held up");

    server.restart().unwrap();
    until("back", || async { redis.raw().exists::<_, bool>("a").await.is_ok() }).await;
}

/// Id and last command of the connections with this name.
fn connections(server: &Server, name: &str) -> Vec<(u64, String)> {
    let list = server.cli(&["CLIENT", "LIST"]).unwrap();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    list.lines()
        .filter(|line| field(line, "name") == name)
        .map(|line| (field(line, "id").parse().unwrap(), field(line, "cmd")))
        .collect()
}
