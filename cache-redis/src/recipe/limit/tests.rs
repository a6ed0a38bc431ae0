use std::num::NonZeroU32;
use std::time::Duration;

use cache_core::CacheService;
use cache_core::recipe::limit::{Away, Limits, Source, Taken};
use cache_core::testkit::eventually;
use tokio::task::JoinSet;

use super::*;
use crate::testkit::Server;

/// The script and the pure function agree on every answer, number by number, at the times that the script tells.
#[tokio::test]
async fn the_scripts_compute_what_the_functions_do() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
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

/// One take: the server's time, the cost, and the answer.
type Take = (u64, u32, Outcome);

/// Takes of clients that do not know of each other, each on a connection of its own, in the server's order.
async fn rush(server: &Server, key: &str, limit: &Limit) -> Vec<Take> {
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let redis = Redis::connect(server.patient_url()).await.unwrap();
        let (key, limit) = (key.to_owned(), *limit);
        clients.spawn(async move {
            let mut random = fastrand::Rng::with_seed(client);
            let mut takes: Vec<Take> = Vec::new();
            for _ in 0..150 {
                let cost = random.u32(0..=3);
                let said: Said = call(&key, &limit, cost).unwrap().run(redis.link(), "limit").await.unwrap();
                takes.push((said.4, cost, outcome(said)));
                if random.u8(..4) == 0 {
                    tokio::time::sleep(Duration::from_micros(random.u64(..4000))).await;
                }
            }
            takes
        });
    }
    let mut takes: Vec<Take> = clients.join_all().await.into_iter().flatten().collect();
    takes.sort_by_key(|(now, ..)| *now);
    takes
}

/// Plays `takes` against the exact model; the first one that it answers otherwise.
fn differs(limit: &Limit, takes: &[Take]) -> Option<(Option<Taken>, Take)> {
    let mut held = None;
    for same in takes.chunk_by(|a, b| a.0 == b.0) {
        // in one microsecond any order may be the server's
        let mut left = same.to_vec();
        while let Some(last) = left.last().copied() {
            let next = left.iter().enumerate().find_map(|(i, (now, cost, said))| {
                let mut after = held.clone();
                (Taken::take(&mut after, limit, *now, *cost).unwrap() == *said).then_some((i, after))
            });
            let Some((i, after)) = next else { return Some((held, last)) };
            held = after;
            left.remove(i);
        }
    }
    None
}

/// The most that any window of `span` µs saw.
fn busiest(takes: &[Take], span: u64) -> u64 {
    let taken: Vec<&Take> = takes.iter().filter(|(_, _, said)| said.allowed).collect();
    let windows = taken.iter().enumerate().map(|(i, first)| {
        taken[i..].iter().take_while(|take| take.0 < first.0 + span).map(|take| u64::from(take.1)).sum()
    });
    windows.max().unwrap_or(0)
}

/// Each answer to each of many clients is the model's, in the one order that the server's clock tells; so no window sees
/// more than its algorithm says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_at_once_are_answered_as_the_exact_model_answers() {
    let server = Server::spawn().unwrap();
    for algorithm in [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log] {
        for (most, window) in [(12, 20), (5, 3), (40, 150)] {
            let limit = Limit::new(most, Duration::from_millis(window)).by(algorithm);
            let takes = rush(&server, &format!("{algorithm:?}:{most}"), &limit).await;
            assert_eq!(differs(&limit, &takes), None, "{limit:?}");
            let (most, span) = (u64::from(most), window * 1000);
            let bound = match algorithm {
                Algorithm::Log => most,
                Algorithm::Gcra => most + span.div_ceil(limit.interval_us()),
                _ => 2 * most,
            };
            assert!(busiest(&takes, span) <= bound, "{limit:?}: {} in a window", busiest(&takes, span));
            let allowed = takes.iter().filter(|(_, cost, said)| said.allowed && *cost > 0).count();
            assert!(allowed > 3 && allowed < takes.len(), "{limit:?}: {allowed} of {}", takes.len());
        }
    }
}

/// The same two steps as two commands: what the model is there to see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_read_and_written_in_two_steps_lets_too_many_through() {
    let server = Server::spawn().unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..6 {
        let redis = Redis::connect(server.patient_url()).await.unwrap();
        clients.spawn(async move {
            let mut allowed = 0;
            for _ in 0..50 {
                let held: Option<u64> = redis.link().call("test", redis::cmd("GET").arg("n")).await.unwrap();
                if held.unwrap_or(0) < 40 {
                    let next = held.unwrap_or(0) + 1;
                    let _: () = redis.link().call("test", redis::cmd("SET").arg("n").arg(next)).await.unwrap();
                    allowed += 1;
                }
            }
            allowed
        });
    }
    let allowed: u32 = clients.join_all().await.into_iter().sum();
    assert!(allowed > 40, "{allowed} of 40");
}

#[tokio::test]
async fn while_the_server_is_away_the_rule_decides_and_then_the_server_again() {
    let mut server = Server::spawn().unwrap();
    let redis = Redis::connect(format!("{}?timeout=500ms", server.url())).await.unwrap();
    let share = NonZeroU32::new(2).unwrap();
    let hour = Duration::from_secs(3600);
    let of = |away| Limits::new(redis.clone(), Limit::new(6, hour)).unwrap().when_away(away);
    let rules = [(Away::Open, 9), (Away::Closed, 0), (Away::Local { share }, 3)];
    let all = rules.map(|(away, passes)| (of(away), passes));
    server.kill();
    for (limits, passes) in &all {
        let mut passed = 0;
        for _ in 0..9 {
            let decision = limits.take("k", 1).await.unwrap();
            assert_eq!(decision.source, Source::Away, "{limits:?}");
            assert!(decision.allowed || !decision.retry_after.is_zero());
            passed += u32::from(decision.allowed);
        }
        assert_eq!(passed, *passes, "{limits:?}");
    }
    assert!(of(Away::Fail).take("k", 1).await.unwrap_err().is_transient());
    server.restart().unwrap();
    for (limits, _) in &all {
        eventually("the server decides again", async || limits.peek("k").await.unwrap().source == Source::Store).await;
    }
    assert!(all[1].0.take("k", 1).await.unwrap().allowed);
}

#[tokio::test]
async fn every_limit_has_a_ttl_and_a_denial_writes_nothing() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
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
    let redis = Redis::connect(server.patient_url()).await.unwrap();
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
    let redis = Redis::connect(server.patient_url()).await.unwrap();
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
