//! The one door to the driver's own commands.

use std::io;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};

use crate::connect::{Failure, Link, Request};

/// A handle that the typed commands of the `redis` crate work on: hashes, lists, sorted sets, streams, scripts.
///
/// It has a supervised connection of its own, shared by all clones, so blocking commands and connection state such as
/// `SELECT` don't touch the cache's connections. That state is lost when the connection is rebuilt. Each command ends
/// within the timeout, which [`with_timeout`](Self::with_timeout) changes for this handle; a blocking command delays
/// every other raw command until the server has answered it. Keys are physical.
///
/// In a cluster a command goes to the owner of its first key, or to any primary if it has none; a pipeline's keys must
/// share a slot.
///
/// ```no_run
/// # async fn doc(redis: cache_redis::Redis) -> redis::RedisResult<()> {
/// use redis::AsyncCommands;
///
/// let mut raw = redis.raw();
/// let _: () = raw.hset("user:1", "name", "Ada").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Raw {
    link: Link,
    timeout: Duration,
}

impl Raw {
    pub(crate) fn new(link: Link) -> Self {
        let timeout = link.config().knobs.timeout;
        Self { link, timeout }
    }

    /// The same handle with another timeout for each command.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn send(&self, request: Request<'_>) -> Result<Value, RedisError> {
        self.link.raw(request, self.timeout).await.map_err(|failure| match failure {
            Failure::Driver(cause) => cause,
            Failure::Late | Failure::LateInPart => io::Error::from(io::ErrorKind::TimedOut).into(),
            Failure::Down(error) => io::Error::new(io::ErrorKind::NotConnected, error).into(),
        })
    }
}

impl ConnectionLike for Raw {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.send(Request::One(cmd)))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            match self.send(Request::Part { pipeline, offset, count }).await? {
                Value::Array(values) => Ok(values),
                value => Ok(vec![value]),
            }
        })
    }

    fn get_db(&self) -> i64 {
        i64::from(self.link.config().db)
    }
}
