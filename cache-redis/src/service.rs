//! The contract on one server.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, Bus, CacheService, ErrorKind, Leases, Result, Sweep, check_key, check_ttl, check_value};
use futures_util::future::try_join_all;
use redis::{Pipeline, cmd};
use tokio::time::Instant;

use crate::command::Spare;
use crate::config::Config;
use crate::connect::{Link, Load, Read};
use crate::error::{STORE, fault};
use crate::health::Problem;
use crate::{Raw, RedisBuilder, script, tracking};

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
        let (parts, begun) = (self.link().parts(keys), Instant::now());
        let chunks = parts.iter().flat_map(|part| part.chunks(CHUNK)).map(|chunk| async move {
            let first = chunk.first().and_then(|i| keys.get(*i)).map_or(&[][..], AsRef::as_ref);
            let work = async {
                let mut command = cmd(verb);
                for key in chunk.iter().filter_map(|i| keys.get(*i)) {
                    command.arg(key.as_ref());
                }
                self.link().call::<u64>(operation, &command).await
            };
            self.link().paced(operation, first, Load { keys: chunk.len(), bytes: 0, begun }, work).await
        });
        Ok(try_join_all(chunks).await?.into_iter().sum())
    }

    pub(crate) fn plain_set(&self) -> &AtomicBool {
        &self.plain_set
    }
}

/// The writes of `entries` as pipelines of bounded size, each with its bytes of values.
fn pipes<'e>(entries: impl Iterator<Item = &'e (&'e str, Bytes)>, millis: u64) -> Vec<(Pipeline, usize)> {
    let mut pipes = Vec::new();
    let mut pipe = Pipeline::new();
    let mut bytes = 0;
    for (key, value) in entries {
        if pipe.len() == CHUNK || (bytes + value.len() > CHUNK_BYTES && !pipe.is_empty()) {
            pipes.push((std::mem::take(&mut pipe), std::mem::take(&mut bytes)));
        }
        bytes += value.len();
        pipe.cmd("SET").arg(*key).arg(&value[..]).arg("PX").arg(millis).ignore();
    }
    if !pipe.is_empty() {
        pipes.push((pipe, bytes));
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
        let (parts, begun) = (self.link().parts(keys), Instant::now());
        let chunks = parts.iter().flat_map(|part| part.chunks(CHUNK)).map(|chunk| async move {
            let first = chunk.first().and_then(|i| keys.get(*i)).map_or("", |key| *key);
            let work = async {
                let mut command = cmd("MGET");
                for key in chunk.iter().filter_map(|i| keys.get(*i)) {
                    command.arg(*key);
                }
                self.link().call("get_many", &command).await
            };
            let values: Vec<Option<Bytes>> = self
                .link()
                .paced("get_many", first.as_bytes(), Load { keys: chunk.len(), bytes: 0, begun }, work)
                .await?;
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
        let keys: &[&str] = &entries.iter().map(|(key, _)| *key).collect::<Vec<_>>();
        let (parts, begun) = (self.link().parts(keys), Instant::now());
        let all = try_join_all(parts.iter().map(|part| async move {
            let first = part.first().and_then(|i| keys.get(*i)).map_or("", |key| *key);
            // in order, so that the last of duplicate keys wins
            for (pipe, bytes) in pipes(part.iter().filter_map(|i| entries.get(*i)), millis) {
                let work = self.link().pipe("set_many", &pipe);
                let () = self
                    .link()
                    .paced("set_many", first.as_bytes(), Load { keys: pipe.len(), bytes, begun }, work)
                    .await?;
            }
            Ok(())
        }));
        all.await.map(drop)
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
