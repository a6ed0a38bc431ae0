//! Single reads that share requests when many are under way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cache_core::ErrorKind;
use redis::{Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::large;
use super::node::{Node, Parcel};
use super::request::{Failure, Request};
use crate::error;

/// So many reads of a server go out by themselves; a read that finds more under way joins a request.
const ALONE: usize = 8;
/// The most requests of joined reads that are under way; what comes meanwhile gathers for the next.
const TURNS: usize = 2;
/// The most reads in one request, and the fewest that wait before a second request goes out beside the first.
const MOST: usize = 128;
const FEWEST: usize = 32;
/// After a key that was not there, so many requests ask of their keys how many are.
const WARY: usize = 64;
/// The bytes of one request, and as many as its replies usually have.
const BYTES: usize = 256 * 1024;

/// A read of one key. Nothing changes if it is sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// Its value.
    Value(&'a str),
    /// Its ttl and its value, in this order: a refill between the two would give the old value the new ttl.
    Timed(&'a str),
}

impl<'a> Read<'a> {
    pub(crate) fn key(self) -> &'a str {
        match self {
            Self::Value(key) | Self::Timed(key) => key,
        }
    }

    /// As [`large::key_hash`] of its first command.
    fn hash(self) -> u64 {
        match self {
            Self::Value(key) => large::hash(b"GET", key.as_bytes()),
            Self::Timed(key) => large::hash(b"PTTL", key.as_bytes()),
        }
    }

    fn get(key: &str) -> Cmd {
        // the name, the key and how long they are
        let mut get = Cmd::with_capacity(2, key.len() + 3);
        get.arg("GET").arg(key);
        get
    }

    /// As a request of its own.
    pub(super) fn alone(self) -> Alone {
        match self {
            Self::Value(key) => Alone::One(Self::get(key)),
            Self::Timed(_) => {
                let mut pipe = Pipeline::with_capacity(2);
                self.add_to(&mut pipe);
                Alone::Two(pipe)
            }
        }
    }

    fn add_to(self, pipe: &mut Pipeline) {
        if let Self::Timed(key) = self {
            let mut pttl = Cmd::with_capacity(2, key.len() + 4);
            pttl.arg("PTTL").arg(key);
            pipe.add_command(pttl);
        }
        pipe.add_command(Self::get(self.key()));
    }

    /// Its reply, out of those to a request of many.
    fn reply(self, replies: &mut impl Iterator<Item = Value>) -> Result<Value, Failure> {
        let mut next = || replies.next().unwrap_or(Value::Nil).extract_error().map_err(Failure::Driver);
        match self {
            Self::Value(_) => next(),
            Self::Timed(_) => {
                let (pttl, value) = (next(), next());
                Ok(Value::Array(vec![pttl?, value?]))
            }
        }
    }
}

/// A read as a request of its own.
pub(super) enum Alone {
    One(Cmd),
    Two(Pipeline),
}

impl Alone {
    pub(super) fn parcel(&self) -> Parcel<'_> {
        match self {
            Self::One(get) => Parcel::one(get),
            Self::Two(pipe) => Parcel::many(pipe),
        }
    }
}

/// The single reads of one server.
#[derive(Debug)]
pub(super) struct Reads {
    /// How many are under way, whichever way they went.
    under_way: AtomicUsize,
    /// The bytes that a reply had of late.
    usual: AtomicUsize,
    queue: Mutex<Queue>,
    /// One command for many keys was refused: each read is a command of its own.
    parted: AtomicBool,
    /// For how many more requests a key is expected not to be there.
    wary: AtomicUsize,
    /// The one that the connections were made on: a caller's own may stop before others have their answer.
    runtime: Handle,
    #[cfg(test)]
    joined: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many tasks take from it; none without `waiting` ends, and none is left waiting without one.
    turns: usize,
}

/// A read that waits for the next request. Its caller keeps its deadline, and may be gone.
#[derive(Debug)]
struct Waiting {
    key: Box<str>,
    timed: bool,
    hash: u64,
    tell: oneshot::Sender<Result<Value, Failure>>,
}

