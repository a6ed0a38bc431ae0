//! What runs in tasks of its own, so that a close can wait for it, and whether the cache is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cache_core::{Error, ErrorKind, Result};
use tokio::sync::Notify;

use super::{Engine, Where};

/// The work that callers began and need not wait for: loads, changes, leases on their way back.
#[derive(Debug, Default)]
pub(crate) struct Work {
    closed: AtomicBool,
    cancelled: AtomicBool,
    /// Whether the background tasks ended with their runtime.
    homeless: AtomicBool,
    running: AtomicUsize,
    /// Rung when the last piece ended, and when all are to end.
    bell: Notify,
}

/// One piece of it; over when this is dropped.
#[derive(Debug)]
pub(crate) struct Shift(Arc<Work>);

impl Work {
    /// Begins a piece.
    pub(crate) fn begin(self: &Arc<Self>) -> Shift {
        self.running.fetch_add(1, Ordering::SeqCst);
        Shift(Arc::clone(self))
    }

    /// How many pieces are not over.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until all are over.
    pub(crate) async fn ended(&self) {
        self.until(|| self.running() == 0).await;
    }

    /// Ends the loads, detached ones included.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.bell.notify_waiters();
    }

    /// Waits until loads are to end: the error for their callers.
    pub(crate) async fn cancelled(&self) -> Error {
        self.until(|| self.cancelled.load(Ordering::SeqCst)).await;
        Error::new(ErrorKind::Closed, "the cache was closed before the load ended")
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if holds() {
                return;
            }
            rung.await;
        }
    }

    /// Refuses calls from here on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether nobody hears of changes any more: the runtime on which the cache was built has ended.
    pub(crate) fn is_homeless(&self) -> bool {
        self.homeless.load(Ordering::SeqCst)
    }
}

/// Held by a background task that runs for ever: dropped, its runtime has ended, or the cache.
#[derive(Debug)]
pub(crate) struct Home(pub(crate) Arc<Work>);

impl Drop for Home {
    fn drop(&mut self) {
        self.0.homeless.store(true, Ordering::SeqCst);
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.bell.notify_waiters();
        }
    }
}

impl Engine {
    /// Refuses what comes after a close.
    pub(crate) fn open(&self) -> Result<()> {
        if self.work.is_closed() {
            let text = "the cache was closed; close it when nobody uses it any more";
            return Err(Error::new(ErrorKind::Closed, text));
        }
        Ok(())
    }

    /// The forms of a key, for a call on an open cache.
    pub(crate) fn place(&self, near_key: &str) -> Result<Where> {
        self.open()?;
        self.names.locate(near_key)
    }

    /// As [`place`](Self::place), for a text that is shared already.
    pub(crate) fn place_shared(&self, near_key: &Arc<str>) -> Result<Where> {
        self.open()?;
        self.names.locate_shared(Arc::clone(near_key))
    }
}
