//! What only a server shows: what each call sends, what it leaves, and that the naive forms are wrong.

use std::time::Duration;

use bytes::Bytes;
use cache_core::codec::Raw;
use cache_core::recipe::session::Lifetime;
use cache_core::recipe::{Counters, Leaderboards, Sessions, Values};
use cache_core::{ErrorKind, Reply, Result};

use crate::Redis;
use crate::testkit::Server;

const HOUR: Duration = Duration::from_secs(3600);

async fn up() -> (Server, Redis) {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    (server, redis)
}

/// How often the server ran each of `commands`, together.
fn calls(server: &Server, commands: &[&str]) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let one = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        commands.contains(&name).then(|| rest.split(',').next()?.parse::<u64>().ok())?
    };
    stats.lines().filter_map(one).sum()
}

/// The answer of `call`, which sends `command` once and no script besides.
async fn sends<T>(server: &Server, command: &str, call: impl Future<Output = Result<T>>) -> T {
    // what a script runs counts as well, so a script is known by its own count alone
    let scripts = ["evalsha", "eval", "script|load"];
    let before = (calls(server, &[command]), calls(server, &scripts));
    let answer = call.await;
    let after = (calls(server, &[command]), calls(server, &scripts));
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, u64::from(command == "evalsha")), "{command}");
    answer.unwrap()
}

#[tokio::test]
async fn each_call_is_one_round_trip() {
    let (server, redis) = up().await;
    let (server, text) = (&server, Bytes::from_static(b"x"));
    let counters = Counters::new(redis.clone(), HOUR).unwrap();
    let _ = sends(server, "evalsha", counters.set("a", 5)).await;
    let _ = sends(server, "get", counters.get("a")).await;
    let _ = sends(server, "evalsha", counters.add("a", 1)).await;
    let _ = sends(server, "evalsha", counters.get_and_set("a", 5)).await;
    let _ = sends(server, "evalsha", counters.set_if_absent("a", 5)).await;
    let _ = sends(server, "evalsha", counters.compare_and_swap("a", Some(5), 9)).await;
    let _ = sends(server, "evalsha", counters.increment("a", 1, 3)).await;
    let _ = sends(server, "evalsha", counters.deduct("a", 1)).await;
    let _ = sends(server, "evalsha", counters.transfer("a", "b", 1)).await;
    let values = Values::new(redis.clone(), Raw, HOUR).unwrap();
    let _ = sends(server, "evalsha", values.set("v", &text)).await;
    let _ = sends(server, "set", values.get_and_set("v", &text)).await;
    let _ = sends(server, "evalsha", values.set_if_present("v", &text)).await;
    let _ = sends(server, "get", values.get("v")).await;
    let _ = sends(server, "evalsha", values.set_if_absent("v", &text)).await;
    let _ = sends(server, "evalsha", values.compare_and_swap("v", Some(&text), &text)).await;
    let _ = sends(server, "evalsha", values.compare_and_delete("v", &text)).await;
    let boards = Leaderboards::new(redis.clone(), HOUR).unwrap();
    let _ = sends(server, "evalsha", boards.add("board", "ada", 1.0)).await;
    let _ = sends(server, "evalsha", boards.add_best("board", "ada", 2.0)).await;
    let _ = sends(server, "evalsha", boards.increment("board", "ada", 2.0)).await;
    let _ = sends(server, "evalsha", boards.top("board", 5)).await;
    let _ = sends(server, "evalsha", boards.page("board", 1, 5)).await;
    let _ = sends(server, "evalsha", boards.standing("board", "ada")).await;
    let _ = sends(server, "evalsha", boards.rank("board", "ada")).await;
    let _ = sends(server, "evalsha", boards.around("board", "ada", 1, 1)).await;
    let _ = sends(server, "evalsha", boards.by_score("board", 0.0..=1.0, 9)).await;
    let _ = sends(server, "zcard", boards.count("board")).await;
    let _ = sends(server, "zrem", boards.remove("board", "ada")).await;
    let sessions = Sessions::new(redis, Raw, Lifetime::default()).unwrap();
    let id = sends(server, "evalsha", sessions.create(Some("ada"), &text)).await;
    let id = sends(server, "evalsha", sessions.rotate(&id)).await.unwrap();
    let name = id.name();
    let _ = sends(server, "evalsha", sessions.get(&id)).await;
    let _ = sends(server, "evalsha", sessions.touch(&id)).await;
    let _ = sends(server, "evalsha", sessions.save(&id, &text)).await;
    let _ = sends(server, "evalsha", sessions.list("ada")).await;
    let _ = sends(server, "evalsha", sessions.destroy_others("ada", &id)).await;
    let _ = sends(server, "evalsha", sessions.destroy_named("ada", name)).await;
    let _ = sends(server, "evalsha", sessions.destroy(&id)).await;
    let _ = sends(server, "evalsha", sessions.destroy_all("ada")).await;
}