impl Waiting {
    fn read(&self) -> Read<'_> {
        if self.timed { Read::Timed(&self.key) } else { Read::Value(&self.key) }
    }
}

impl Reads {
    pub(super) fn new() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            usual: AtomicUsize::new(0),
            queue: Mutex::default(),
            parted: AtomicBool::new(false),
            wary: AtomicUsize::new(WARY),
            runtime: Handle::current(),
            #[cfg(test)]
            joined: AtomicUsize::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.under_way.load(Ordering::SeqCst), self.joined.load(Ordering::SeqCst))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a read wait for the next request; whether a task is to be begun that sends it.
    fn join(&self, waiting: Waiting) -> bool {
        #[cfg(test)]
        self.joined.fetch_add(1, Ordering::SeqCst);
        let mut queue = self.queue();
        queue.waiting.push_back(waiting);
        let begins = queue.turns == 0 || (queue.turns < TURNS && queue.waiting.len() >= FEWEST);
        queue.turns += usize::from(begins);
        begins
    }

    /// The reads of the next request. None, and the task's turn is over.
    fn next(&self) -> Vec<Waiting> {
        let usual = self.usual.load(Ordering::Relaxed).max(1);
        let most = (BYTES / usual).clamp(1, MOST);
        let mut queue = self.queue();
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.key.len();
            bytes <= BYTES
        };
        let n = queue.waiting.iter().take(most).take_while(fits).count();
        let batch: Vec<Waiting> = queue.waiting.drain(..n).collect();
        if batch.is_empty() {
            queue.turns -= 1;
        }
        batch
    }

    /// Notes how many bytes a reply had, on average over a request.
    fn note(&self, bytes: usize) {
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual.store((usual * 3).div_ceil(4) + bytes / 4, Ordering::Relaxed);
    }
}

/// Counts a read until it ends or its caller goes.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads from `node`, by itself or joined with others; ends within `span`.
pub(super) async fn read(node: &Arc<Node>, read: Read<'_>, span: Duration) -> Result<Value, Failure> {
    let reads = node.reads();
    let before = reads.under_way.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted(&reads.under_way);
    let hash = read.hash();
    // what is large goes a way of its own
    if before < ALONE || node.is_large(hash) {
        // on the heap, so that a read that joins others does not carry the room for it
        return Box::pin(async move { node.send(read.alone().parcel(), span).await.0 }).await;
    }
    let (tell, told) = oneshot::channel();
    let timed = matches!(read, Read::Timed(_));
    if reads.join(Waiting { key: read.key().into(), timed, hash, tell }) {
        reads.runtime.spawn(take_turns(Turn { node: Arc::clone(node), over: false }));
    }
    match timeout(span, told).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Failure::Down(error::fault(ErrorKind::Closed, "the runtime of the connection has ended"))),
        Err(_) => Err(Failure::Late),
    }
}

/// A task's place among those that take from the queue. Dropped before it is over, it leaves nobody waiting for it.
struct Turn {
    node: Arc<Node>,
    over: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.over {
            let mut queue = self.node.reads().queue();
            queue.turns -= 1;
            if queue.turns == 0 {
                queue.waiting.clear();
            }
        }
    }
}

/// Sends what has gathered, and again when that was answered, until nothing has.
async fn take_turns(mut turn: Turn) {
    loop {
        // whoever is ready to read as well goes first
        pass().await;
        let mut batch = turn.node.reads().next();
        if batch.is_empty() {
            turn.over = true;
            return;
        }
        batch.retain(|waiting| !waiting.tell.is_closed());
        if !batch.is_empty() {
            send(&turn.node, batch).await;
        }
    }
}

/// Lets the tasks that are ready run.
async fn pass() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sends one request and tells each reader its reply.
async fn send(node: &Node, batch: Vec<Waiting>) {
    let batch = merge(node, batch).await;
    if batch.is_empty() {
        return;
    }
    let mut pipe = Pipeline::with_capacity(batch.len());
    batch.iter().for_each(|waiting| waiting.read().add_to(&mut pipe));
    match ask(node, &pipe).await {
        Ok(replies) => {
            let mut replies = replies.into_iter();
            let answers = batch.into_iter().map(|waiting| {
                let answer = waiting.read().reply(&mut replies);
                (waiting, answer)
            });
            tell(node, answers);
        }
        Err(failure) => tell(node, batch.into_iter().map(|waiting| (waiting, Err(failure.clone())))),
    }
}

