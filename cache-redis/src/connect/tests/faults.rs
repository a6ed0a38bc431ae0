//! What connections do when servers go away, freeze or are demoted.

use std::time::{Duration, Instant};

use cache_core::{CacheService, ErrorKind, Reply};

use super::{TTL, client_id, connected, until};
use crate::testkit::{Direction, Proxy, Server};
use crate::{Redis, RedisBuilder};

fn quick(url: &str) -> RedisBuilder {
    Redis::builder()
        .url(url)
        .timeout(Duration::from_millis(100))
        .connect_timeout(Duration::from_millis(200))
        .heartbeat(Duration::from_millis(50))
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
}

#[tokio::test]
async fn comes_back_after_a_kill_and_a_restart_on_the_same_port() {
    let mut server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    assert_eq!(redis.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    let run = redis.link().run();
    assert_ne!(run, 0);

    server.kill();
    let began = Instant::now();
    let error = redis.get("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    server.restart().unwrap();
    until("the connection is back", || async { redis.get("a").await.is_ok() }).await;
    redis.set("a", "2".into(), TTL).await.unwrap();
    assert_ne!(redis.link().run(), run, "another run of the server");
}

#[tokio::test]
async fn calls_fail_at_once_while_a_server_stays_away() {
    let mut server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url()).grace(Duration::from_millis(30))).await;
    server.kill();
    until("the refusal is known", || async { redis.get("a").await.unwrap_err().to_string().contains("refused") }).await;
    let began = Instant::now();
    for _ in 0..500 {
        let error = redis.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    // after the grace no call waits: they would take 15 s together
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_frozen_server_costs_one_deadline_and_is_left_after_some() {
    let server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url()).heartbeat(Duration::from_secs(60))).await;
    let before = client_id(&redis).await;
    server.pause().unwrap();
    let began = Instant::now();
    assert_eq!(redis.get("a").await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() >= Duration::from_millis(95), "{:?}", began.elapsed());
    // the server is asked for a sign of life; the third unanswered question has the connection rebuilt
    until("left", || async {
        let error = redis.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        !redis.link().is_up()
    })
    .await;
    server.resume().unwrap();
    until("back", || async { redis.get("a").await.is_ok() }).await;
    assert_ne!(client_id(&redis).await, before);
}

#[tokio::test]
async fn calls_that_wait_together_count_as_one_miss() {
    let server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url()).heartbeat(Duration::from_secs(60))).await;
    let before = client_id(&redis).await;
    server.pause().unwrap();
    let calls = futures_util::future::join_all((0..50).map(|_| redis.get("a"))).await;
    assert!(calls.iter().all(|call| call.as_ref().is_err_and(|e| e.kind() == ErrorKind::Timeout)));
    server.resume().unwrap();
    until("answers", || async { redis.get("a").await.is_ok() }).await;
    assert_eq!(client_id(&redis).await, before, "one hiccup is no reason to rebuild");
}

#[tokio::test]
async fn an_idle_connection_to_a_silent_server_is_noticed_by_the_heartbeat() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let redis = connected(quick(&proxy.url())).await;
    assert_eq!(redis.get("a").await.unwrap(), None);
    proxy.stall(Direction::Replies);
    proxy.refuse(true);
    until("left without any call", || async { !redis.link().is_up() }).await;
    proxy.refuse(false);
    proxy.flow();
    until("back", || async { redis.get("a").await.is_ok() }).await;
}

#[tokio::test]
async fn a_cut_connection_is_replaced_within_the_grace() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).grace(Duration::from_secs(5)).connect().await.unwrap();
    let before = client_id(&redis).await;
    assert_eq!(server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap(), "1");
    until("the loss is seen", || async { client_id(&redis).await != before }).await;
    assert_eq!(redis.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_demoted_server_is_left_but_serves_until_another_is_there() {
    let primary = Server::spawn().unwrap();
    let server = Server::spawn().unwrap();
    let redis = connected(quick(&server.url())).await;
    redis.set("a", "1".into(), TTL).await.unwrap();
    let before = client_id(&redis).await;
    server.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).unwrap();
    until("refused", || async {
        let error = redis.set("a", "2".into(), TTL).await.err();
        error.is_some_and(|e| e.reply() == Some(Reply::ReadOnly) && e.kind() == ErrorKind::Unavailable)
    })
    .await;
    until("rebuilt", || async { client_id(&redis).await != before }).await;
    server.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    until("writes again", || async { redis.set("a", "3".into(), TTL).await.is_ok() }).await;
}

#[tokio::test]
async fn a_server_that_never_recovers_is_not_hammered_with_rebuilds() {
    let primary = Server::spawn().unwrap();
    let server = Server::spawn().unwrap();
    server.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert!(redis.set("a", "1".into(), TTL).await.is_err());
        redis.exists("a").await.unwrap();
    }
    let made = connections_made(&server);
    assert!(made < 12, "{made} connections in 1.5 s");
}

#[tokio::test]
async fn credentials_that_stop_working_are_reported_and_rarely_tried() {
    let server = Server::spawn().unwrap();
    server.cli(&["ACL", "SETUSER", "app", "on", ">one", "~*", "+@all"]).unwrap();
    let url = format!("redis://app:one@{}", server.address());
    let redis = connected(quick(&url)).await;
    redis.set("a", "1".into(), TTL).await.unwrap();
    server.cli(&["ACL", "SETUSER", "app", "resetpass", ">two"]).unwrap();
    server.cli(&["CLIENT", "KILL", "USER", "app"]).unwrap();
    until("denied", || async { redis.get("a").await.is_err_and(|e| e.kind() == ErrorKind::Denied) }).await;
    let error = redis.get("a").await.unwrap_err();
    assert_eq!(error.reply(), Some(Reply::WrongPass), "{error:?}");
    assert!(error.retry_after().is_some_and(|wait| wait >= Duration::from_secs(5)), "{error:?}");
    let before = connections_made(&server);
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        assert_eq!(redis.get("a").await.unwrap_err().kind(), ErrorKind::Denied);
        tokio::task::yield_now().await;
    }
    // the question itself is one
    assert_eq!(connections_made(&server), before + 1);
}

fn connections_made(server: &Server) -> u64 {
    let stats = server.cli(&["INFO", "stats"]).unwrap();
    stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")?.trim().parse().ok()).unwrap()
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connections() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).client_name("gone").connect().await.unwrap();
    redis.set("a", vec![0; 100_000].into(), TTL).await.unwrap();
    let open = || server.cli(&["CLIENT", "LIST"]).unwrap().matches("name=gone").count();
    assert_eq!(open(), 2, "commands and bulk");
    let clone = redis.clone();
    drop(redis);
    assert_eq!(clone.get("b").await.unwrap(), None);
    drop(clone);
    until("closed", || async { open() == 0 }).await;
}
