//! The handle, and [`CacheService`] over it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, Bus, CacheService, Error, Leases, Result, Sweep, check_key, check_ttl, check_value};
use tokio::time::Instant;

use crate::MemcachedBuilder;
use crate::builder::Config;
use crate::error::{self, NAME};
use crate::item::Slot;
use crate::lane::Lane;
use crate::reply::Reply;
use crate::request::{Request, When};
use crate::time::Time;

/// How many commands go out together at most.
const CHUNK: usize = 500;
/// What an item takes beside its value, with room to spare.
const OVERHEAD: usize = 1024;

/// A far store on one memcached server, 1.6.9 or newer.
///
/// Clones share the connections. Every call ends within the `timeout`; a lost connection is made anew by the next
/// call. Calls are pipelined: many at once cost one another nothing.
///
/// What the protocol allows, and what it doesn't:
///
/// * **Leases and atomic values**: by compare-and-swap, so most take two round trips instead of one.
/// * **Bus**: changes are numbered, and the beat tells the number; there are no messages. Build the cache with
///   `.polling()`. A change removes its keys first and then takes its number: not one atomic step, but no change is
///   acknowledged before its number shows.
/// * **Ttls** below 12 days are kept to the millisecond, by the clocks of the clients; longer ones to two seconds. A
///   client's clock that is off by more than two seconds is corrected by the server's.
/// * **Keys** over 250 bytes stand under their SHA-256; so there is no `sweep`.
/// * **Counters** are text like any value; memcached's own `incr` does not know our negative numbers.
/// * **Memory**: memcached drops what it likes when it is full. A dropped sequence or tag record is noticed, and near
///   entries are then put to the test.
/// * **Servers**: one. Keys are not spread over many, and there is no TLS.
#[derive(Clone)]
pub struct Memcached(Arc<Shared>);

struct Shared {
    config: Arc<Config>,
    lanes: Vec<Lane>,
    turn: AtomicUsize,
    max_value: usize,
    time: Time,
}

/// The deadline that all round trips of a call share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    deadline: Instant,
}

impl Memcached {
    /// Connects to the server at `url`, `memcached://host:11211`; see [`MemcachedBuilder`] for its options.
    ///
    /// # Errors
    /// As [`MemcachedBuilder::connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url).connect().await
    }

    /// A builder with every default.
    pub fn builder() -> MemcachedBuilder {
        MemcachedBuilder::default()
    }

    pub(crate) async fn open(config: Arc<Config>) -> Result<Self> {
        let time = Time::new(config.clock.clone());
        let lanes: Vec<Lane> = (0..config.connections).map(|_| Lane::new(Arc::clone(&config))).collect();
        let mut shared = Shared { max_value: config.max_value, config, lanes, turn: AtomicUsize::new(0), time };
        let asked = shared.fit().await.map_err(|error| error.with_operation("connect").with_store(NAME))?;
        shared.max_value = shared.max_value.min(asked);
        Ok(Self(Arc::new(shared)))
    }

    pub(crate) fn time(&self) -> &Time {
        &self.0.time
    }

    /// A deadline for a call that begins now.
    pub(crate) fn attempt(&self) -> Attempt {
        self.0.attempt()
    }

    /// Runs one call under its deadline; its errors say which it was.
    pub(crate) async fn run<T>(
        &self,
        operation: &'static str,
        call: impl AsyncFnOnce(Attempt) -> Result<T> + Send,
    ) -> Result<T> {
        call(self.attempt()).await.map_err(|error| named(error, operation))
    }

    /// The answers to as many commands.
    pub(crate) async fn ask<const N: usize>(&self, request: Request, attempt: Attempt) -> Result<[Reply; N]> {
        self.0.ask(request, attempt).await
    }

    /// The answers to any number of commands.
    pub(crate) async fn ask_all(&self, request: Request, attempt: Attempt) -> Result<Vec<Reply>> {
        self.0.lane().call(request, attempt.deadline).await
    }

    /// Removes `keys`; how many were there, by the time that they had left.
    pub(crate) async fn remove_all(&self, keys: &[&str], attempt: Attempt) -> Result<u64> {
        let mut removed = 0;
        for chunk in keys.chunks(CHUNK) {
            let request = chunk.iter().fold(Request::default(), |request, key| request.head(key).delete(key, None));
            removed += self.count_removed(self.ask_all(request, attempt).await?)?;
        }
        Ok(removed)
    }

    /// How many were removed, by the answers to pairs of `head` and `delete`.
    fn count_removed(&self, replies: Vec<Reply>) -> Result<u64> {
        let mut removed = 0;
        let mut replies = replies.into_iter();
        while let (Some(head), Some(deleted)) = (replies.next(), replies.next()) {
            // what was over is deleted too, but was not there; what came in between the two was
            let over = matches!(self.slot(head)?, Slot::Over(_));
            match deleted {
                Reply::Done(_) => removed += u64::from(!over),
                Reply::Refused(error) => return Err(error),
                _ => {}
            }
        }
        Ok(removed)
    }
}

