//! The origin of a history: a counter a key, on a server of its own, so that every value is a version.

use std::time::Duration;

use anyhow::Result;
use redis::aio::MultiplexedConnection;

/// The database of a history.
#[derive(Clone)]
pub(crate) struct Origin(MultiplexedConnection);

impl Origin {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
        let client = redis::Client::open(url)?;
        Ok(Self(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// The version that a loader reads.
    pub(crate) async fn read(&self, key: u16) -> Result<u64, redis::RedisError> {
        let version: Option<u64> = redis::cmd("GET").arg(key).query_async(&mut self.0.clone()).await?;
        Ok(version.unwrap_or(0))
    }

    /// Commits the next version.
    pub(crate) async fn write(&self, key: u16) -> Result<u64, redis::RedisError> {
        redis::cmd("INCR").arg(key).query_async(&mut self.0.clone()).await
    }
}
