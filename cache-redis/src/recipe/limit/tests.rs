use std::time::Duration;

use cache_core::CacheService;
use cache_core::recipe::limit::Taken;

use super::*;
use crate::testkit::Server;

/// The script and the pure function agree on every answer, number by number, at the times that the script tells.
#[tokio::test]
async fn the_scripts_compute_what_the_functions_do() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.url()).await.unwrap();
    let millis = Duration::from_millis;
    for (row, algorithm) in
        [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log].into_iter().enumerate()
    {
        for (column, (limit, window)) in [(1, 7), (3, 5), (10, 20), (50, 300), (7, 1)].into_iter().enumerate() {
            let mut random = fastrand::Rng::with_seed((row * 10 + column) as u64);
            let key = format!("limit:{row}:{column}");
            let limit = Limit::new(limit, millis(window)).by(algorithm);
            let mut held = None;
            let (mut allowed, mut denied) = (0, 0);
            for step in 0..300_u32 {
                let cost = random.u32(0..=limit.most().min(5));
                let said: Said = call(&key, &limit, cost).unwrap().run(redis.link(), "limit").await.unwrap();
                let now = said.4;
                let before = held.clone();
                let computed = Taken::take(&mut held, &limit, now, cost).unwrap();
                assert_eq!(outcome(said), computed, "{limit:?} step {step} cost {cost} at {now}: {before:?}");
                if cost > 0 {
                    *if computed.allowed { &mut allowed } else { &mut denied } += 1;
                }
                if random.u8(..20) == 0 {
                    tokio::time::sleep(Duration::from_micros(random.u64(..2 * window * 1000).min(60_000))).await;
                }
            }
            // on a busy machine all of a short window may pass between two calls
            assert!(allowed > 0 && (denied > 0 || window < 100), "{limit:?}: {allowed} allowed, {denied} denied");
        }
    }
}

#[tokio::test]
async fn every_limit_has_a_ttl_and_a_denial_writes_nothing() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.url()).await.unwrap();
    for algorithm in [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log] {
        let limit = Limit::new(1, Duration::from_secs(60)).by(algorithm);
        assert!(redis.take("k", &limit, 0).await.unwrap().allowed);
        assert_eq!(server.cli(&["EXISTS", "k"]).unwrap(), "0", "a peek leaves nothing");
        assert!(redis.take("k", &limit, 1).await.unwrap().allowed);
        let ttl: i64 = server.cli(&["PTTL", "k"]).unwrap().parse().unwrap();
        assert!((1..=120_000).contains(&ttl), "{algorithm:?}: {ttl}");
        let held = redis.get("k").await.unwrap();
        for cost in [0, 1] {
            assert!(!redis.take("k", &limit, cost).await.unwrap().allowed);
        }
        assert_eq!(redis.get("k").await.unwrap(), held);
        let other = Limit::new(1, Duration::from_secs(60)).by(match algorithm {
            Algorithm::Gcra => Algorithm::Log,
            _ => Algorithm::Gcra,
        });
        assert!(redis.take("k", &other, 1).await.unwrap_err().reply().is_some());
        redis.reset("k").await.unwrap();
    }
}

#[tokio::test]
async fn what_lies_too_far_in_the_future_is_pulled_in() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.url()).await.unwrap();
    let far = "9000000000000000";
    let held = [
        (Algorithm::Gcra, format!("g:{far}")),
        (Algorithm::Fixed, format!("f:1:{far}")),
        (Algorithm::Sliding, format!("s:{far}:1:1")),
    ];
    for (algorithm, text) in held {
        let limit = Limit::new(1, Duration::from_millis(200)).by(algorithm);
        redis.set("k", text.into(), Duration::from_secs(60)).await.unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !redis.take("k", &limit, 1).await.unwrap().allowed {
            assert!(std::time::Instant::now() < end, "{algorithm:?} denies for ever");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What the field writes for a sliding window: drop the old, add, count, compare. Thirty requests a second against ten
/// allowed, for ten seconds, by times that stand in the scores.
#[tokio::test]
async fn the_naive_window_locks_out_who_keeps_trying() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.url()).await.unwrap();
    let (mut naive, mut ours, mut held) = (0, 0, None);
    let limit = Limit::per_second(10).by(Algorithm::Log);
    for i in 0..300_u64 {
        let now = 1_000_000_000 + i * 33_333;
        let mut pipe = redis::pipe();
        pipe.cmd("ZREMRANGEBYSCORE").arg("z").arg("-inf").arg(now - 1_000_000).ignore();
        pipe.cmd("ZADD").arg("z").arg(now).arg(now).ignore();
        pipe.cmd("ZCARD").arg("z");
        let (count,): (u64,) = redis.link().pipe("test", &pipe).await.unwrap();
        naive += u32::from(count <= 10);
        ours += u32::from(Taken::take(&mut held, &limit, now, 1).unwrap().allowed);
    }
    assert_eq!((naive, ours), (10, 100));
}
