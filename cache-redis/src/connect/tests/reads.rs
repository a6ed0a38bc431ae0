//! Single reads that share requests: each is answered as if it were alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cache_core::testkit::assert_conforms;
use cache_core::{CacheService, ErrorKind, Leases, Reply, Result};
use futures_util::future::join_all;
use tokio::task::JoinSet;

use super::{TTL, until};
use crate::Redis;
use crate::testkit::{Cluster, Direction, Proxy, Server};

/// So many reads at once that most of them are joined.
const MANY: usize = 200;

fn name(i: usize) -> String {
    format!("k{i}")
}

async fn fill(redis: &Redis) {
    for i in 0..MANY {
        redis.set(&name(i), format!("v{i}").into(), TTL).await.unwrap();
    }
}

/// Keeps reads under way until it is dropped, so that all others are joined.
struct Noise(#[expect(dead_code, reason = "ends what it holds when it is dropped")] JoinSet<()>);

impl Noise {
    fn over(redis: &Redis) -> Self {
        let mut tasks = JoinSet::new();
        for i in 0..32 {
            let redis = redis.clone();
            tasks.spawn(async move {
                loop {
                    let _ = redis.get(&name(i)).await;
                }
            });
        }
        Self(tasks)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joined_reads_return_what_single_ones_do() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    fill(&redis).await;
    let mut tasks = JoinSet::new();
    for task in 0..MANY {
        let redis = redis.clone();
        tasks.spawn(async move {
            for i in 0..50 {
                let i = (task * 31 + i * 7) % (MANY + 10);
                let there = (i < MANY).then(|| format!("v{i}").into());
                assert_eq!(redis.get(&name(i)).await.unwrap(), there);
                let found = redis.read(&name(i)).await.unwrap();
                assert!(found.as_ref().is_none_or(|found| found.left.is_some_and(|left| left <= TTL)));
                assert_eq!(found.map(|found| found.frame), there);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let (under_way, joined) = redis.link().reads();
    assert!(under_way == 0 && joined > MANY * 50, "{joined} of {}", MANY * 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_while_reads_are_joined() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    let noise = Noise::over(&redis);
    let report = assert_conforms(redis.clone()).await;
    drop(noise);
    assert!(report.passed() > 50 && redis.link().reads().1 > 1000, "{report}");
}

#[tokio::test]
async fn an_error_of_one_key_is_not_that_of_others() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    fill(&redis).await;
    for i in (0..MANY).step_by(10) {
        server.cli(&["DEL", &name(i)]).unwrap();
        server.cli(&["RPUSH", &name(i), "x"]).unwrap();
    }
    let names: Vec<String> = (0..MANY).map(name).collect();
    let gets = join_all(names.iter().map(|name| redis.get(name))).await;
    let reads = join_all(names.iter().map(|name| redis.read(name))).await;
    for (i, (get, read)) in gets.into_iter().zip(reads).enumerate() {
        if i % 10 == 0 {
            let (get, read) = (get.unwrap_err(), read.unwrap_err());
            assert_eq!((get.reply(), get.operation()), (Some(Reply::WrongType), Some("get")), "{get}");
            assert_eq!((read.reply(), read.operation()), (Some(Reply::WrongType), Some("read")), "{read}");
        } else {
            assert_eq!(get.unwrap().unwrap(), format!("v{i}"));
            assert_eq!(read.unwrap().unwrap().frame, format!("v{i}"));
        }
    }
}

/// How often the server was asked which keys are there.
fn counted(server: &Server) -> Option<String> {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    stats.lines().find(|line| line.starts_with("cmdstat_exists:")).map(str::to_owned)
}

#[tokio::test]
async fn a_key_that_is_gone_is_told_from_one_of_another_kind_after_reads_that_all_found_theirs() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    fill(&redis).await;
    let names: Vec<String> = (0..MANY).map(name).collect();
    let all = || join_all(names.iter().map(|name| redis.get(name)));
    until("keys are not counted any more", || async {
        let before = counted(&server);
        assert!(all().await.into_iter().all(|value| value.unwrap().is_some()));
        before == counted(&server)
    })
    .await;
    for i in (0..MANY).step_by(10) {
        server.cli(&["DEL", &name(i), &name(i + 1)]).unwrap();
        server.cli(&["RPUSH", &name(i), "x"]).unwrap();
    }
    let before = counted(&server);
    for round in 0..2 {
        for (i, value) in all().await.into_iter().enumerate() {
            match i % 10 {
                0 => assert_eq!(value.unwrap_err().reply(), Some(Reply::WrongType), "{i} in round {round}"),
                1 => assert_eq!(value.unwrap(), None, "{i} in round {round}"),
                _ => assert_eq!(value.unwrap().unwrap(), format!("v{i}")),
            }
        }
    }
    assert_ne!(before, counted(&server), "after one that was not there, keys are counted again");
}

#[tokio::test]
async fn an_error_of_the_server_reaches_everybody() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    server.cli(&["ACL", "SETUSER", "default", "-get", "-mget"]).unwrap();
    let refused = join_all((0..MANY).map(|_| redis.get("k"))).await;
    for error in refused {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
    }
    server.cli(&["ACL", "SETUSER", "default", "+get"]).unwrap();
    let answers = join_all((0..MANY).map(|_| redis.get("k"))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().is_none()), "one command for all is not needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reader_keeps_its_own_deadline() {
    const SPAN: Duration = Duration::from_millis(300);
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let redis = Redis::builder().url(proxy.url()).timeout(SPAN).connect().await.unwrap();
    fill(&redis).await;
    proxy.stall(Direction::Replies);
    let mut tasks = JoinSet::new();
    for wave in 0..4 {
        for i in 0..MANY {
            let redis = redis.clone();
            tasks.spawn(async move {
                let begun = Instant::now();
                (redis.get(&name(i)).await.map_err(|error| error.kind()), begun.elapsed())
            });
        }
        // the later ones find a request under way that is not answered
        tokio::time::sleep(Duration::from_millis(20 * wave)).await;
    }
    while let Some(ended) = tasks.join_next().await {
        let (answer, took) = ended.unwrap();
        assert!(matches!(answer, Err(ErrorKind::Timeout | ErrorKind::Unavailable)), "{answer:?}");
        assert!(took < SPAN * 12, "{took:?}");
    }
    assert_eq!(redis.link().reads().0, 0);
    proxy.flow();
    until("it reads again", || async { redis.get(&name(1)).await.is_ok() }).await;
    let all = join_all((0..MANY).map(|i| {
        let redis = redis.clone();
        async move { redis.get(&name(i)).await }
    }))
    .await;
    assert!(all.into_iter().all(|value| value.unwrap().is_some()));
}

#[tokio::test]
async fn readers_who_leave_take_nobody_along() {
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).timeout(Duration::from_secs(10)).connect().await.unwrap();
    fill(&redis).await;
    let names: Vec<String> = (0..MANY).map(name).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for round in 0..20 {
        let mut calls: Vec<_> = names.iter().map(|name| redis.get(name)).collect();
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut context).is_pending());
        }
        let mut at = 0;
        calls.retain(|_| {
            at += 1;
            at % 3 == round % 3
        });
        let values = join_all(calls).await;
        let stayed = (0..MANY).filter(|i| (i + 1) % 3 == round % 3);
        for (i, value) in stayed.zip(values) {
            assert_eq!(value.unwrap().unwrap(), format!("v{i}"));
        }
    }
    let calls: Vec<_> = names.iter().map(|name| redis.get(name)).collect();
    drop(calls);
    assert_eq!(redis.link().reads().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joined_reads_of_a_cluster_follow_slots_that_move() {
    let cluster = tokio::task::spawn_blocking(|| Arc::new(Cluster::spawn().unwrap())).await.unwrap();
    let redis =
        Redis::builder().url(cluster.patient_url()).cluster().timeout(Duration::from_secs(5)).connect().await.unwrap();
    // one slot moves and others stay
    let key = |i: usize| if i.is_multiple_of(2) { format!("{{moves}}{i}") } else { name(i) };
    for i in 0..MANY {
        redis.set(&key(i), format!("v{i}").into(), TTL).await.unwrap();
    }
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks: JoinSet<Result<usize>> = JoinSet::new();
    for task in 0..64 {
        let (redis, ends) = (redis.clone(), Arc::clone(&ends));
        tasks.spawn(async move {
            let mut reads = 0;
            while !ends.load(Ordering::Relaxed) {
                let i = (task * 17 + reads * 5) % MANY;
                assert_eq!(redis.get(&key(i)).await?, Some(format!("v{i}").into()));
                reads += 1;
            }
            Ok(reads)
        });
    }
    let moving = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            let migration = moving.begin_migration("{moves}0").unwrap();
            moving.move_keys(&migration).unwrap();
            moving.end_migration(&migration).unwrap();
        }
    })
    .await
    .unwrap();
    ends.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        assert!(ended.unwrap().unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_leave_the_joined_requests() {
    const LARGE: usize = 300_000;
    let server = Server::spawn().unwrap();
    let redis = Redis::builder().url(server.patient_url()).client_name("lane").timeout(Duration::from_secs(10));
    let redis = redis.connect().await.unwrap();
    fill(&redis).await;
    let noise = Noise::over(&redis);
    server.cli(&["SET", "large", &"x".repeat(LARGE)]).unwrap();
    // the first reply may be among small ones; then the key is known
    for _ in 0..3 {
        assert_eq!(redis.get("large").await.unwrap().map(|value| value.len()), Some(LARGE));
    }
    drop(noise);
    let lanes = server.cli(&["CLIENT", "LIST"]).unwrap().lines().filter(|line| line.contains("name=lane")).count();
    assert_eq!(lanes, 2, "a small lane and a large one");
}
