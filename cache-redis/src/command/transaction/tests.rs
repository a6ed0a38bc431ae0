//! Scripts, pipelines and transactions on a real server and a real cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testkit::{eventually, within};
use cache_core::{CacheService, Error, ErrorKind, Reply, Result};
use tokio::task::JoinSet;

use crate::testkit::{Cluster, Server};
use crate::{Command, Redis, Script, Value};

const LONG: Duration = Duration::from_secs(300);

async fn connect(server: &Server) -> Redis {
    Redis::connect(server.patient_url()).await.unwrap()
}

async fn number(redis: &Redis, key: &str) -> i64 {
    redis.command::<Option<i64>>(Command::new("GET").key(key)).await.unwrap().unwrap_or(0)
}

async fn put(redis: &Redis, key: &str, value: &'static str) {
    redis.set(key, Bytes::from_static(value.as_bytes()), LONG).await.unwrap();
}

#[tokio::test]
async fn a_script_runs_by_its_hash_and_brings_its_text_when_it_is_lost() {
    let server = Server::spawn().unwrap();
    let redis = connect(&server).await;
    let add = Script::new("redis.call('INCRBY', KEYS[1], ARGV[1]) return {KEYS[1], ARGV[2], 7, false}");
    redis.preload(&[&add]).await.unwrap();
    assert!(server.cli(&["INFO", "commandstats"]).unwrap().contains("cmdstat_script|load"));
    for round in 1..=3 {
        let call = redis.script(&add).key("n").arg(2).arg(&b"\r\n\0"[..]);
        let reply: Vec<Value> = call.run().await.unwrap();
        assert!(matches!(&reply[..], [Value::Bytes(key), Value::Bytes(arg), Value::Int(7), Value::Nil]
            if key == "n" && arg == &b"\r\n\0"[..]));
        assert_eq!(number(&redis, "n").await, 2 * round);
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
    }
}

#[tokio::test]
async fn a_script_that_fails_is_a_typed_error() {
    let server = Server::spawn().unwrap();
    let redis = connect(&server).await;
    put(&redis, "foreign", "text").await;
    let run = async |text: &str| redis.script(&Script::new(text)).key("foreign").run::<Value>().await.unwrap_err();
    assert_eq!(run("this is no lua").await.kind(), ErrorKind::Other);
    assert_eq!(run("return redis.call('LPUSH', KEYS[1], 'x')").await.reply(), Some(Reply::WrongType));
    let own = run("return redis.error_reply('SOLDOUT secret')").await;
    assert!(own.message().contains("SOLDOUT") && !format!("{own:?}").contains("secret"), "{own:?}");
    assert_eq!(run("error('secret')").await.kind(), ErrorKind::Other);
    let odd = redis.script(&Script::new("return {1}")).run::<i64>().await.unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::Codec);
    let bad = redis.script(&Script::new("return 1")).key("").run::<i64>().await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Invalid);
    assert_eq!(redis.get("foreign").await.unwrap().as_deref(), Some(&b"text"[..]));
    assert!(redis.preload(&[&Script::new("no lua")]).await.is_err());
}

