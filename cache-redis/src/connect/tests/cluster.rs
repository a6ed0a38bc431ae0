//! A cluster: who gets what, before, during and after slots change their owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::testkit::{PATIENT, assert_conforms};
use cache_core::{Atomic, Bus, BusEvent, CacheService, Change, ErrorKind, Line, Listener, NodeId, Reply, Sweep};
use tokio::time::timeout;

use super::{TTL, until};
use crate::testkit::{Cluster, Server};
use crate::{Redis, RedisBuilder};

const ME: NodeId = NodeId(1);

/// A killed primary is replaced after about 4 s; the rest is for a busy machine.
const REPLACED: Duration = Duration::from_secs(12);

async fn spawn() -> Arc<Cluster> {
    tokio::task::spawn_blocking(|| Arc::new(Cluster::spawn().unwrap())).await.unwrap()
}

/// Does what blocks elsewhere, so that the connections live on.
async fn apart<T: Send + 'static>(cluster: &Arc<Cluster>, work: impl FnOnce(&Cluster) -> T + Send + 'static) -> T {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || work(&cluster)).await.unwrap()
}

fn over(cluster: &Cluster) -> RedisBuilder {
    Redis::builder().url(cluster.patient_url()).cluster().timeout(Duration::from_secs(1))
}

fn line(bucket: usize) -> Line {
    let prefix = format!("ns:{{{bucket}}}:");
    Line { seq: format!("{prefix}seq"), channel: format!("{prefix}ch"), tags: format!("{prefix}tags:") }
}

fn key(bucket: usize, name: &str) -> String {
    format!("ns:{{{bucket}}}:k:{name}")
}

async fn next(listener: &mut Box<dyn Listener>) -> BusEvent {
    timeout(Duration::from_secs(20), listener.next()).await.expect("no event").expect("closed")
}

/// Changes a key of every line until each line's message was heard in a stream that is whole.
async fn every_line_is_heard(redis: &Redis, listener: &mut Box<dyn Listener>, lines: &[Line]) {
    let end = Instant::now() + Duration::from_secs(20);
    let mut missing: Vec<usize> = (0..lines.len()).collect();
    let mut whole = true;
    while !(missing.is_empty() && whole) {
        assert!(Instant::now() < end, "lines without a message: {missing:?}, whole: {whole}");
        for i in &missing {
            let _ = redis.change(&lines[*i], ME, &[&key(*i, "x")], Change::Delete).await;
        }
        while let Ok(event) = timeout(Duration::from_millis(50), listener.next()).await {
            match event.unwrap() {
                BusEvent::Lost => (whole, missing) = (false, (0..lines.len()).collect()),
                BusEvent::Restored => whole = true,
                BusEvent::Message { line, .. } => missing.retain(|i| *i != line),
                BusEvent::Foreign { .. } => {}
            }
        }
    }
}

#[tokio::test]
async fn the_contract_holds_on_a_cluster() {
    let cluster = spawn().await;
    let redis = over(&cluster).timeout(Duration::from_secs(10)).connect().await.unwrap();
    let report = assert_conforms(redis).await;
    println!("{report}");
    assert!(report.passed() > 50, "{report}");
}

