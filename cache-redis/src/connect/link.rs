//! The connections of one server as one thing to send commands on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use redis::{Cmd, FromRedisValue, Pipeline, Value};

use super::handshake::Connector;
use super::lane::{Failure, Lane, Request};
use super::large::{self, LARGE, LargeKeys};
use super::subscriber::{self, Subscriber};
use super::tracker::{self, Tracker};
use crate::config::Config;
use crate::error;

/// A server's connections: small commands share one pipeline, large values take another, each subscription has its
/// own.
///
/// Cheap to clone. Every call ends within the configured timeout, and none is sent twice.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    commands: Box<[Lane]>,
    next: AtomicUsize,
    bulk: Lane,
    raw: Lane,
    large: LargeKeys,
}

impl Link {
    /// Connects once, failing fast; from then on the connections are kept up for ever.
    ///
    /// `scripts` are loaded into the server's script cache on every fresh connection before it is given out; a user
    /// without permission to do so is served without, so a caller must still handle `NOSCRIPT`.
    pub(crate) async fn connect(config: Config, scripts: &'static [&'static str]) -> Result<Self> {
        let connections = config.knobs.connections.max(1);
        let connector = Arc::new(Connector::new(config, scripts));
        let first = Lane::open(Arc::clone(&connector), "commands").await;
        let mut commands = vec![first.map_err(|error| error.with_operation("connect"))?];
        commands.resize_with(connections, || Lane::lazy(Arc::clone(&connector), "commands"));
        Ok(Self(Arc::new(Inner {
            commands: commands.into(),
            next: AtomicUsize::new(0),
            bulk: Lane::lazy(Arc::clone(&connector), "bulk"),
            raw: Lane::lazy(Arc::clone(&connector), "raw"),
            large: LargeKeys::new(),
            connector,
        })))
    }

    /// The configuration that the link was made from.
    pub(crate) fn config(&self) -> &Config {
        &self.0.connector.config
    }

    /// Sends one command. One round trip; ends within the configured timeout.
    pub(crate) async fn call<T: FromRedisValue>(&self, operation: &'static str, cmd: &Cmd) -> Result<T> {
        let key = large::key_hash(cmd);
        let large = large::size(cmd) > LARGE;
        self.route(operation, Request::One(cmd), key, large).await
    }

    /// Sends a pipeline. One round trip for all of it; ends within the configured timeout.
    ///
    /// The first server error among the replies is the call's error, unless the pipeline ignores errors.
    pub(crate) async fn pipe<T: FromRedisValue>(&self, operation: &'static str, pipe: &Pipeline) -> Result<T> {
        let key = pipe.cmd_iter().next().and_then(large::key_hash);
        let large = pipe.cmd_iter().map(large::size).sum::<usize>() > LARGE;
        self.route(operation, Request::Many(pipe), key, large).await
    }

    /// Identifies the run of the server behind the current command connection; changes on restart and failover,
    /// 0 if unknown. Costs nothing.
    pub(crate) fn run(&self) -> u64 {
        self.0.commands.first().map_or(0, Lane::run)
    }

    /// Whether the command connection is up.
    #[cfg(test)]
    pub(crate) fn is_up(&self) -> bool {
        self.0.commands.first().is_some_and(Lane::is_up)
    }

    /// Opens a subscription on a connection of its own; returns once every channel is confirmed.
    pub(crate) async fn subscribe(&self, channels: Vec<String>) -> Result<Subscriber> {
        subscriber::open(Arc::clone(&self.0.connector), channels).await
    }

    /// Asks for the names of all keys written under `prefixes`, on a connection of its own; returns once confirmed.
    pub(crate) async fn track(&self, prefixes: Vec<String>) -> Result<Tracker> {
        tracker::open(Arc::clone(&self.0.connector), prefixes).await
    }

    /// Whether the server refused RESP3, or was not to be asked for it.
    pub(crate) fn is_resp2(&self) -> bool {
        self.0.connector.is_resp2()
    }

    /// Sends over the connection that is kept for [`Raw`](crate::Raw), so that what its user does to the connection
    /// stays there.
    pub(crate) async fn raw(&self, request: Request<'_>, span: Duration) -> Result<Value, Failure> {
        self.0.raw.send(request, span).await
    }

    async fn route<T: FromRedisValue>(
        &self,
        operation: &'static str,
        request: Request<'_>,
        key: Option<u64>,
        large: bool,
    ) -> Result<T> {
        let inner = &*self.0;
        let bulk = large || key.is_some_and(|key| inner.large.holds(key));
        let lane = if bulk { Some(&inner.bulk) } else { inner.command() };
        let span = inner.connector.config.knobs.timeout;
        let answer = match lane {
            Some(lane) => lane.send(request, span).await,
            None => Err(Failure::Down(error::fault(ErrorKind::Closed, "no connection is configured"))),
        };
        let value = answer.map_err(|failure| explain(operation, failure, span))?;
        if let Some(key) = key {
            inner.large.note(key, large::is_large(&value));
        }
        redis::from_redis_value(value).map_err(|cause| error::map(operation, &cause.into()))
    }
}

impl Inner {
    fn command(&self) -> Option<&Lane> {
        match &*self.commands {
            [only] => Some(only),
            lanes => lanes.get(self.next.fetch_add(1, Ordering::Relaxed) % lanes.len().max(1)),
        }
    }
}

/// A lane's failure as an error of `operation`.
pub(crate) fn explain(operation: &'static str, failure: Failure, span: Duration) -> Error {
    match failure {
        Failure::Down(error) => error.with_operation(operation),
        Failure::Late => error::timeout(operation, span),
        Failure::Driver(cause) => error::map(operation, &cause),
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", self.config()).field("run", &self.run()).finish_non_exhaustive()
    }
}