#[tokio::test]
async fn a_pipeline_answers_each_command_in_order() {
    let server = Server::spawn().unwrap();
    let redis = connect(&server).await;
    put(&redis, "text", "text").await;
    let pipeline = redis
        .pipeline()
        .then(Command::new("INCR").key("n"))
        .then(Command::new("INCR").key("text"))
        .then(Command::new("LPUSH").key("text").arg(1))
        .then(Command::new("INCR").key("n"))
        .then(Command::new("GET").key("nothing"));
    let replies = pipeline.send().await.unwrap();
    assert!(
        matches!(&replies[..], [Ok(Value::Int(1)), Err(_), Err(_), Ok(Value::Int(2)), Ok(Value::Nil)]),
        "{replies:?}"
    );
    assert_eq!(replies[1].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(replies[2].as_ref().unwrap_err().reply(), Some(Reply::WrongType));
    assert!(redis.pipeline().send().await.unwrap().is_empty());
    for name in ["MULTI", "select", "Subscribe", "BLPOP", "CLIENT", "", "SET a", "GET\r\n"] {
        let refused = redis.pipeline().then(Command::new("INCR").key("n")).then(Command::new(name)).send().await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{name:?}");
    }
    let bad = redis.pipeline().then(Command::new("INCR").key("n")).then(Command::new("GET").key("\n")).send().await;
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(number(&redis, "n").await, 2, "a refused pipeline was sent in part");
}

/// Moves `cents` from one account to the other.
async fn transfer(redis: &Redis, from: &str, to: &str, cents: i64) -> Result<u32> {
    let done = redis.transaction([from, to]).attempts(1000).within(Duration::from_secs(60)).run(|attempt| async move {
        let held: Option<i64> = attempt.read(Command::new("GET").key(from)).await?;
        let other: Option<i64> = attempt.read(Command::new("GET").key(to)).await?;
        let (held, other) = (held.unwrap_or(0), other.unwrap_or(0));
        if held < cents {
            return Err(Error::new(ErrorKind::Conflict, "not enough"));
        }
        // written as read, so that a change in between would be lost
        attempt.queue(Command::new("SET").key(from).arg(held - cents))?;
        attempt.queue(Command::new("SET").key(to).arg(other + cents))?;
        Ok(())
    });
    done.await.map(|done| done.attempts)
}

async fn nothing_is_lost(redis: &Redis) {
    let (a, b) = ("{t}:a", "{t}:b");
    for key in [a, b] {
        redis.command::<()>(Command::new("SET").key(key).arg(1000)).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for task in 0..6 {
        let redis = redis.clone();
        tasks.spawn(async move {
            let mut attempts = 0;
            for _ in 0..10 {
                let (from, to) = if task % 2 == 0 { ("{t}:a", "{t}:b") } else { ("{t}:b", "{t}:a") };
                attempts += transfer(&redis, from, to, 7).await.unwrap();
            }
            attempts
        });
    }
    let attempts: u32 = within("the transfers", tasks.join_all()).await.into_iter().sum();
    assert_eq!((number(redis, a).await, number(redis, b).await), (1000, 1000), "a transfer was lost");
    assert!(attempts > 60, "nobody was beaten, so nothing was tested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_transactions_lose_nothing() {
    let server = Server::spawn().unwrap();
    nothing_is_lost(&connect(&server).await).await;
    let clients = server.cli(&["CLIENT", "LIST"]).unwrap().lines().filter(|line| line.contains("id=")).count();
    assert!(clients < 20, "{clients} connections are open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_transactions_scripts_and_pipelines_in_one_slot() {
    let cluster = Cluster::spawn().unwrap();
    let redis = Redis::connect(cluster.patient_url()).await.unwrap();
    nothing_is_lost(&redis).await;
    let script = Script::new("return #KEYS");
    redis.preload(&[&script]).await.unwrap();
    assert_eq!(redis.script(&script).key("{x}1").key("{x}2").run::<i64>().await.unwrap(), 2);
    let get = |key: &str| Command::new("GET").key(key);
    let run = AtomicU32::new(0);
    for error in [
        redis.script(&script).key("a").key("b").run::<i64>().await.unwrap_err(),
        redis.pipeline().then(get("a")).then(get("b")).send().await.unwrap_err(),
        redis.command::<Value>(Command::new("MGET").key("a").key("b")).await.unwrap_err(),
        redis.transaction(["a", "b"]).run(|_| async { Ok::<_, Error>(()) }).await.unwrap_err(),
        redis
            .transaction(["a"])
            .run(|attempt| {
                run.fetch_add(1, Ordering::SeqCst);
                async move { attempt.queue(Command::new("SET").key("b").arg(1)) }
            })
            .await
            .unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.reply()), (ErrorKind::Invalid, Some(Reply::CrossSlot)), "{error}");
    }
    assert_eq!(run.load(Ordering::SeqCst), 1);
    assert_eq!(number(&redis, "b").await, 0);
    // the slot moves: the transaction follows it
    transfer(&redis, "{t}:a", "{t}:b", 1).await.unwrap();
    cluster.migrate("{t}:a").unwrap();
    transfer(&redis, "{t}:a", "{t}:b", 1).await.unwrap();
    assert_eq!(number(&redis, "{t}:b").await, 1002);
}

#[tokio::test]
async fn who_is_always_beaten_is_told_conflict() {
    let server = Server::spawn().unwrap();
    let redis = connect(&server).await;
    let tried = Arc::new(AtomicU32::new(0));
    let beaten = redis.transaction(["k"]).attempts(4).run(|attempt| {
        let (other, tried) = (redis.clone(), Arc::clone(&tried));
        async move {
            tried.fetch_add(1, Ordering::SeqCst);
            other.command::<()>(Command::new("INCR").key("k")).await?;
            attempt.queue(Command::new("SET").key("done").arg(1))
        }
    });
    assert_eq!(beaten.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!((tried.load(Ordering::SeqCst), number(&redis, "k").await, number(&redis, "done").await), (4, 4, 0));
}

#[tokio::test]
async fn a_body_that_gives_up_writes_nothing_and_its_error_comes_back() {
    #[derive(Debug)]
    enum Own {
        SoldOut,
        Store(#[expect(dead_code, reason = "shown when the test fails")] Error),
    }
    impl From<Error> for Own {
        fn from(error: Error) -> Self {
            Self::Store(error)
        }
    }
    let server = Server::spawn().unwrap();
    let redis = connect(&server).await;
    for _ in 0..20 {
        let done: Result<crate::Committed<()>, Own> = redis
            .transaction(["k"])
            .run(|attempt| async move {
                attempt.queue(Command::new("SET").key("k").arg(1))?;
                Err(Own::SoldOut)
            })
            .await;
        assert!(matches!(done, Err(Own::SoldOut)));
    }
    // nothing is left of the watches
    transfer(&redis, "a", "b", 0).await.unwrap();
    let refused = redis.transaction(["k"]).run(|attempt| async move {
        attempt.queue(Command::new("SET").key("k").arg(1))?;
        attempt.queue(Command::new("NOSUCHCOMMAND").key("k"))
    });
    let error = refused.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(number(&redis, "k").await, 0, "a part of a refused transaction was done");
    for error in [
        redis.transaction([""]).run(|_| async { Ok::<_, Error>(()) }).await.unwrap_err(),
        redis.transaction(["k"]).attempts(0).run(|_| async { Ok::<_, Error>(()) }).await.unwrap_err(),
        redis.transaction(["k"]).run(|a| async move { a.queue(Command::new("MULTI")) }).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn an_attempt_ends_with_its_body_and_the_deadline_with_all() {
    let server = Server::spawn().unwrap();
    let redis = connect(&server).await;
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&kept);
    let done = redis.transaction(["k"]).run(|attempt| {
        *keep.lock().unwrap() = Some(attempt.clone());
        async move {
            attempt.queue(Command::new("INCR").key("k"))?;
            attempt.queue(Command::new("LPUSH").key("k").arg(1))?;
            Ok::<_, Error>("value")
        }
    });
    let done = done.await.unwrap();
    assert!(done.value == "value" && done.attempts == 1 && matches!(&done.replies[..], [Ok(Value::Int(1)), Err(_)]));
    let late = kept.lock().unwrap().take().unwrap();
    assert_eq!(late.queue(Command::new("INCR").key("k")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(late.read::<Value>(Command::new("GET").key("k")).await.unwrap_err().kind(), ErrorKind::Closed);
    let hung = redis.transaction(["k"]).within(Duration::from_millis(50)).run(|attempt| async move {
        attempt.queue(Command::new("SET").key("k").arg(9))?;
        std::future::pending::<Result<()>>().await
    });
    assert_eq!(within("the deadline", hung).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(number(&redis, "k").await, 1);
    // the connection of a dropped attempt is closed, so nothing is watched on it
    eventually("the connection is gone", async || {
        !server.cli(&["CLIENT", "LIST"]).unwrap().lines().any(|line| line.contains("watch=1"))
    })
    .await;
}
