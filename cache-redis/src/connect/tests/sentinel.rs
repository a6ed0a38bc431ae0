//! The primary that sentinels name, before, during and after failovers.

use std::time::{Duration, Instant};

use cache_core::{CacheService, ErrorKind, Reply};
use tokio::time::timeout;

use super::{TTL, until};
use crate::connect::{SubEvent, Subscriber};
use crate::testkit::{Proxy, Sentinel, Server};
use crate::{Redis, RedisBuilder};

/// A killed primary is replaced after about 2.5 s; the rest is for a busy machine.
const REPLACED: Duration = Duration::from_secs(10);

fn through(set: &Sentinel) -> RedisBuilder {
    let sentinels = set.sentinels().iter().map(Server::address).collect::<Vec<_>>().join(",");
    Redis::builder().url(format!("redis+sentinel://{sentinels}/{}", Sentinel::NAME)).timeout(Duration::from_millis(300))
}

async fn spawn() -> Sentinel {
    tokio::task::spawn_blocking(|| Sentinel::spawn().unwrap()).await.unwrap()
}

async fn port(redis: &Redis) -> u16 {
    let info: String = redis.link().call("test", redis::cmd("INFO").arg("server")).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("tcp_port:")?.trim().parse().ok()).unwrap()
}

async fn publish(redis: &Redis, payload: &str) -> u64 {
    redis.link().call("test", redis::cmd("PUBLISH").arg("c").arg(payload)).await.unwrap_or(0)
}

async fn next(sub: &mut Subscriber) -> SubEvent {
    timeout(Duration::from_secs(20), sub.next()).await.expect("no event").expect("closed")
}

/// Writes until it works again, on a server that isn't `before`; within [`REPLACED`].
async fn writes_elsewhere(redis: &Redis, before: u16) {
    let began = Instant::now();
    until("writes on the new primary", || async {
        redis.set("a", "2".into(), TTL).await.is_ok() && port(redis).await != before
    })
    .await;
    println!("writes again after {:?}", began.elapsed());
    assert!(began.elapsed() < REPLACED, "{:?}", began.elapsed());
}

/// The gap is reported, ends, and what is published then arrives.
async fn gap_ends(redis: &Redis, sub: &mut Subscriber) {
    assert_eq!(next(sub).await, SubEvent::Lost);
    // a server that is about to be demoted may have been joined in between
    let mut whole = false;
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        match timeout(Duration::from_millis(100), next(sub)).await {
            Ok(SubEvent::Message { payload, .. }) if whole && payload == "after" => return,
            Ok(SubEvent::Message { .. }) => {}
            Ok(event) => whole = event == SubEvent::Restored,
            Err(_) => drop(publish(redis, "after").await),
        }
    }
    panic!("no message after the failover; the stream is whole: {whole}");
}

#[tokio::test]
async fn a_killed_primary_is_replaced_for_commands_and_subscriptions() {
    let mut set = spawn().await;
    let redis = through(&set).connect().await.unwrap();
    let mut sub = redis.link().subscribe(vec!["c".into()]).await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    redis.set("large", vec![0; 100_000].into(), TTL).await.unwrap();
    assert_eq!(publish(&redis, "before").await, 1);
    assert_eq!(next(&mut sub).await, SubEvent::Message { channel: "c".into(), payload: "before".into() });
    let (before, run) = (port(&redis).await, redis.link().run());
    assert_eq!(before, set.servers()[0].port());

    set.servers_mut()[0].kill();
    writes_elsewhere(&redis, before).await;
    assert_ne!(redis.link().run(), run, "another run");
    assert_ne!(redis.link().run(), 0);
    gap_ends(&redis, &mut sub).await;
    until("large values too", || async { redis.set("large", vec![1; 100_000].into(), TTL).await.is_ok() }).await;
}

