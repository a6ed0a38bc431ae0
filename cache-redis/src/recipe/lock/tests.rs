use std::time::Instant;

use cache_core::recipe::limit::{Limit, Limits};
use cache_core::recipe::lock::Locks;
use cache_core::testkit::eventually;
use cache_core::{ErrorKind, Reply};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;
use crate::testkit::Server;

const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

async fn up() -> (Server, Redis) {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    (server, redis)
}

/// How often scripts ran.
fn scripts(server: &Server) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let calls = |line: &str| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok();
    stats.lines().find_map(calls).unwrap_or(0)
}

/// Runs `step`, which must be `trips` scripts.
async fn costs<T>(server: &Server, trips: u64, step: impl Future<Output = Result<T>>) -> T {
    let before = scripts(server);
    let said = step.await.unwrap();
    assert_eq!(scripts(server) - before, trips);
    said
}

#[tokio::test]
async fn each_step_is_one_round_trip() {
    let (server, redis) = up().await;
    let locks = Locks::new(redis.clone());
    let guard = costs(&server, 1, locks.acquire("k", LONG)).await;
    assert!(costs(&server, 1, locks.try_acquire("k", LONG)).await.is_none());
    costs(&server, 1, guard.extend(LONG)).await;
    costs(&server, 1, guard.release()).await;
    costs(&server, 2, locks.with_lock("k", LONG, async |_| ())).await;
    let limits = Limits::new(redis, Limit::per_hour(1)).unwrap();
    costs(&server, 1, limits.peek("limit")).await;
    costs(&server, 1, limits.take("limit", 1)).await;
    costs(&server, 1, limits.take("limit", 1)).await;
    costs(&server, 0, limits.take("limit", 1)).await;
    costs(&server, 0, limits.peek("limit")).await;
}

#[tokio::test]
async fn who_waits_does_not_poll_and_is_woken_by_the_release() {
    let (server, redis) = up().await;
    let other = Redis::connect(server.patient_url()).await.unwrap();
    let mut quickest = PATIENCE;
    for round in 0..3 {
        let guard = Locks::new(redis.clone()).acquire("k", LONG).await.unwrap();
        let waiting = tokio::spawn({
            let locks = Locks::new(other.clone());
            async move { locks.acquire("k", LONG).await.map(|guard| (guard, Instant::now())) }
        });
        let before = scripts(&server);
        eventually("it listens", || async { server.cli(&["PUBSUB", "CHANNELS"]).unwrap() == "k" }).await;
        let began = Instant::now();
        sleep(Duration::from_millis(1500)).await;
        let (asked, waited) = (scripts(&server) - before, began.elapsed());
        assert!(asked <= 3 + u64::try_from(waited.as_millis() / 700).unwrap(), "{asked} looks in {waited:?}");
        let released = Instant::now();
        guard.release().await.unwrap();
        let (guard, woken) = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
        quickest = quickest.min(woken.saturating_duration_since(released));
        assert!(guard.fence() > 0, "in round {round}");
        guard.release().await.unwrap();
    }
    // on average a poll alone would come half a second later
    assert!(quickest < Duration::from_millis(300), "{quickest:?}");
}

#[tokio::test]
async fn one_connection_hears_of_all_keys_and_survives_its_loss() {
    let (server, redis) = up().await;
    let locks = Locks::new(redis.clone());
    let mut waiting = JoinSet::new();
    let mut guards = Vec::new();
    for i in 0..20 {
        let key = format!("k{i}");
        guards.push(locks.acquire(&key, LONG).await.unwrap());
        let locks = locks.clone();
        waiting.spawn(async move { locks.acquire(&key, LONG).await });
    }
    let listened = || async { server.cli(&["PUBSUB", "CHANNELS"]).unwrap().lines().count() == 20 };
    eventually("all channels are heard", listened).await;
    let one = || async { server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap().trim().lines().count() == 1 };
    eventually("one connection is left", one).await;
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    drop(guards);
    let mut fences: Vec<u64> = Vec::new();
    while let Some(guard) = timeout(PATIENCE, waiting.join_next()).await.unwrap() {
        fences.push(guard.unwrap().unwrap().fence());
    }
    assert_eq!(fences.len(), 20);
}

