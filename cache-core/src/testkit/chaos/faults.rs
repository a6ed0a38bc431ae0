//! The script of faults that all clones share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Op;
use crate::{Error, ErrorKind, Result};

pub(super) struct Faults {
    script: Mutex<Script>,
    world: watch::Sender<World>,
    calls: [AtomicU64; Op::ALL.len()],
    dropped: AtomicU64,
}

#[derive(Default)]
struct Script {
    failures: Vec<Failure>,
    lost_replies: u64,
    delay: Duration,
    reply_delay: Duration,
    reply_scatter: Duration,
    yields: bool,
}

struct Failure {
    op: Option<Op>,
    left: u64,
    kind: ErrorKind,
}

/// What lasts until it is ended.
#[derive(Clone, Copy, Default)]
pub(super) struct World {
    pub(super) hanging: bool,
    pub(super) parted: bool,
    pub(super) muted: bool,
    /// How many partitions there were.
    pub(super) cuts: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            script: Mutex::default(),
            world: watch::Sender::new(World::default()),
            calls: std::array::from_fn(|_| AtomicU64::new(0)),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Faults {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, op: Option<Op>, left: u64, kind: ErrorKind) {
        self.script().failures.push(Failure { op, left, kind });
    }

    pub(super) fn lose_replies(&self, n: u64) {
        self.script().lost_replies = n;
    }

    pub(super) fn slow(&self, delay: Duration) {
        self.script().delay = delay;
    }

    pub(super) fn slow_replies(&self, delay: Duration) {
        self.script().reply_delay = delay;
    }

    pub(super) fn scatter_replies(&self, most: Duration) {
        self.script().reply_scatter = most;
    }

    pub(super) fn yields(&self, on: bool) {
        self.script().yields = on;
    }

    pub(super) fn hang(&self, on: bool) {
        self.world.send_modify(|world| world.hanging = on);
    }

    pub(super) fn partition(&self, on: bool) {
        self.world.send_modify(|world| {
            world.cuts += u64::from(on && !world.parted);
            world.parted = on;
        });
    }

    pub(super) fn mute(&self, on: bool) {
        self.world.send_modify(|world| world.muted = on);
    }

    pub(super) fn calm(&self) {
        *self.script() = Script::default();
        self.world.send_modify(|world| *world = World { cuts: world.cuts, ..World::default() });
    }

    pub(super) fn calls(&self, op: Op) -> u64 {
        self.calls[op as usize].load(Ordering::SeqCst)
    }

    pub(super) fn drop_message(&self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }

    /// The state of the world, and how it changes.
    pub(super) fn watch(&self) -> watch::Receiver<World> {
        self.world.subscribe()
    }

    /// Passes the faults before a call of `op`, makes it, and perhaps loses the reply.
    pub(super) async fn through<T: Send>(&self, op: Op, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.before(op).await?;
        let reply = call.await;
        self.pause().await;
        let late = self.script().reply_takes();
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        self.after(op)?;
        reply
    }

    /// Lets others go first, if calls are to.
    async fn pause(&self) {
        let yields = self.script().yields;
        if yields {
            tokio::task::yield_now().await;
        }
    }

    async fn before(&self, op: Op) -> Result<()> {
        self.calls[op as usize].fetch_add(1, Ordering::SeqCst);
        self.pause().await;
        let parted = |world: &World| if world.parted { Err(fault(op, ErrorKind::Unavailable)) } else { Ok(()) };
        parted(&self.world.borrow())?;
        if let Some(kind) = self.script().next_failure(op) {
            return Err(fault(op, kind));
        }
        if self.world.borrow().hanging {
            // the sender lives in self, so this ends only by `unhang`
            let _ = self.world.subscribe().wait_for(|world| !world.hanging).await;
            parted(&self.world.borrow())?;
        }
        let delay = self.script().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    fn after(&self, op: Op) -> Result<()> {
        let mut script = self.script();
        match script.lost_replies.checked_sub(1) {
            Some(left) => {
                script.lost_replies = left;
                Err(fault(op, ErrorKind::Timeout))
            }
            None => Ok(()),
        }
    }
}

impl Script {
    /// How much longer the next reply takes.
    fn reply_takes(&self) -> Duration {
        self.reply_delay + self.reply_scatter.mul_f64(fastrand::f64())
    }

    fn next_failure(&mut self, op: Op) -> Option<ErrorKind> {
        self.failures.retain(|failure| failure.left > 0);
        let failure = self.failures.iter_mut().find(|failure| failure.op.is_none_or(|only| only == op))?;
        failure.left -= 1;
        Some(failure.kind)
    }
}

fn fault(op: Op, kind: ErrorKind) -> Error {
    Error::new(kind, "scripted fault").with_operation(op.as_str()).with_store("chaos")
}