#[tokio::test]
async fn a_frozen_primary_is_left_and_not_come_back_to() {
    let set = spawn().await;
    let redis = through(&set).connect().await.unwrap();
    let mut sub = redis.link().subscribe(vec!["c".into()]).await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    let before = port(&redis).await;
    set.servers()[0].pause().unwrap();
    writes_elsewhere(&redis, before).await;
    gap_ends(&redis, &mut sub).await;
    set.servers()[0].resume().unwrap();
    until("the old primary is a replica", || async {
        set.servers()[0].cli(&["ROLE"]).is_ok_and(|role| role.starts_with("slave"))
    })
    .await;
    redis.set("a", "3".into(), TTL).await.unwrap();
    assert_ne!(port(&redis).await, before);
    // a fresh handle asks the sentinels as well
    assert_ne!(port(&through(&set).connect().await.unwrap()).await, before);
}

#[tokio::test]
async fn a_demoted_primary_that_lives_on_is_left() {
    let set = spawn().await;
    let redis = through(&set).connect().await.unwrap();
    let mut sub = redis.link().subscribe(vec!["c".into()]).await.unwrap();
    let (before, run) = (port(&redis).await, redis.link().run());
    set.sentinels()[0].cli(&["SENTINEL", "FAILOVER", Sentinel::NAME]).unwrap();
    writes_elsewhere(&redis, before).await;
    assert_ne!(redis.link().run(), run);
    gap_ends(&redis, &mut sub).await;
}

#[tokio::test]
async fn dead_sentinels_are_passed_over_and_none_is_unavailable() {
    let mut set = spawn().await;
    let [first, second] = [0, 1].map(|i| set.sentinels()[i].address());
    set.sentinels_mut()[0].kill();
    set.sentinels()[1].pause().unwrap();
    let redis = through(&set).connect_timeout(Duration::from_secs(2)).connect().await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    set.sentinels()[1].resume().unwrap();

    let name = Sentinel::NAME;
    let error = Redis::connect(format!("redis+sentinel://{first}/{name}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no sentinel of 1 answers") && error.to_string().contains("refused"), "{error}");

    let error = Redis::connect(format!("redis+sentinel://{first},{second}/other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no primary of this name"), "{error}");

    let server = set.servers()[0].address();
    let error = Redis::connect(format!("redis+sentinel://{server}/{name}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("not of a sentinel"), "{error}");

    let locked = Sentinel::alone(&set.servers()[0], Some("pw")).unwrap();
    let closed = locked.address();
    let error = Redis::connect(format!("redis+sentinel://{closed}/{name}")).await.unwrap_err();
    assert_eq!((error.kind(), error.reply()), (ErrorKind::Denied, Some(Reply::NoAuth)), "{error}");
    let login = format!("redis+sentinel://{closed}/{name}?sentinel_password=pw");
    Redis::connect(login).await.unwrap().set("a", "1".into(), TTL).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_refused_for_commands_and_subscriptions() {
    let primary = Server::spawn().unwrap();
    let named = Server::spawn().unwrap();
    // a sentinel that does not see what became of the server that it names
    let sentinel = Sentinel::alone(&named, None).unwrap();
    let proxy = Proxy::spawn(sentinel.address()).await.unwrap();
    let url = format!("redis+sentinel://127.0.0.1:{}/{}", proxy.port(), Sentinel::NAME);
    let redis = Redis::connect(&url).await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    named.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).unwrap();
    let error = Redis::connect(&url).await.unwrap_err();
    assert_eq!((error.kind(), error.reply()), (ErrorKind::Unavailable, Some(Reply::ReadOnly)), "{error}");
    let error = redis.link().subscribe(vec!["c".into()]).await.unwrap_err();
    assert_eq!((error.kind(), error.reply()), (ErrorKind::Unavailable, Some(Reply::ReadOnly)), "{error}");
    named.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    Redis::connect(&url).await.unwrap().set("a", "2".into(), TTL).await.unwrap();
}
