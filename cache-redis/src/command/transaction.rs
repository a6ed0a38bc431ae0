//! Optimistic transactions: read, decide, write all or nothing if nobody else wrote meanwhile.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Reply, Result, check_key};
use redis::Value as Driver;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout_at};

use super::pipeline::packed;
use super::spare::{Own, send};
use super::{Command, FromValue, Value};
use crate::Redis;
use crate::connect::explain;
use crate::error::{STORE, fault, server, unexpected};

/// A transaction in the making.
#[derive(Debug)]
#[must_use = "a transaction does nothing until run"]
pub struct Transaction<'a> {
    redis: &'a Redis,
    watched: Vec<String>,
    attempts: u32,
    within: Duration,
}

/// What came of a transaction.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the last attempt returned.
    pub value: T,
    /// The replies to what was queued, in order. A command that met a key of another kind has its error here; a server
    /// does the others all the same.
    pub replies: Vec<Result<Value>>,
    /// How many attempts it took.
    pub attempts: u32,
}

/// One attempt: what is read now, and what is queued to be written at its end.
#[derive(Clone)]
pub struct Attempt(Arc<Inner>);

struct Inner {
    redis: Redis,
    connection: Option<MultiplexedConnection>,
    queue: Mutex<Vec<Command>>,
    over: AtomicBool,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("over", &self.0.over.load(Ordering::Acquire)).finish_non_exhaustive()
    }
}

fn over() -> Error {
    fault(ErrorKind::Closed, "the attempt is over; read and queue before its closure ends")
        .with_operation("transaction")
}

fn named(error: Error) -> Error {
    error.with_operation("transaction").with_store(STORE)
}

impl Attempt {
    /// Sends a command now, mostly one that reads. One round trip. A key that was read and is not watched may change
    /// unnoticed.
    ///
    /// # Errors
    /// As [`Redis::command`]; `Closed` once the attempt is over.
    pub async fn read<T: FromValue>(&self, command: Command) -> Result<T> {
        let inner = &*self.0;
        if inner.over.load(Ordering::Acquire) {
            return Err(over());
        }
        let pipe = packed(&inner.redis, std::slice::from_ref(&command)).map_err(named)?;
        let span = inner.redis.link().config().knobs.timeout;
        let replies = send(inner.connection.clone(), &pipe, span).await;
        let replies = replies.map_err(|failure| explain("transaction", failure, span))?;
        let [reply] = <[Driver; 1]>::try_from(replies).map_err(|_| unexpected("transaction"))?;
        T::from_value(Value::of(reply, "transaction"))
    }

    /// Queues a command; it is done at the end, with all others that are queued, if no watched key was written
    /// meanwhile.
    ///
    /// # Errors
    /// `Invalid` for a bad key or a command that is refused; `Closed` once the attempt is over.
    pub fn queue(&self, command: Command) -> Result<()> {
        command.check().map_err(named)?;
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.over.load(Ordering::Acquire) {
            return Err(over());
        }
        queue.push(command);
        Ok(())
    }

    /// Ends it; what was queued.
    fn end(&self) -> Vec<Command> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.over.store(true, Ordering::Release);
        std::mem::take(&mut queue)
    }
}

/// How an attempt ended.
enum End<T> {
    Done(T, Vec<Result<Value>>),
    /// A watched key was written.
    Beaten,
    /// Another server has the keys.
    Elsewhere(Error),
}