impl Shared {
    fn attempt(&self) -> Attempt {
        Attempt { deadline: Instant::now() + self.config.timeout }
    }

    fn lane(&self) -> &Lane {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // there is at least one
        &self.lanes[turn % self.lanes.len()]
    }

    async fn ask<const N: usize>(&self, request: Request, attempt: Attempt) -> Result<[Reply; N]> {
        let replies = self.lane().call(request, attempt.deadline).await?;
        replies.try_into().map_err(|_| error::garbled("answers are missing"))
    }

    /// The largest value that the server takes.
    async fn fit(&self) -> Result<usize> {
        // making the connection is under its own deadline
        let deadline = Instant::now() + self.config.connect_timeout + self.config.timeout;
        let request = Request::default().nothing().stats("settings").stats("");
        let replies = self.ask(request, Attempt { deadline }).await?;
        let [Reply::Done(_), Reply::Stats(settings), Reply::Stats(facts)] = replies else {
            let refused = replies.into_iter().find_map(|reply| match reply {
                Reply::Refused(error) if error.reply().is_some() => Some(error),
                _ => None,
            });
            let old = "the server has no meta commands; use memcached 1.6.9 or newer";
            return Err(refused.unwrap_or_else(|| error::config(old)));
        };
        if value(&settings, "cas_enabled") == Some("no") {
            return Err(error::config("the server was started with -C, without compare-and-swap; start it without"));
        }
        if let Some(seconds) = value(&facts, "time").and_then(|text| text.parse().ok()) {
            self.time.learn(seconds);
        }
        let largest = value(&settings, "item_size_max").and_then(|text| text.parse::<usize>().ok());
        Ok(largest.unwrap_or(1 << 20).saturating_sub(OVERHEAD))
    }
}

/// The value of a statistic.
pub(crate) fn value<'a>(stats: &'a [(String, String)], name: &str) -> Option<&'a str> {
    stats.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

pub(crate) fn named(error: Error, operation: &'static str) -> Error {
    error.with_operation(operation).with_store(NAME)
}

/// That a value was stored.
pub(crate) fn stored(reply: Reply) -> Result<()> {
    match reply {
        Reply::Done(_) => Ok(()),
        Reply::Refused(error) => Err(error),
        _ => Err(error::garbled("no answer to a store")),
    }
}

#[async_trait]
impl CacheService for Memcached {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_value(&self) -> usize {
        self.0.max_value
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.run("get", async |attempt| {
            check_key(key)?;
            Ok(self.look(key, attempt).await?.live().map(|item| item.value))
        })
        .await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.run("set", async |attempt| {
            check_key(key)?;
            check_value(value.len(), self.max_value())?;
            let expiry = self.time().expiry(check_ttl(ttl)?);
            let [reply] = self.ask(Request::default().set(key, &value, expiry, When::Always), attempt).await?;
            stored(reply)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.run("delete", async |attempt| {
            check_key(key)?;
            Ok(self.remove_all(&[key], attempt).await? == 1)
        })
        .await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.run("exists", async |attempt| {
            check_key(key)?;
            let [reply] = self.ask(Request::default().head(key), attempt).await?;
            Ok(self.slot(reply)?.live().is_some())
        })
        .await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.run("get_many", async |attempt| {
            keys.iter().try_for_each(|key| check_key(key))?;
            let mut values = Vec::with_capacity(keys.len());
            for chunk in keys.chunks(CHUNK) {
                let request = chunk.iter().fold(Request::default(), |request, key| request.get(key));
                for reply in self.ask_all(request, attempt).await? {
                    values.push(self.slot(reply)?.live().map(|item| item.value));
                }
            }
            Ok(values)
        })
        .await
    }

    async fn set_many(&self, entries: &[(&str, Bytes)], ttl: Duration) -> Result<()> {
        self.run("set_many", async |attempt| {
            let expiry = self.time().expiry(check_ttl(ttl)?);
            for (key, value) in entries {
                check_key(key)?;
                check_value(value.len(), self.max_value())?;
            }
            for chunk in entries.chunks(CHUNK) {
                let request = chunk
                    .iter()
                    .fold(Request::default(), |request, (key, value)| request.set(key, value, expiry, When::Always));
                self.ask_all(request, attempt).await?.into_iter().try_for_each(stored)?;
            }
            Ok(())
        })
        .await
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        self.run("delete_many", async |attempt| {
            keys.iter().try_for_each(|key| check_key(key))?;
            self.remove_all(keys, attempt).await
        })
        .await
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
        None
    }
}

impl fmt::Debug for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcached").field("config", &self.0.config).field("max_value", &self.0.max_value).finish()
    }
}
