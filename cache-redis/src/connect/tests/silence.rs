//! Who is kept from a server that gives no sign of life, and who is not.

use std::time::Duration;

use cache_core::{CacheService, ErrorKind};
use redis::AsyncCommands;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{TTL, connected, until};
use crate::testkit::{Cluster, Server};
use crate::{Redis, RedisBuilder};

/// Nothing asks for a sign of life but calls that got no reply, and no connection is given up.
fn quiet(url: &str) -> RedisBuilder {
    Redis::builder()
        .url(url)
        .timeout(Duration::from_millis(300))
        .grace(Duration::from_millis(50))
        .heartbeat(Duration::from_secs(60))
        .rebuild_after(1000)
}

fn silent(redis: &Redis) -> bool {
    redis.link().servers().iter().any(|node| !node.is_well())
}

#[tokio::test]
async fn one_call_is_late_at_a_frozen_server_and_the_others_fail_at_once_until_it_answers() {
    let server = Server::spawn().unwrap();
    let redis = connected(quiet(&server.url()).connections(3)).await;
    // large values have a connection of their own
    let large = || redis.set("large", vec![7; 100_000].into(), TTL);
    until("it is up", || async { large().await.is_ok() }).await;
    server.pause().unwrap();
    assert_eq!(redis.get("a").await.unwrap_err().kind(), ErrorKind::Timeout);
    for call in 0..100 {
        let error = match call % 4 {
            0 => large().await.unwrap_err(),
            1 => redis.get_many(&["a", "b"]).await.unwrap_err(),
            2 => redis.delete("a").await.unwrap_err(),
            _ => redis.get("a").await.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "call {call}: {error:?}");
        assert!(error.retry_after().is_some() && !error.is_of_part(), "call {call}: {error:?}");
    }
    let calls = futures_util::future::join_all((0..50).map(|_| redis.get("a"))).await;
    assert!(calls.iter().all(|call| call.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)));
    server.resume().unwrap();
    // the question was sent long ago
    until("back", || async { redis.get("a").await.is_ok() }).await;
    until("back", || async { large().await.is_ok() }).await;
}

#[tokio::test]
async fn calls_wait_for_a_sign_of_life_as_long_as_for_a_connection() {
    let server = Server::spawn().unwrap();
    let redis = quiet(&server.url()).grace(Duration::from_secs(30)).timeout(Duration::from_secs(2));
    let redis = connected(redis).await;
    server.pause().unwrap();
    assert_eq!(redis.get("a").await.unwrap_err().kind(), ErrorKind::Timeout);
    let waiting = tokio::spawn({
        let redis = redis.clone();
        async move { redis.get("a").await }
    });
    until("it waits", || async { redis.link().reads().0 == 1 }).await;
    server.resume().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_raw_command_that_blocks_blames_no_server_and_is_kept_from_none() {
    let server = Server::spawn().unwrap();
    let redis = connected(quiet(&server.url())).await;
    let mut raw = redis.raw().with_timeout(Duration::from_millis(200));
    assert!(raw.blpop::<_, (String, String)>("nothing", 1.0).await.unwrap_err().is_timeout());
    assert!(!silent(&redis), "it was told to block");
    // as long as it takes to answer the one that blocked
    until("raw answers", || async { redis.raw().exists::<_, bool>("a").await.is_ok() }).await;
    server.pause().unwrap();
    assert_eq!(redis.get("a").await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(silent(&redis));
    assert!(raw.exists::<_, bool>("a").await.unwrap_err().is_timeout(), "it was sent");
    server.resume().unwrap();
}

#[tokio::test]
async fn a_server_that_is_slow_with_a_large_reply_is_not_silent() {
    let server = Server::spawn().unwrap();
    let direct = Redis::connect(server.patient_url()).await.unwrap();
    direct.set("large", vec![7; 900_000].into(), TTL).await.unwrap();
    let url = format!("redis://{}", dripping(server.address()).await);
    // half of what the reply takes, and more than a busy machine stops for
    let redis = connected(quiet(&url).timeout(Duration::from_millis(1500))).await;
    for call in 0..2 {
        let error = redis.get("large").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "call {call}: {error:?}");
        assert!(!silent(&redis), "call {call}");
    }
}

/// A proxy that passes replies on in small pieces: its address.
async fn dripping(target: String) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.unwrap();
            let ((mut requests, mut replies), (mut from, mut to)) = (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut requests, &mut to).await });
            tokio::spawn(async move {
                let mut piece = vec![0; 8 * 1024];
                while let Ok(n @ 1..) = from.read(&mut piece).await {
                    if replies.write_all(&piece[..n]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            });
        }
    });
    address.to_string()
}

#[tokio::test]
async fn a_hung_server_of_a_cluster_is_a_part_of_it_and_a_hung_cluster_is_the_whole() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::spawn().unwrap()).await.unwrap();
    // nobody takes the place of who is paused
    for node in cluster.nodes() {
        node.cli(&["CONFIG", "SET", "cluster-node-timeout", "600000"]).unwrap();
    }
    let redis = connected(quiet(&cluster.url()).cluster().timeout(Duration::from_secs(1))).await;
    let key = |owner: usize| (0..).map(|n| format!("k{n}")).find(|key| cluster.owner(key).unwrap() == owner).unwrap();
    let keys = [key(0), key(1), key(2)];
    cluster.nodes()[1].pause().unwrap();
    let error = redis.get(&keys[1]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_of_part()), (ErrorKind::Timeout, true), "{error:?}");
    for _ in 0..20 {
        let error = redis.get(&keys[1]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_of_part()), (ErrorKind::Unavailable, true), "{error:?}");
        for key in [&keys[0], &keys[2]] {
            until("the others serve", || async { redis.get(key).await.is_ok() }).await;
        }
    }
    for other in [0, 2] {
        cluster.nodes()[other].pause().unwrap();
        until("silent", || async { redis.get(&keys[other]).await.unwrap_err().kind() == ErrorKind::Unavailable }).await;
    }
    for key in &keys {
        let error = redis.get(key).await.unwrap_err();
        assert_eq!((error.kind(), error.is_of_part()), (ErrorKind::Unavailable, false), "{error:?}");
    }
    cluster.nodes()[..3].iter().for_each(|node| node.resume().unwrap());
    for key in &keys {
        until("back", || async { redis.get(key).await.is_ok() }).await;
    }
}
