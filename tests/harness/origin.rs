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

    /// The versions that a loader reads, all at one moment.
    pub(crate) async fn read(&self, keys: &[u16]) -> Result<Vec<u64>, redis::RedisError> {
        let versions: Vec<Option<u64>> = redis::cmd("MGET").arg(keys).query_async(&mut self.0.clone()).await?;
        Ok(versions.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Commits the next version of each key.
    pub(crate) async fn write(&self, keys: &[u16]) -> Result<Vec<u64>, redis::RedisError> {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for key in keys {
            transaction.cmd("INCR").arg(*key);
        }
        transaction.query_async(&mut self.0.clone()).await
    }
}