/// Reads values by one command for all of them, which costs a server half as much. That command says nil of a key of
/// another kind too, where a read by itself is an error: so the keys that are there are counted as well, unless all keys
/// of late were there. Whoever is not answered so is returned, to be asked for by itself.
async fn merge(node: &Node, batch: Vec<Waiting>) -> Vec<Waiting> {
    let Reads { parted, wary, .. } = node.reads();
    if batch.len() < 2 || batch.iter().any(|waiting| waiting.timed) || parted.load(Ordering::Relaxed) {
        return batch;
    }
    let bytes = batch.iter().map(|waiting| waiting.key.len()).sum::<usize>();
    let left = wary.load(Ordering::Relaxed);
    let names = if left > 0 { &["MGET", "EXISTS"][..] } else { &["MGET"] };
    let mut pipe = Pipeline::with_capacity(2);
    for name in names.iter().copied() {
        let mut command = Cmd::with_capacity(batch.len() + 1, bytes + name.len());
        command.arg(name);
        batch.iter().for_each(|waiting| {
            command.arg(&*waiting.key);
        });
        pipe.add_command(command);
    }
    let mut replies = match ask(node, &pipe).await {
        Ok(replies) => replies.into_iter(),
        Err(failure) => {
            tell(node, batch.into_iter().map(|waiting| (waiting, Err(failure.clone()))));
            return Vec::new();
        }
    };
    match (replies.next(), replies.next()) {
        (Some(Value::Array(values)), there @ (Some(Value::Int(_)) | None)) if values.len() == batch.len() => {
            let found = values.iter().filter(|value| !matches!(value, Value::Nil)).count();
            // requests that are under way together may count one down for two: a hint needs no more
            wary.store(if found < batch.len() { WARY } else { left.saturating_sub(1) }, Ordering::Relaxed);
            let sure =
                found == batch.len() || matches!(there, Some(Value::Int(there)) if usize::try_from(there) == Ok(found));
            let mut unsure = Vec::new();
            let answers = batch.into_iter().zip(values).filter_map(|(waiting, value)| {
                if sure || !matches!(value, Value::Nil) {
                    return Some((waiting, Ok(value)));
                }
                unsure.push(waiting);
                None
            });
            tell(node, answers);
            unsure
        }
        (first, second) => {
            // keys of several slots, one that this user may not read, a proxy that does not know the command
            let refused = |reply: &Option<Value>| matches!(reply, Some(Value::ServerError(error)) if ["CROSSSLOT", "NOPERM", "ERR"].contains(&error.code()));
            if refused(&first) || refused(&second) {
                parted.store(true, Ordering::Relaxed);
            }
            batch
        }
    }
}

async fn ask(node: &Node, pipe: &Pipeline) -> Result<Vec<Value>, Failure> {
    let request = Request::Part { pipeline: pipe, offset: 0, count: pipe.len() };
    match node.send(Parcel::joined(request), node.connector().config.knobs.timeout).await.0? {
        Value::Array(replies) => Ok(replies),
        _ => Err(Failure::Down(error::unexpected("read"))),
    }
}

/// Tells readers their answers, and notes how large these were.
fn tell(node: &Node, answers: impl Iterator<Item = (Waiting, Result<Value, Failure>)>) {
    let (mut bytes, mut count) = (0, 0);
    for (waiting, answer) in answers {
        if let Ok(value) = &answer {
            let size = large::weigh(value, 2);
            (bytes, count) = (bytes + size, count + 1);
            node.note_size(waiting.hash, size);
        }
        // whoever left needs none
        let _ = waiting.tell.send(answer);
    }
    if let Some(usual) = bytes.checked_div(count) {
        node.reads().note(usual);
    }
}
