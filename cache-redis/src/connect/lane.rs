//! One supervised connection: always up or on its way up.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Reply, Result};
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::handshake::{Connector, Fresh};
use super::heard::Ears;
use super::supervise::{Tended, supervise};
use crate::error;

/// The handle of a supervised connection; dropping it ends the supervisor.
#[derive(Debug)]
pub(crate) struct Lane {
    shared: Arc<Shared>,
    stop: CancellationToken,
    _guard: DropGuard,
    started: AtomicBool,
}

/// What a lane shares with its supervisor.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connector: Arc<Connector>,
    pub(super) label: &'static str,
    /// Who hears of writes to what was read here.
    pub(super) ears: Option<Arc<Ears>>,
    pub(super) state: watch::Sender<State>,
    /// The connection that is up, counted from 1; 0 before the first.
    pub(super) generation: AtomicU64,
    run: AtomicU64,
    /// Whether a reply came since the last heartbeat.
    pub(super) heard: AtomicBool,
    /// The calls under way.
    pub(super) calls: Arc<AtomicUsize>,
    strikes: AtomicU32,
    struck: Mutex<Option<Instant>>,
    /// The generation that must be left at once, and the one to be replaced while it still serves.
    pub(super) dead: AtomicU64,
    pub(super) unfit: AtomicU64,
    pub(super) alarm: Notify,
}

#[derive(Debug)]
pub(super) enum State {
    Up(Live),
    /// Calls wait until `grace`, then fail with `error`.
    Down {
        error: Error,
        grace: Instant,
    },
}

/// A connection to send on, and its generation.
#[derive(Clone, Debug)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    generation: u64,
    run: u64,
}

/// What goes over a lane in one round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    One(&'a redis::Cmd),
    Many(&'a redis::Pipeline),
    /// The replies from `offset` on, `count` of them, as the driver asks for.
    Part {
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    },
}

impl Request<'_> {
    async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::One(command) => connection.send_packed_command(command).await?.extract_error(),
            Self::Many(pipe) => pipe.query_async(connection).await,
            Self::Part { pipeline, offset, count } => {
                connection.send_packed_commands(pipeline, offset, count).await.map(Value::Array)
            }
        }
    }
}

/// Counts a call until it ends or is dropped.
struct Call<'a>(&'a AtomicUsize);

impl<'a> Call<'a> {
    fn begin(calls: &'a AtomicUsize) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        Self(calls)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request over a lane failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// There is no connection.
    Down(Error),
    /// The deadline passed.
    Late,
    /// The driver or the server refused it.
    Driver(redis::RedisError),
}

impl Lane {
    /// A lane that connects on first use.
    pub(crate) fn lazy(connector: Arc<Connector>, label: &'static str, ears: Option<Arc<Ears>>) -> Self {
        let grace = Instant::now();
        let error = error::fault(ErrorKind::Unavailable, "not connected yet");
        let shared = Shared {
            connector,
            label,
            ears,
            state: watch::Sender::new(State::Down { error, grace }),
            generation: AtomicU64::new(0),
            run: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            calls: Arc::default(),
            strikes: AtomicU32::new(0),
            struck: Mutex::new(None),
            dead: AtomicU64::new(0),
            unfit: AtomicU64::new(0),
            alarm: Notify::new(),
        };
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        Self { shared: Arc::new(shared), stop, _guard: guard, started: AtomicBool::new(false) }
    }

    /// A lane whose first connection is made now; its failure is the caller's.
    pub(crate) async fn open(connector: Arc<Connector>, label: &'static str, ears: Option<Arc<Ears>>) -> Result<Self> {
        let lane = Self::lazy(connector, label, ears);
        let fresh = lane.shared.connect().await?;
        lane.start(Some(fresh));
        Ok(lane)
    }

