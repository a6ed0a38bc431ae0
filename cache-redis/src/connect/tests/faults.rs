//! What connections do when servers go away.

use std::time::{Duration, Instant};

use cache_core::{CacheService, ErrorKind};

use super::until;
use crate::Redis;
use crate::testkit::Server;

const TTL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn comes_back_after_a_kill_and_a_restart_on_the_same_port() {
    let mut server = Server::spawn().unwrap();
    let redis = Redis::connect(server.url()).await.unwrap();
    redis.set("a", "1".into(), TTL).await.unwrap();
    assert_eq!(redis.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    let run = redis.link().run();
    assert_ne!(run, 0);

    server.kill();
    let began = Instant::now();
    let error = redis.get("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());

    server.restart().unwrap();
    until("the connection is back", || async { redis.get("a").await.is_ok() }).await;
    redis.set("a", "2".into(), TTL).await.unwrap();
    assert_ne!(redis.link().run(), run, "another run of the server");
}
