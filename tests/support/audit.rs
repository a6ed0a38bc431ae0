//! Looks at a real server after a test.

use redis::aio::MultiplexedConnection;

/// Finds keys that a test left without a ttl.
#[derive(Clone)]
pub struct Audit(MultiplexedConnection);

impl Audit {
    /// An audit of the server at `url`.
    ///
    /// # Errors
    /// If it can't be reached.
    pub async fn connect(url: &str) -> redis::RedisResult<Self> {
        Ok(Self(redis::Client::open(url)?.get_multiplexed_async_connection().await?))
    }

    /// Whether every key with `part` in its name has a ttl.
    ///
    /// # Errors
    /// The keys that have none, or why they can't be looked at.
    pub async fn every_key_has_a_ttl(mut self, part: String) -> Result<(), String> {
        let mut without = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("*{part}*")).arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut self.0).await.map_err(|e| e.to_string())?;
            for key in keys {
                let ttl: i64 =
                    redis::cmd("PTTL").arg(&key).query_async(&mut self.0).await.map_err(|e| e.to_string())?;
                // -2 is a key that went meanwhile
                if ttl == -1 {
                    without.push(key);
                }
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        if without.is_empty() { Ok(()) } else { Err(format!("keys without a ttl: {without:?}")) }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audit")
    }
}