#[tokio::test]
async fn full_memory_refuses_new_locks_and_lets_held_ones_go_on() {
    let (server, redis) = up().await;
    let locks = Locks::new(redis.clone());
    let guard = locks.acquire("k", LONG).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let full = locks.try_acquire("other", LONG).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded, "{full}");
    assert_eq!(server.cli(&["EXISTS", "other"]).unwrap(), "0");
    guard.extend(LONG * 2).await.unwrap();
    guard.release().await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert!(locks.try_acquire("k", LONG).await.unwrap().is_some());
}

#[tokio::test]
async fn the_fence_grows_past_the_loss_of_its_key_and_every_lock_has_a_ttl() {
    let (server, redis) = up().await;
    let locks = Locks::new(redis).max_hold(Duration::ZERO);
    let mut last = 0;
    for round in 0..10 {
        let guard = locks.acquire("k", LONG).await.unwrap();
        assert!(guard.fence() > last, "in round {round}");
        last = guard.fence();
        for held in [true, false] {
            let ttl: u64 = server.cli(&["PTTL", "k"]).unwrap().parse().unwrap();
            // kept for an hour after its end, for the fence
            assert!((3_000_000..=3_660_000).contains(&ttl), "{ttl}");
            if held && round % 2 == 0 {
                server.cli(&["HDEL", "k", "t"]).unwrap();
            }
        }
        if round % 2 == 0 {
            server.cli(&["DEL", "k"]).unwrap();
            assert_eq!(guard.extend(LONG).await.unwrap_err().kind(), ErrorKind::Conflict);
            assert!(guard.is_lost());
        } else {
            guard.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_line_is_bounded() {
    let (server, redis) = up().await;
    let holder = Claim::new(Token::random().unwrap(), LONG);
    redis.acquire("k", &holder).await.unwrap();
    for _ in 0..1030 {
        let claim = Claim::new(Token::random().unwrap(), LONG).with_queue(LONG);
        assert!(matches!(redis.acquire("k", &claim).await.unwrap(), Claimed::Held { .. }));
    }
    assert_eq!(server.cli(&["HSTRLEN", "k", "q"]).unwrap(), (1024 * 48).to_string());
}

/// What the field writes: `SET NX PX`, then `DEL`.
#[tokio::test]
async fn the_naive_lock_is_released_by_who_held_it_before() {
    let (server, _) = up().await;
    let take = |owner: &str, ms: &str| server.cli(&["SET", "naive", owner, "NX", "PX", ms]).unwrap() == "OK";
    assert!(take("a", "50"));
    eventually("the ttl passes", || async { take("b", "60000") }).await;
    // a is done, late
    server.cli(&["DEL", "naive"]).unwrap();
    assert!(take("c", "60000"), "b and c hold it both");
}

#[tokio::test]
async fn a_hash_of_the_application_is_no_lock_and_keeps_its_fields_and_its_ttl() {
    let (server, redis) = up().await;
    server.cli(&["HSET", "order:7", "t", "text", "state", "paid"]).unwrap();
    let (locks, token) = (Locks::new(redis.clone()), Token::random().unwrap());
    for error in [
        locks.acquire("order:7", LONG).await.map(drop).unwrap_err(),
        locks.fair().try_acquire("order:7", LONG).await.map(drop).unwrap_err(),
        redis.extend("order:7", &token, LONG).await.unwrap_err(),
        redis.release("order:7", &token).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.reply()), (ErrorKind::Conflict, Some(Reply::WrongType)), "{error}");
    }
    assert_eq!(
        server.cli(&["HGETALL", "order:7"]).unwrap().lines().collect::<Vec<_>>(),
        ["t", "text", "state", "paid"]
    );
    assert_eq!(server.cli(&["TTL", "order:7"]).unwrap(), "-1");
}