impl Transaction<'_> {
    /// The most attempts, each after somebody else wrote a watched key. Default 10.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The deadline of all attempts together. Default 5 s.
    pub fn within(mut self, span: Duration) -> Self {
        self.within = span;
        self
    }

    /// Runs `body` until it commits. Each attempt watches the keys, calls `body`, which reads and queues, and then does all
    /// that was queued as one step, unless a watched key was written since it was watched: then it is tried again, after a
    /// short random wait. Nothing that was queued is done by an attempt that is given up, so the
    /// body should do nothing else that can't be done twice.
    ///
    /// Round trips: one to watch, one for each read, one to commit. The connection is its own, and kept for the next.
    /// Dropped before the commit is sent nothing is done; after that it may be.
    ///
    /// # Errors
    /// What `body` returns: nothing was written then. `Conflict` after the last attempt, `Timeout` when the deadline has
    /// passed, `Invalid` for bad keys, keys of different slots, no attempts; what the server says: `Other` if it refuses
    /// a queued command, and nothing was written.
    pub async fn run<T, E, F>(self, mut body: impl FnMut(Attempt) -> F + Send) -> Result<Committed<T>, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>> + Send,
        T: Send,
    {
        let Self { redis, watched, attempts, within } = self;
        watched.iter().try_for_each(|key| check_key(key)).map_err(named)?;
        redis.link().together(watched.iter().map(String::as_str)).map_err(named)?;
        if attempts == 0 || within.is_zero() || within > Duration::from_secs(3600) {
            let text = "a transaction has one attempt at least, and from a moment to one hour";
            return Err(named(fault(ErrorKind::Invalid, text)).into());
        }
        let deadline = Instant::now() + within;
        let late = || {
            let text = format!("no commit within {} ms; whether the last one was done is unknown", within.as_millis());
            E::from(named(fault(ErrorKind::Timeout, text)))
        };
        let mut elsewhere = None;
        for attempt in 1..=attempts {
            let once = Self::once(redis, &watched, &mut body);
            match timeout_at(deadline, once).await.map_err(|_| late())?? {
                End::Done(value, replies) => return Ok(Committed { value, replies, attempts: attempt }),
                End::Beaten => {}
                End::Elsewhere(error) => elsewhere = Some(error),
            }
            if attempt < attempts {
                // the more have met here, the further apart they go
                let most = Duration::from_millis(2) * (1 << attempt.min(6));
                let wait = most.mul_f64(fastrand::f64());
                timeout_at(deadline, sleep(wait)).await.map_err(|_| late())?;
            }
        }
        let text = format!("the watched keys were written by others in each of {attempts} attempts");
        Err(elsewhere.unwrap_or_else(|| named(fault(ErrorKind::Conflict, text))).into())
    }

    async fn once<T, E, F>(
        redis: &Redis,
        watched: &[String],
        body: &mut (impl FnMut(Attempt) -> F + Send),
    ) -> Result<End<T>, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>> + Send,
    {
        let span = redis.link().config().knobs.timeout;
        let (connector, endpoint) = redis.link().home(watched.first().map(String::as_str)).map_err(named)?;
        let own = redis.spare().take(&connector, endpoint.as_ref()).await.map_err(named)?;
        if !watched.is_empty() {
            let mut watch = redis::Pipeline::new();
            watch.ignore_errors().cmd("WATCH").arg(watched);
            let replies = Self::sent(redis, &own, &watch, span).await?;
            if let Some(error) = replies.into_iter().find_map(|reply| refusal(&reply)) {
                return moved(redis, error).map_err(E::from);
            }
        }
        let attempt = Attempt(Arc::new(Inner {
            redis: redis.clone(),
            connection: own.connection(),
            queue: Mutex::default(),
            over: AtomicBool::new(false),
        }));
        let decided = body(attempt.clone()).await;
        let queued = attempt.end();
        let Ok(value) = decided else {
            // closing the connection would end the watch as well, and cost the next one a handshake
            let mut unwatch = redis::Pipeline::new();
            unwatch.ignore_errors().cmd("UNWATCH");
            if Self::sent(redis, &own, &unwatch, span).await.is_ok() {
                own.give_back();
            }
            return decided.map(|value| End::Done(value, Vec::new()));
        };
        // without a command it still tells whether what was read stood
        let mut pipe = redis::Pipeline::with_capacity(queued.len() + 2);
        pipe.ignore_errors().cmd("MULTI");
        packed(redis, &queued).map_err(named)?;
        let together = watched.iter().map(String::as_str).chain(queued.iter().flat_map(Command::keys));
        redis.link().together(together).map_err(named)?;
        for command in &queued {
            pipe.add_command(command.packed());
        }
        pipe.cmd("EXEC");
        let mut replies = Self::sent(redis, &own, &pipe, span).await?;
        match replies.pop() {
            Some(Driver::Nil) => {
                own.give_back();
                Ok(End::Beaten)
            }
            Some(Driver::Array(done)) if done.len() == queued.len() => {
                own.give_back();
                Ok(End::Done(value, done.into_iter().map(|reply| Value::of(reply, "transaction").checked()).collect()))
            }
            Some(reply) => {
                // the reason stands before the refusal of the whole
                let reason = replies.iter().find_map(refusal).or_else(|| refusal(&reply));
                moved(redis, reason.unwrap_or_else(|| unexpected("transaction"))).map_err(E::from)
            }
            None => Err(unexpected("transaction").into()),
        }
    }

    async fn sent(redis: &Redis, own: &Own, pipe: &redis::Pipeline, span: Duration) -> Result<Vec<Driver>> {
        send(own.connection(), pipe, span).await.map_err(|failure| {
            // its siblings may be as broken
            redis.spare().clear();
            explain("transaction", failure, span)
        })
    }
}

/// The error in a reply.
fn refusal(reply: &Driver) -> Option<Error> {
    match reply {
        Driver::ServerError(error) => Some(named(server(error.code(), error.details().unwrap_or("")))),
        _ => None,
    }
}

/// Whether an error means that another server is to be asked.
fn moved<T>(redis: &Redis, error: Error) -> Result<End<T>> {
    match error.reply() {
        Some(Reply::Moved | Reply::Ask | Reply::TryAgain | Reply::ClusterDown | Reply::ReadOnly) => {
            redis.spare().clear();
            redis.link().doubt();
            Ok(End::Elsewhere(error))
        }
        _ => Err(error),
    }
}

impl Redis {
    /// A transaction that watches `keys`: it commits only if nobody else writes one of them meanwhile. In a cluster they
    /// share a slot with everything that is queued.
    ///
    /// ```no_run
    /// # async fn doc(redis: cache_redis::Redis) -> cache_core::Result<()> {
    /// use cache_redis::Command;
    ///
    /// redis
    ///     .transaction(["{account}:a", "{account}:b"])
    ///     .run(|attempt| async move {
    ///         let cents: Option<i64> = attempt.read(Command::new("GET").key("{account}:a")).await?;
    ///         if cents.unwrap_or(0) >= 100 {
    ///             attempt.queue(Command::new("DECRBY").key("{account}:a").arg(100))?;
    ///             attempt.queue(Command::new("INCRBY").key("{account}:b").arg(100))?;
    ///         }
    ///         Ok::<_, cache_core::Error>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transaction<K: Into<String>>(&self, keys: impl IntoIterator<Item = K>) -> Transaction<'_> {
        let watched = keys.into_iter().map(Into::into).collect();
        Transaction { redis: self, watched, attempts: 10, within: Duration::from_secs(5) }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
