use cache_core::{ErrorKind, Reply, Sweep};
use redis::AsyncCommands;

use super::*;
use crate::testkit::Server;

const HOUR: Duration = Duration::from_secs(3600);

async fn up() -> (Server, Redis) {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    (server, redis)
}

#[tokio::test]
async fn sums_have_all_64_bits_and_only_a_new_counter_gets_the_ttl() {
    let (server, redis) = up().await;
    assert_eq!(redis.add("n", i64::MAX - 1, HOUR).await.unwrap(), i64::MAX - 1);
    assert_eq!(redis.add("n", 1, HOUR * 5).await.unwrap(), i64::MAX);
    assert!(redis.raw().pttl::<_, u64>("n").await.unwrap() <= 3_600_000);
    let over = redis.add("n", 1, HOUR).await.unwrap_err();
    assert_eq!((over.kind(), server.cli(&["GET", "n"]).unwrap()), (ErrorKind::Conflict, i64::MAX.to_string()));
    assert_eq!(redis.add("m", i64::MIN, HOUR).await.unwrap(), i64::MIN);
    for text in ["", "x", "1.5", " 1", "9223372036854775808"] {
        server.cli(&["SET", "t", text]).unwrap();
        assert_eq!(redis.add("t", 1, HOUR).await.unwrap_err().kind(), ErrorKind::Conflict, "{text:?}");
        assert_eq!(server.cli(&["GET", "t"]).unwrap(), text);
    }
    server.cli(&["RPUSH", "l", "x"]).unwrap();
    let list = redis.add("l", 1, HOUR).await.unwrap_err();
    assert_eq!((list.kind(), list.reply()), (ErrorKind::Conflict, Some(Reply::WrongType)));
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(redis.add("new", 1, HOUR).await.unwrap_err().reply(), Some(Reply::OutOfMemory));
    assert_eq!(server.cli(&["EXISTS", "new"]).unwrap(), "0");
}

#[tokio::test]
async fn a_prefix_is_taken_literally() {
    let (server, redis) = up().await;
    let odd = ["a*:1", "a?:1", "a[b]:1", "a\\:1", "a[^b]:1", "\u{e4}:1"];
    for key in odd {
        server.cli(&["SET", key, "x"]).unwrap();
        server.cli(&["SET", &format!("{key}2"), "x"]).unwrap();
    }
    for i in 0..3_000 {
        server.cli(&["SET", &format!("ab:{i}"), "x"]).unwrap();
    }
    for key in odd {
        let prefix = key.strip_suffix('1').unwrap();
        let mut found = redis.keys(prefix).await.unwrap();
        found.sort();
        assert_eq!(found, [key.to_owned(), format!("{key}2")]);
        assert_eq!(redis.clear(prefix).await.unwrap(), 2);
    }
    let () = redis.raw().set(b"ab:\xff", "x").await.unwrap();
    assert_eq!(redis.keys("ab:").await.unwrap().len(), 3_000);
    assert_eq!(redis.clear("ab:").await.unwrap(), 3_001);
    assert_eq!(server.cli(&["DBSIZE"]).unwrap(), "0");
}