#[tokio::test]
async fn keys_go_to_their_owners_and_batches_are_parted() {
    let cluster = spawn().await;
    let nodes: Vec<_> = cluster.nodes().iter().map(Server::address).collect();
    // a replica and a node that is away are seeds as good as any
    let url = format!("redis+cluster://127.0.0.1:1,{}", nodes[5]);
    let redis = Redis::builder().url(url).timeout(Duration::from_secs(1)).connect().await.unwrap();

    let names: Vec<String> = (0..500).map(|i| format!("key{i}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries: Vec<(&str, Bytes)> = keys.iter().map(|key| (*key, Bytes::copy_from_slice(key.as_bytes()))).collect();
    redis.set_many(&entries, TTL).await.unwrap();
    for node in &cluster.nodes()[..3] {
        assert!(node.cli(&["DBSIZE"]).unwrap().parse::<u64>().unwrap() > 100);
    }
    let mut asked = keys.clone();
    asked.insert(250, "missing");
    let values = redis.get_many(&asked).await.unwrap();
    for (key, value) in asked.iter().zip(values) {
        assert_eq!(value.as_deref(), (*key != "missing").then_some(key.as_bytes()));
    }
    assert_eq!(redis.keys("key").await.unwrap().len(), 500);
    assert_eq!(redis.delete_many(&keys[..100]).await.unwrap(), 100);
    assert_eq!(redis.clear("key").await.unwrap(), 400);
    assert_eq!(redis.get_many(&keys).await.unwrap(), vec![None; 500]);

    // one atomic step is of one slot, or nothing of it runs
    redis.set(&key(1, "a"), "1".into(), TTL).await.unwrap();
    let cross = redis.change(&line(1), ME, &[&key(1, "a"), &key(2, "a")], Change::Delete).await.unwrap_err();
    assert_eq!((cross.kind(), cross.reply()), (ErrorKind::Invalid, Some(Reply::CrossSlot)), "{cross}");
    assert!(redis.exists(&key(1, "a")).await.unwrap());

    let mut raw = redis.raw();
    let () = redis::AsyncCommands::hset(&mut raw, "hash", "f", "v").await.unwrap();
    let value: String = redis::AsyncCommands::hget(&mut raw, "hash", "f").await.unwrap();
    assert_eq!(value, "v");
}

#[tokio::test]
async fn what_is_no_cluster_or_taken_for_none_is_said() {
    let server = Server::spawn().unwrap();
    let error = Redis::connect(format!("{}?cluster=true", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("not of a cluster"), "{error}");
    let error = Redis::connect("redis+cluster://127.0.0.1:1,127.0.0.1:2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let cluster = spawn().await;
    let redis = Redis::connect(format!("{}?{PATIENT}", cluster.url())).await.unwrap();
    let mut errors = Vec::new();
    for i in 0..20 {
        errors.extend(redis.get(&format!("key{i}")).await.err());
    }
    assert!(!errors.is_empty());
    for error in errors {
        assert_eq!((error.kind(), error.reply()), (ErrorKind::Config, Some(Reply::Moved)), "{error}");
    }
}

#[tokio::test]
async fn a_killed_primary_is_replaced_for_commands_and_subscriptions() {
    let mut cluster = Cluster::spawn().unwrap();
    let redis = over(&cluster).connect().await.unwrap();
    let lines: Vec<Line> = (0..16).map(line).collect();
    let mut listener = redis.subscribe(&lines).await.unwrap();
    every_line_is_heard(&redis, &mut listener, &lines).await;
    let owners: Vec<usize> = lines.iter().map(|line| cluster.owner(&line.seq).unwrap()).collect();
    let mut runs = Vec::new();
    for line in &lines {
        runs.push(redis.beat(line).await.unwrap().run);
    }
    assert!(!runs.contains(&0));
    for i in 1..lines.len() {
        assert_eq!(runs[0] == runs[i], owners[0] == owners[i], "a run is a node's");
    }

    let dead = owners[0];
    cluster.nodes_mut()[dead].kill();
    let began = Instant::now();
    until("writes again", || async { redis.set(&key(0, "a"), "1".into(), TTL).await.is_ok() }).await;
    println!("writes again after {:?}", began.elapsed());
    assert!(began.elapsed() < REPLACED, "{:?}", began.elapsed());
    // the others never noticed, and the run of the lines that moved is another
    for (i, line) in lines.iter().enumerate() {
        until("a beat", || async { redis.beat(line).await.is_ok() }).await;
        assert_eq!(redis.beat(line).await.unwrap().run == runs[i], owners[i] != dead, "line {i}");
    }
    while next(&mut listener).await != BusEvent::Lost {}
    every_line_is_heard(&redis, &mut listener, &lines).await;
}

#[tokio::test]
async fn a_frozen_primary_is_replaced_though_nobody_listens() {
    let cluster = spawn().await;
    let redis = over(&cluster).timeout(Duration::from_millis(300)).connect().await.unwrap();
    let a = key(0, "a");
    redis.set(&a, "1".into(), TTL).await.unwrap();
    let name = a.clone();
    let owner = apart(&cluster, move |c| c.owner(&name).unwrap()).await;
    cluster.nodes()[owner].pause().unwrap();
    let began = Instant::now();
    until("writes again", || async { redis.set(&a, "2".into(), TTL).await.is_ok() }).await;
    println!("writes again after {:?}", began.elapsed());
    assert!(began.elapsed() < REPLACED, "{:?}", began.elapsed());
    cluster.nodes()[owner].resume().unwrap();
    until("the old primary is a replica", || async {
        cluster.nodes()[owner].cli(&["ROLE"]).is_ok_and(|role| role.starts_with("slave"))
    })
    .await;
    assert_eq!(redis.get(&a).await.unwrap().as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn a_slot_on_its_way_is_served_by_both() {
    let cluster = spawn().await;
    let redis = over(&cluster).connect().await.unwrap();
    let mut listener = redis.subscribe(&[line(7)]).await.unwrap();
    let [stays, moves, fresh] = ["stays", "moves", "fresh"].map(|name| key(7, name));
    redis.set(&moves, "1".into(), TTL).await.unwrap();
    let seq = line(7).seq;
    redis.beat(&line(7)).await.unwrap();
    let run = redis.beat(&line(7)).await.unwrap().run;

    let migration = apart(&cluster, move |c| c.begin_migration(&seq).unwrap()).await;
    assert_eq!(redis.get(&moves).await.unwrap().as_deref(), Some(&b"1"[..]));
    let (cut, slot) = (migration.clone(), migration.clone());
    apart(&cluster, move |c| c.move_keys(&cut).unwrap()).await;
    // all keys are at the new owner, which serves only who was sent there
    assert_eq!(redis.get(&moves).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(redis.get_many(&[&moves]).await.unwrap(), [Some(Bytes::from_static(b"1"))]);
    redis.set(&fresh, "2".into(), TTL).await.unwrap();
    assert_eq!(redis.add(&stays, 5, TTL).await.unwrap(), 5);
    assert_eq!(redis.add(&stays, 5, TTL).await.unwrap(), 10);
    let there = |cluster: &Cluster, key: &str| {
        let node = &cluster.nodes()[slot.to()];
        node.cli(&["CLUSTER", "COUNTKEYSINSLOT", &node.cli(&["CLUSTER", "KEYSLOT", key]).unwrap()]).unwrap()
    };
    assert_eq!(there(&cluster, &fresh), "4", "seq, moves, fresh and stays");
    // two keys of one step, one of them nowhere: nobody can run it until the slot has arrived
    let change = redis.change(&line(7), ME, &[&key(7, "nowhere")], Change::Delete).await;
    let error = change.unwrap_err();
    // the old owner sends to the new one, and that one asks to come again
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(matches!(error.reply(), Some(Reply::TryAgain | Reply::Ask)), "{error}");

    let end = migration.clone();
    apart(&cluster, move |c| c.end_migration(&end).unwrap()).await;
    assert_eq!(redis.get(&fresh).await.unwrap().as_deref(), Some(&b"2"[..]));
    redis.change(&line(7), ME, &[&moves], Change::Delete).await.unwrap();
    assert_eq!(redis.get(&moves).await.unwrap(), None);
    assert_ne!(redis.beat(&line(7)).await.unwrap().run, run);
    while next(&mut listener).await != BusEvent::Lost {}
    while next(&mut listener).await != BusEvent::Restored {}
    redis.change(&line(7), ME, &[&fresh], Change::Delete).await.unwrap();
    assert!(matches!(next(&mut listener).await, BusEvent::Message { line: 0, .. }));
    assert_eq!(redis.get(&fresh).await.unwrap(), None);
}

#[tokio::test]
async fn no_call_fails_or_lies_while_slots_move() {
    let cluster = spawn().await;
    let redis = over(&cluster).timeout(Duration::from_secs(5)).connect().await.unwrap();
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for task in 0..8_usize {
        let (redis, stop, calls) = (redis.clone(), Arc::clone(&stop), Arc::clone(&calls));
        tasks.push(tokio::spawn(async move {
            let (bucket, mut sum, mut last) = (task % 4, 0, 0);
            let names = ["count", "value", "other"].map(|name| key(bucket, &format!("{name}{task}")));
            let lone = format!("lone{task}");
            while !stop.load(Ordering::Relaxed) {
                sum += 1;
                assert_eq!(redis.add(&names[0], 1, TTL).await.unwrap(), sum);
                let value = Bytes::from(sum.to_string());
                redis.set_many(&[(&names[1], value.clone()), (&lone, value.clone())], TTL).await.unwrap();
                let got = redis.get_many(&[&lone, &names[2], &names[1]]).await.unwrap();
                assert_eq!(got, [Some(value.clone()), None, Some(value)]);
                let n = redis.change(&line(bucket), ME, &[&names[1]], Change::Delete).await.unwrap().n;
                assert!(n > last, "{n} after {last}");
                last = n;
                assert_eq!(redis.get(&names[1]).await.unwrap(), None);
                calls.fetch_add(5, Ordering::Relaxed);
            }
            sum
        }));
    }
    for round in 0..8 {
        let before = calls.load(Ordering::Relaxed);
        apart(&cluster, move |c| c.migrate(&line(round % 4).seq).unwrap()).await;
        until("traffic goes on", || async { calls.load(Ordering::Relaxed) > before + 100 }).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 10);
    }
    println!("{} calls over 8 migrations", calls.load(Ordering::Relaxed));
}

#[tokio::test]
async fn subscriptions_follow_their_slots() {
    let cluster = spawn().await;
    let redis = over(&cluster).connect().await.unwrap();
    let lines: Vec<Line> = (0..16).map(line).collect();
    let mut listener = redis.subscribe(&lines).await.unwrap();
    every_line_is_heard(&redis, &mut listener, &lines).await;
    let subscriptions = |cluster: &Cluster| -> usize {
        let count = |node: &Server| node.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap().lines().count();
        cluster.nodes().iter().map(count).sum()
    };
    assert_eq!(subscriptions(&cluster), 3, "one connection a primary");
    for bucket in [3, 9] {
        apart(&cluster, move |c| c.migrate(&line(bucket).seq).unwrap()).await;
        while next(&mut listener).await != BusEvent::Lost {}
        while next(&mut listener).await != BusEvent::Restored {}
        every_line_is_heard(&redis, &mut listener, &lines).await;
    }
    until("one connection a primary", || async { subscriptions(&cluster) == 3 }).await;
    drop(listener);
    until("unsubscribed", || async { subscriptions(&cluster) == 0 }).await;
}