    /// The server's run behind the current connection; 0 if unknown.
    pub(crate) fn run(&self) -> u64 {
        self.shared.run.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(crate) fn is_up(&self) -> bool {
        matches!(&*self.shared.state.borrow(), State::Up(_))
    }

    /// Sends `request`; the reply, or why there is none, within `span`, and the server's run, 0 if unknown.
    pub(crate) async fn send(&self, request: Request<'_>, span: Duration) -> (Result<Value, Failure>, u64) {
        let began = Instant::now();
        let _call = Call::begin(&self.shared.calls);
        let (mut generation, mut run) = (0, 0);
        let work = async {
            let mut live = self.live().await.map_err(Failure::Down)?;
            (generation, run) = (live.generation, live.run);
            request.send(&mut live.connection).await.map_err(Failure::Driver)
        };
        let answer = timeout(span, work).await.unwrap_or(Err(Failure::Late));
        self.shared.learn(&answer, generation, began);
        (answer, run)
    }

    async fn live(&self) -> Result<Live> {
        if let State::Up(live) = &*self.shared.state.borrow() {
            return Ok(live.clone());
        }
        self.start(None);
        let mut states = self.shared.state.subscribe();
        loop {
            let (error, grace) = match &*states.borrow_and_update() {
                State::Up(live) => return Ok(live.clone()),
                State::Down { error, grace } => (error.clone(), *grace),
            };
            match timeout_at(grace, states.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(error),
            }
        }
    }

    fn start(&self, fresh: Option<Fresh>) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let stop = self.stop.clone();
        match fresh {
            Some(fresh) => {
                let tended = shared.publish(fresh);
                tokio::spawn(async move { supervise(shared, Some(tended), stop).await });
            }
            None => {
                let knobs = &shared.connector.config.knobs;
                shared.down("not connected yet", Instant::now() + knobs.connect_timeout * 2);
                tokio::spawn(async move { supervise(shared, None, stop).await });
            }
        }
    }
}

impl Shared {
    pub(super) async fn connect(&self) -> Result<Fresh> {
        self.connector.connect(&self.calls, self.ears.as_ref()).await
    }

    pub(super) fn publish(&self, fresh: Fresh) -> Tended {
        let Fresh { connection, driver, run, place } = fresh;
        let generation = self.generation.load(Ordering::Acquire) + 1;
        self.strikes.store(0, Ordering::Release);
        self.run.store(run, Ordering::Release);
        self.generation.store(generation, Ordering::Release);
        self.state.send_replace(State::Up(Live { connection: connection.clone(), generation, run }));
        tracing::debug!(lane = self.label, endpoint = %place.endpoint, generation, "connected");
        Tended { connection, driver, generation, since: Instant::now(), place }
    }

    pub(super) fn down(&self, why: &str, grace: Instant) {
        let error = error::fault(ErrorKind::Unavailable, why);
        self.state.send_replace(State::Down { error, grace });
    }

    /// Draws conclusions about the connection from how a call on it ended.
    pub(super) fn learn(&self, answer: &Result<Value, Failure>, generation: u64, began: Instant) {
        match answer {
            Ok(value) => {
                self.hear();
                // the raw door gets its replies unopened
                if let Value::Array(replies) = value
                    && replies.iter().any(is_readonly)
                {
                    self.raise(&self.unfit, generation);
                }
            }
            Err(Failure::Late) => self.miss(generation, began),
            Err(Failure::Down(_)) => {}
            Err(Failure::Driver(cause)) if error::is_broken(cause) => self.raise(&self.dead, generation),
            Err(Failure::Driver(cause)) => {
                self.hear();
                if error::map("", cause).reply() == Some(Reply::ReadOnly) {
                    self.raise(&self.unfit, generation);
                }
            }
        }
    }

    fn hear(&self) {
        // loads first: the common case must not write to a shared cache line
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a timeout. Calls that were waiting at the same time count once: each strike begins after the last.
    fn miss(&self, generation: u64, began: Instant) {
        if generation == 0 || generation != self.generation.load(Ordering::Acquire) {
            return;
        }
        {
            let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
            if struck.is_some_and(|last| began < last) {
                return;
            }
            *struck = Some(Instant::now());
        }
        let strikes = self.strikes.fetch_add(1, Ordering::AcqRel) + 1;
        if strikes >= self.connector.config.knobs.rebuild_after {
            self.raise(&self.dead, generation);
        }
    }

    fn raise(&self, flag: &AtomicU64, generation: u64) {
        if flag.fetch_max(generation, Ordering::AcqRel) < generation {
            self.alarm.notify_one();
        }
    }
}

fn is_readonly(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "READONLY")
}