#[tokio::test]
async fn every_key_has_a_ttl_and_no_id_is_stored() {
    let (server, redis) = up().await;
    let counters = Counters::new(redis.clone(), HOUR).unwrap();
    counters.set("{c}a", 5).await.unwrap();
    counters.add("{c}b", 1).await.unwrap();
    counters.transfer("{c}a", "{c}c", 1).await.unwrap().unwrap();
    Leaderboards::new(redis.clone(), HOUR).unwrap().increment("board", "ada", 1.0).await.unwrap();
    let values = Values::new(redis.clone(), Raw, HOUR).unwrap();
    values.get_and_set("v", &Bytes::from_static(b"x")).await.unwrap();
    let sessions = Sessions::new(redis, Raw, Lifetime::new(HOUR / 2, HOUR)).unwrap();
    let id = sessions.create(Some("ada"), &Bytes::from_static(b"x")).await.unwrap();
    let id = sessions.rotate(&id).await.unwrap().unwrap();
    let keys = server.cli(&["KEYS", "*"]).unwrap();
    assert_eq!(keys.lines().count(), 7, "{keys}");
    for key in keys.lines() {
        let left: i64 = server.cli(&["PTTL", key]).unwrap().parse().unwrap();
        let most = if key.starts_with("session") { HOUR / 2 } else { HOUR };
        assert!(left > 0 && left <= i64::try_from(most.as_millis()).unwrap(), "{key}: {left}");
        let kept = match &*server.cli(&["TYPE", key]).unwrap() {
            "hash" => server.cli(&["HGETALL", key]),
            "zset" => server.cli(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
            _ => server.cli(&["GET", key]),
        };
        assert!(!(kept.unwrap() + key).contains(&id.expose()[32..]), "the store holds a session's secret");
    }
}

#[tokio::test]
async fn sessions_whose_index_or_data_was_evicted_have_ended() {
    let (server, redis) = up().await;
    let sessions = Sessions::new(redis, Raw, Lifetime::default()).unwrap();
    for evicted in ["session:{*}", "session:{*}:data"] {
        let id = sessions.create(Some("ada"), &Bytes::from_static(b"old")).await.unwrap();
        let key = server.cli(&["KEYS", evicted]).unwrap();
        server.cli(&["DEL", &key]).unwrap();
        assert!(sessions.get(&id).await.unwrap().is_none());
        assert!(sessions.touch(&id).await.unwrap().is_none());
        assert!(sessions.list("ada").await.unwrap().is_empty());
        assert_eq!(sessions.destroy_all("ada").await.unwrap(), 0);
        // what remains of it is not prolonged by the next session
        let id = sessions.create(Some("ada"), &Bytes::from_static(b"new")).await.unwrap();
        let data = server.cli(&["KEYS", "session:{*}:data"]).unwrap();
        assert_eq!(server.cli(&["HLEN", &data]).unwrap(), "1");
        assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
        assert!(sessions.destroy(&id).await.unwrap());
        assert_eq!(server.cli(&["DBSIZE"]).unwrap(), "0");
    }
}

#[tokio::test]
async fn full_memory_changes_nothing_by_halves() {
    let (server, redis) = up().await;
    let counters = Counters::new(redis.clone(), HOUR).unwrap();
    counters.set("a", 5).await.unwrap();
    let sessions = Sessions::new(redis, Raw, Lifetime::default()).unwrap();
    let id = sessions.create(Some("ada"), &Bytes::from_static(b"x")).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    for full in [
        counters.add("new", 1).await.map(drop),
        counters.transfer("a", "b", 1).await.map(drop),
        counters.set("a", 6).await,
        sessions.create(Some("ada"), &Bytes::from_static(b"y")).await.map(drop),
        sessions.save(&id, &Bytes::from_static(b"y")).await.map(drop),
    ] {
        let full = full.unwrap_err();
        assert_eq!((full.kind(), full.reply()), (ErrorKind::Overloaded, Some(Reply::OutOfMemory)));
    }
    assert_eq!(server.cli(&["GET", "a"]).unwrap(), "5");
    assert_eq!(server.cli(&["DBSIZE"]).unwrap(), "3");
    assert!(sessions.touch(&id).await.unwrap().is_some(), "full memory logs nobody out");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
    assert!(sessions.destroy(&id).await.unwrap());
}

#[tokio::test]
async fn the_naive_increment_loses_digits_and_the_ttl() {
    let (server, redis) = up().await;
    let naive = "redis.call('SET',KEYS[1],tonumber(redis.call('GET',KEYS[1]) or '0')+tonumber(ARGV[1]))";
    let counters = Counters::new(redis, HOUR).unwrap();
    for (key, by) in [("naive", None), ("ours", Some(1))] {
        counters.set(key, 1_700_000_000_123_456).await.unwrap();
        match by {
            None => drop(server.cli(&["EVAL", naive, "1", key, "1"]).unwrap()),
            Some(by) => drop(counters.add(key, by).await.unwrap()),
        }
        let kept = (server.cli(&["GET", key]).unwrap(), server.cli(&["TTL", key]).unwrap() == "-1");
        let right = ("1700000000123457".to_owned(), false);
        assert_eq!(kept == right, by.is_some(), "{kept:?}");
    }
}
