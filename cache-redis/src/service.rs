//! The contract on one server.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, Bus, CacheService, ErrorKind, Leases, Result, Sweep, check_key, check_ttl, check_value};
use futures_util::future::try_join_all;
use redis::{Pipeline, cmd};
use tokio::time::timeout;

use crate::command::Spare;
use crate::config::Config;
use crate::connect::{Link, Read};
use crate::error::{STORE, fault};
use crate::health::Problem;
use crate::{Raw, RedisBuilder, error, script, tracking};

/// The most keys in one `MGET` or `DEL`, and the most commands in one pipeline.
const CHUNK: usize = 256;
/// A pipeline of writes is cut after this many bytes of values.
const CHUNK_BYTES: usize = 256 * 1024;

/// A cache on a Redis, Valkey or Dragonfly server, on the primary that sentinels name, or on a cluster.
///
/// A handle: clones share the same connections. The last one dropped closes them.
#[derive(Clone, Debug)]
pub struct Redis {
    link: Link,
    max_value: usize,
    /// The server was found to know no `SET` with `NX` and `GET`.
    plain_set: Arc<AtomicBool>,
    spare: Arc<Spare>,
    /// What was wrong at connect.
    noticed: Arc<[Problem]>,
    #[cfg(feature = "recipe")]
    hub: Arc<crate::recipe::Hub>,
}

impl Redis {
    /// Connects to the server at `url`; [`RedisBuilder::url`] lists the forms.
    ///
    /// # Errors
    /// `Config` for a mistake in the url, `Unavailable` if nothing answers, `Denied` if the credentials are wrong.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url).connect().await
    }

    /// Connects as the environment says; [`RedisBuilder::env`] lists the variables.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_env() -> Result<Self> {
        Self::builder().env().connect().await
    }

    /// A builder without any setting.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// The driver's own commands on a connection of their own; the one place where the `redis` crate's types show.
    #[must_use]
    pub fn raw(&self) -> Raw {
        Raw::new(self.link.clone())
    }

    pub(crate) async fn open(config: Config) -> Result<Self> {
        let max_value = config.knobs.max_value;
        let link = Link::connect(config, script::BODIES).await?;
        tracking::check(&link).await?;
        let mut redis = Self {
            link,
            max_value,
            plain_set: Arc::default(),
            spare: Arc::default(),
            noticed: Arc::default(),
            #[cfg(feature = "recipe")]
            hub: Arc::default(),
        };
        redis.noticed = redis.look_around().await.into();
        Ok(redis)
    }

    #[cfg(feature = "recipe")]
    pub(crate) fn hub(&self) -> &crate::recipe::Hub {
        &self.hub
    }

    pub(crate) fn noticed(&self) -> &[Problem] {
        &self.noticed
    }

    pub(crate) fn spare(&self) -> &Spare {
        &self.spare
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Removes `keys` by `verb`, parted as one command may take them; how many there were.
    pub(crate) async fn remove<K>(&self, operation: &'static str, verb: &'static str, keys: &[K]) -> Result<u64>
    where
        K: AsRef<[u8]> + Sync,
    {
        let parts = self.link().parts(keys);
        let chunks = parts.iter().flat_map(|part| part.chunks(CHUNK)).map(|chunk| async move {
            let mut command = cmd(verb);
            for key in chunk.iter().filter_map(|i| keys.get(*i)) {
                command.arg(key.as_ref());
            }
            self.link().call::<u64>(operation, &command).await
        });
        Ok(try_join_all(chunks).await?.into_iter().sum())
    }

    pub(crate) fn plain_set(&self) -> &AtomicBool {
        &self.plain_set
    }
}

/// The writes of `entries` as pipelines of bounded size.
fn pipes<'e>(entries: impl Iterator<Item = &'e (&'e str, Bytes)>, millis: u64) -> Vec<Pipeline> {
    let mut pipes = Vec::new();
    let mut pipe = Pipeline::new();
    let mut bytes = 0;
    for (key, value) in entries {
        if pipe.len() == CHUNK || (bytes + value.len() > CHUNK_BYTES && !pipe.is_empty()) {
            pipes.push(std::mem::take(&mut pipe));
            bytes = 0;
        }
        bytes += value.len();
        pipe.cmd("SET").arg(*key).arg(&value[..]).arg("PX").arg(millis).ignore();
    }
    if !pipe.is_empty() {
        pipes.push(pipe);
    }
    pipes
}

pub(crate) fn checked(key: &str, operation: &'static str) -> Result<()> {
    check_key(key).map_err(|error| error.with_operation(operation).with_store(STORE))
}

pub(crate) fn millis(ttl: Duration, operation: &'static str) -> Result<u64> {
    check_ttl(ttl).map_err(|error| error.with_operation(operation).with_store(STORE))
}

pub(crate) fn sized(len: usize, max: usize, operation: &'static str) -> Result<()> {
    check_value(len, max).map_err(|error| error.with_operation(operation).with_store(STORE))
}

#[async_trait]
impl CacheService for Redis {
    fn name(&self) -> &'static str {
        STORE
    }

    fn max_value(&self) -> usize {
        self.max_value
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        checked(key, "get")?;
        self.link().read("get", Read::Value(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        checked(key, "set")?;
        let millis = millis(ttl, "set")?;
        sized(value.len(), self.max_value, "set")?;
        self.link().call("set", cmd("SET").arg(key).arg(&value[..]).arg("PX").arg(millis)).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        checked(key, "delete")?;
        self.link().call("delete", cmd("DEL").arg(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        checked(key, "exists")?;
        self.link().call("exists", cmd("EXISTS").arg(key)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        for key in keys {
            checked(key, "get_many")?;
        }
        let parts = self.link().parts(keys);
        let chunks = parts.iter().flat_map(|part| part.chunks(CHUNK)).map(|chunk| async move {
            let mut command = cmd("MGET");
            for key in chunk.iter().filter_map(|i| keys.get(*i)) {
                command.arg(*key);
            }
            let values: Vec<Option<Bytes>> = self.link().call("get_many", &command).await?;
            if values.len() == chunk.len() {
                return Ok((chunk, values));
            }
            let text = format!("{} values came for {} keys", values.len(), chunk.len());
            Err(fault(ErrorKind::Other, text).with_operation("get_many"))
        });
        let mut all = vec![None; keys.len()];
        for (chunk, values) in try_join_all(chunks).await? {
            for (i, value) in chunk.iter().zip(values) {
                if let Some(place) = all.get_mut(*i) {
                    *place = value;
                }
            }
        }
        Ok(all)
    }

    async fn set_many(&self, entries: &[(&str, Bytes)], ttl: Duration) -> Result<()> {
        let millis = millis(ttl, "set_many")?;
        for (key, value) in entries {
            checked(key, "set_many")?;
            sized(value.len(), self.max_value, "set_many")?;
        }
        let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
        let parts = self.link().parts(&keys);
        let all = try_join_all(parts.iter().map(|part| async move {
            // in order, so that the last of duplicate keys wins
            for pipe in pipes(part.iter().filter_map(|i| entries.get(*i)), millis) {
                let () = self.link().pipe("set_many", &pipe).await?;
            }
            Ok(())
        }));
        let span = self.link().config().knobs.timeout;
        timeout(span, all).await.unwrap_or_else(|_| Err(error::timeout("set_many", span))).map(drop)
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        for key in keys {
            checked(key, "delete_many")?;
        }
        self.remove("delete_many", "DEL", keys).await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        Some(self)
    }
}
