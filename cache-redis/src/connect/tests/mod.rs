//! Connections against real servers.

mod cluster;
mod faults;
mod first;
mod lanes;
mod lists;
mod reads;
mod sentinel;
mod silence;
mod subscriber;
mod tls;

use std::time::{Duration, Instant};

use crate::{Redis, RedisBuilder};

const TTL: Duration = Duration::from_secs(60);

/// A first connection within `builder`'s own short deadlines, for which a machine that is held up may need some attempts.
async fn connected(builder: RedisBuilder) -> Redis {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match builder.clone().connect().await {
            Ok(redis) => return redis,
            Err(error) => assert!(error.is_transient() && Instant::now() < end, "{error}"),
        }
    }
}

/// Waits until `condition` holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The server's number for the command connection; 0 while there is none.
async fn client_id(redis: &Redis) -> u64 {
    redis.link().call("test", redis::cmd("CLIENT").arg("ID")).await.unwrap_or(0)
}
