//! The connections of one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::{ErrorKind, Result};
use redis::{Cmd, Pipeline, Value};

use super::handshake::Connector;
use super::lane::Lane;
use super::large::{self, LARGE, LargeKeys};
use super::pace::Pace;
use super::reads::{self, Read, Reads};
use super::request::{Failure, Request};
use crate::error;

/// A server's connections: small commands share one pipeline, large values take another, raw commands a third.
#[derive(Debug)]
pub(crate) struct Node {
    connector: Arc<Connector>,
    commands: Box<[Lane]>,
    next: AtomicUsize,
    bulk: Lane,
    raw: Lane,
    large: LargeKeys,
    reads: Reads,
    pace: Pace,
}

/// What goes to a server in one round trip, and over which of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) request: Request<'a>,
    key: Option<u64>,
    large: bool,
    raw: bool,
}

impl<'a> Parcel<'a> {
    pub(crate) fn one(cmd: &'a Cmd) -> Self {
        let large = large::size(cmd) > LARGE;
        Self { request: Request::One(cmd), key: large::key_hash(cmd), large, raw: false }
    }

    pub(crate) fn many(pipe: &'a Pipeline) -> Self {
        let key = pipe.cmd_iter().next().and_then(large::key_hash);
        let large = pipe.cmd_iter().map(large::size).sum::<usize>() > LARGE;
        Self { request: Request::Many(pipe), key, large, raw: false }
    }

    /// Over the connection that is kept for [`Raw`](crate::Raw).
    pub(crate) fn raw(request: Request<'a>) -> Self {
        Self { request, key: None, large: false, raw: true }
    }

    /// Of many reads, whose sizes are noted one by one.
    pub(super) fn joined(request: Request<'a>) -> Self {
        Self { request, key: None, large: false, raw: false }
    }

    /// The same way for another form of the request.
    pub(crate) fn with(self, request: Request<'_>) -> Parcel<'_> {
        Parcel { request, key: self.key, large: self.large, raw: self.raw }
    }
}

/// How a request ended, and the run of the server that it was sent to; 0 if unknown.
pub(crate) type Outcome = (Result<Value, Failure>, u64);

impl Node {
    /// Connections that are made on first use.
    pub(crate) fn lazy(connector: Arc<Connector>) -> Self {
        let first = Lane::lazy(Arc::clone(&connector), "commands", connector.ears());
        Self::with(connector, first)
    }

    /// Connects once; its failure is the caller's.
    pub(crate) async fn open(connector: Arc<Connector>) -> Result<Self> {
        let first = Lane::open(Arc::clone(&connector), "commands", connector.ears()).await?;
        Ok(Self::with(connector, first))
    }

    fn with(connector: Arc<Connector>, first: Lane) -> Self {
        let connections = connector.config.knobs.connections.max(1);
        let mut commands = vec![first];
        commands.resize_with(connections, || Lane::lazy(Arc::clone(&connector), "commands", connector.ears()));
        Self {
            commands: commands.into(),
            next: AtomicUsize::new(0),
            bulk: Lane::lazy(Arc::clone(&connector), "bulk", connector.ears()),
            raw: Lane::blocking(Arc::clone(&connector), "raw"),
            large: LargeKeys::new(),
            reads: Reads::new(),
            pace: Pace::new(),
            connector,
        }
    }

    pub(crate) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// The run of the server behind the first connection; 0 if unknown.
    pub(crate) fn run(&self) -> u64 {
        self.commands.first().map_or(0, Lane::run)
    }

    /// Whether calls are sent to it, rather than failing at once.
    pub(super) fn is_well(&self) -> bool {
        self.is_up() && !self.connector.pulse().is_silent()
    }

    /// Whether the first connection is up.
    pub(crate) fn is_up(&self) -> bool {
        self.commands.first().is_some_and(Lane::is_up)
    }

    /// Sends over the connection that suits; ends within `span`.
    pub(crate) async fn send(&self, parcel: Parcel<'_>, span: Duration) -> Outcome {
        let bulk = parcel.large || parcel.key.is_some_and(|key| self.large.holds(key));
        let lane = match parcel.raw {
            true => Some(&self.raw),
            false if bulk => Some(&self.bulk),
            false => self.command(),
        };
        let Some(lane) = lane else {
            return (Err(Failure::Down(error::fault(ErrorKind::Closed, "no connection is configured"))), 0);
        };
        let (answer, run) = lane.send(parcel.request, span).await;
        if let (Some(key), Ok(value)) = (parcel.key, &answer) {
            self.large.note(key, large::is_large(value));
        }
        (answer, run)
    }

    /// Reads one key; ends within `span`.
    pub(crate) async fn read(self: &Arc<Self>, read: Read<'_>, span: Duration) -> Result<Value, Failure> {
        reads::read(self, read, span).await
    }

    /// How much of long lists is under way.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Whether the last reply for this hash was large.
    pub(super) fn is_large(&self, hash: u64) -> bool {
        self.large.holds(hash)
    }

    /// Remembers how many bytes the reply for this hash had.
    pub(super) fn note_size(&self, hash: u64, bytes: usize) {
        self.large.note(hash, bytes > LARGE);
    }

    fn command(&self) -> Option<&Lane> {
        match &*self.commands {
            [only] => Some(only),
            lanes => lanes.get(self.next.fetch_add(1, Ordering::Relaxed) % lanes.len().max(1)),
        }
    }
}
