//! One supervised connection: always up or on its way up.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Reply, Result};
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::handshake::{Connector, Fresh};
use super::heard::Ears;
use super::request::{Failure, Request};
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
    /// Whether commands may block it for as long as they like: then its silence says nothing of the server, nor is it
    /// kept from a silent one.
    pub(super) blocks: bool,
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

impl Lane {
    /// A lane that connects on first use.
    pub(crate) fn lazy(connector: Arc<Connector>, label: &'static str, ears: Option<Arc<Ears>>) -> Self {
        Self::new(connector, label, ears, false)
    }

    /// As [`lazy`](Self::lazy), for commands that may block it.
    pub(crate) fn blocking(connector: Arc<Connector>, label: &'static str) -> Self {
        Self::new(connector, label, None, true)
    }

    fn new(connector: Arc<Connector>, label: &'static str, ears: Option<Arc<Ears>>, blocks: bool) -> Self {
        let grace = Instant::now();
        let error = error::fault(ErrorKind::Unavailable, "not connected yet");
        let shared = Shared {
            connector,
            label,
            ears,
            blocks,
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

    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        matches!(&*self.shared.state.borrow(), State::Up(_))
    }

    /// Sends `request`; the reply, or why there is none, within `span`, and the server's run, 0 if unknown.
    pub(crate) async fn send(&self, request: Request<'_>, span: Duration) -> (Result<Value, Failure>, u64) {
        let began = Instant::now();
        let _call = Call::begin(&self.shared.calls);
        let (mut generation, mut run, mut mark) = (0, 0, 0);
        let work = async {
            let mut live = self.live().await.map_err(Failure::Down)?;
            (generation, run, mark) = (live.generation, live.run, self.shared.mark());
            request.send(&mut live.connection).await.map_err(Failure::Driver)
        };
        let answer = timeout(span, work).await.unwrap_or(Err(Failure::Late));
        // one that was redirected may have had too little time left to tell
        if matches!(answer, Err(Failure::Late)) && span >= self.shared.connector.config.knobs.timeout / 2 {
            self.shared.doubt(mark, generation);
        }
        self.shared.learn(&answer, generation, began);
        (answer, run)
    }

    async fn live(&self) -> Result<Live> {
        if !self.shared.is_silent()
            && let State::Up(live) = &*self.shared.state.borrow()
        {
            return Ok(live.clone());
        }
        // on the heap, so that calls that need not wait don't carry the room for it
        Box::pin(self.wait()).await
    }

    /// Waits for a connection to a server that gives signs of life, for as long as a call may.
    async fn wait(&self) -> Result<Live> {
        self.start(None);
        let shared = &*self.shared;
        let mut states = shared.state.subscribe();
        loop {
            let silent = shared.waits();
            let (error, grace) = match (&*states.borrow_and_update(), silent) {
                (State::Up(live), None) => return Ok(live.clone()),
                (State::Up(_), Some(until)) => (shared.connector.silent(), until),
                (State::Down { error, grace }, None) => (error.clone(), *grace),
                (State::Down { error, grace }, Some(until)) => (error.clone(), until.min(*grace)),
            };
            let news = async {
                tokio::select! {
                    changed = states.changed() => changed.is_ok(),
                    () = shared.connector.pulse().turns(silent.is_none()), if !shared.blocks => true,
                }
            };
            if !timeout_at(grace, news).await.unwrap_or(false) {
                return Err(error);
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
            Err(Failure::Down(_) | Failure::LateInPart) => {}
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
