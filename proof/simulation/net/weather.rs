//! What ails a link, and until when.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What may ail a link. Each ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ill {
    /// Nothing arrives at the server.
    Requests,
    /// No reply arrives at the process.
    Replies,
    /// No reply arrives over the first of the process's connections.
    Lane,
    /// No push arrives at the process.
    Pushes,
    /// The server carries nothing out.
    Frozen,
    /// The process is stopped: nothing leaves it or enters it, its callers and loaders stand still.
    Stopped,
    /// No connection can be made.
    Refused,
    /// Most pushes are lost.
    Lossy,
    /// Replies take long.
    Slow,
}

const ILLS: usize = 9;

/// How long a message travels, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) most: u64,
    /// One message in so many takes twenty times as long.
    pub(crate) spike: u32,
}

#[derive(Debug)]
pub(crate) struct Weather {
    until: Mutex<[Option<Instant>; ILLS]>,
    /// How much longer replies take while they are slow.
    pub(crate) delay: Duration,
    /// How often connections were cut.
    cuts: AtomicU64,
    cut: Notify,
    dead: AtomicBool,
    rng: Mutex<Rng>,
    latency: Latency,
}

impl Weather {
    pub(crate) fn new(rng: Rng, latency: Latency, delay: Duration) -> Self {
        Self {
            until: Mutex::new([None; ILLS]),
            delay,
            cuts: AtomicU64::new(0),
            cut: Notify::new(),
            dead: AtomicBool::new(false),
            rng: Mutex::new(rng),
            latency,
        }
    }

    fn untils(&self) -> MutexGuard<'_, [Option<Instant>; ILLS]> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ail(&self, ill: Ill, span: Duration) {
        let end = Instant::now() + span;
        let mut untils = self.untils();
        untils[ill as usize] = untils[ill as usize].max(Some(end));
    }

    pub(crate) fn has(&self, ill: Ill) -> bool {
        self.untils()[ill as usize].is_some_and(|end| Instant::now() < end)
    }

    /// Waits until it is over; for ever once the process is dead.
    pub(crate) async fn over(&self, ill: Ill) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = self.untils()[ill as usize];
            match until {
                Some(end) if Instant::now() < end => sleep_until(end).await,
                _ => return,
            }
        }
    }

    pub(crate) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.cut.notify_waiters();
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// Waits until connections were cut more often than `seen`.
    pub(crate) async fn cut_since(&self, seen: u64) {
        loop {
            let cut = self.cut.notified();
            if self.cuts() != seen {
                return;
            }
            cut.await;
        }
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.cut();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that the next message travels.
    pub(crate) fn travel(&self) -> Duration {
        let mut rng = self.rng();
        let spiked = rng.u32(..self.latency.spike) == 0;
        Duration::from_micros(rng.u64(..=self.latency.most) * if spiked { 20 } else { 1 })
    }
}
