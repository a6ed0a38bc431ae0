//! A lock that is held: its deadline, its renewal, its end.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{LockStore, Token};
use crate::{Clock, Error, ErrorKind, Result, Tick};

/// How often a deadline is looked at on the clock that goes on in suspend, as timers do not.
const LOOK: Duration = Duration::from_secs(1);

/// What is known about a hold, without owning it.
///
/// Cheap to clone; goes where the work goes.
#[derive(Clone)]
pub struct Hold(Arc<Inner>);

struct Inner {
    store: Arc<dyn LockStore>,
    key: String,
    token: Token,
    fence: u64,
    clock: Clock,
    ttl: Duration,
    /// The moment, in nanoseconds, from which the lock may be somebody else's.
    deadline: AtomicU64,
    lost: CancellationToken,
    over: AtomicBool,
}

/// The part of `ttl` that a holder may count on: clocks differ, and the store's has whole milliseconds.
fn sure(ttl: Duration) -> Duration {
    ttl.saturating_sub((ttl / 100).max(Duration::from_millis(2)))
}

impl Hold {
    /// A hold that was asked for at `sent`.
    pub(super) fn new(
        store: Arc<dyn LockStore>,
        key: &str,
        token: Token,
        fence: u64,
        clock: Clock,
        ttl: Duration,
        sent: Tick,
    ) -> Self {
        let deadline = AtomicU64::new((sent + sure(ttl)).as_nanos());
        let (lost, over) = (CancellationToken::new(), AtomicBool::new(false));
        Self(Arc::new(Inner { store, key: key.to_owned(), token, fence, clock, ttl, deadline, lost, over }))
    }

    /// The number of this hold, above that of every earlier hold of the key. Whatever is written under the lock
    /// carries it, and is refused below the last one seen; [`lock`](super) shows the SQL.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.0.fence
    }

    /// The time for which the lock is surely held, unless it is extended; zero once it is lost, released or dropped.
    ///
    /// Counted from before the claim or the last extension was sent, less a hundredth of the ttl and at least 2 ms.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.0.lost.is_cancelled() {
            return Duration::ZERO;
        }
        Tick::from_nanos(self.0.deadline.load(Ordering::Acquire)).since(self.0.clock.now())
    }

    /// A token that is cancelled when the lock is not held any more: at the deadline at the latest, whether or not
    /// the network answers; at once when the store says that somebody else has it; on release and on drop.
    ///
    /// While a machine is suspended timers stand still: up to a second after its return passes before the token
    /// fires. [`remaining`](Self::remaining) is right at once.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.0.lost.clone()
    }

    /// Whether the lock is held no more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The error of work that lost its lock.
    pub(super) fn loss() -> Error {
        let text = "the lock was lost: its ttl has passed or the store forgot it; what was written needs its fence";
        Error::new(ErrorKind::Conflict, text).with_operation("lock")
    }

    /// Lets the hold last for `ttl` from now.
    pub(super) async fn extend(&self, ttl: Duration) -> Result<()> {
        let Inner { store, key, token, clock, deadline, lost, .. } = &*self.0;
        if self.is_lost() {
            return Err(Self::loss());
        }
        let sent = clock.now();
        if !store.extend(key, token, ttl).await? {
            lost.cancel();
            return Err(Self::loss());
        }
        // both ends only grow, so that an answer that comes late shortens nothing
        deadline.fetch_max((sent + sure(ttl)).as_nanos(), Ordering::AcqRel);
        if self.is_lost() { Err(Self::loss()) } else { Ok(()) }
    }

    /// Ends when the lock is lost. The clock is read at each poll, so work beside it is not polled past the deadline.
    pub(super) async fn gone(&self) {
        let mut cancelled = pin!(self.0.lost.cancelled());
        poll_fn(|context| {
            let cancelled = cancelled.as_mut().poll(context);
            if self.is_lost() { Poll::Ready(()) } else { cancelled }
        })
        .await;
    }

    /// Fires the token at the deadline. Ends then.
    pub(super) async fn watch(self) {
        loop {
            let left = self.remaining();
            if left.is_zero() {
                self.0.lost.cancel();
                return;
            }
            tokio::select! {
                () = sleep(left.min(LOOK)) => {}
                () = self.0.lost.cancelled() => return,
            }
        }
    }

    /// Extends the hold at each third of its ttl until `end`. Never ends: it goes with what it keeps.
    pub(super) async fn renew(self, end: Tick) {
        let Inner { clock, ttl, deadline, lost, .. } = &*self.0;
        let mut pause = *ttl / 3;
        loop {
            sleep(pause).await;
            let now = clock.now();
            let span = (*ttl).min(end.since(now));
            // at the cap: what is left runs out
            if lost.is_cancelled() || (now + sure(span)).as_nanos() <= deadline.load(Ordering::Acquire) {
                return std::future::pending().await;
            }
            // whole milliseconds, and none that is zero
            let span = Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1));
            pause = if self.extend(span).await.is_ok() { *ttl / 3 } else { *ttl / 20 };
        }
    }

    async fn release(&self) -> Result<()> {
        let held = !self.is_lost();
        self.0.over.store(true, Ordering::Release);
        self.0.lost.cancel();
        let released = self.0.store.release(&self.0.key, &self.0.token).await?;
        if held && released { Ok(()) } else { Err(Self::loss()) }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("fence", &self.0.fence).field("remaining", &self.remaining()).finish()
    }
}

/// A lock that is held. It is renewed at each third of its ttl, up to the handle's cap; dropping it gives it back.
///
/// The drop, in a panic too, sends the release from a task in the background; [`release`](Self::release) waits for it.
/// Where no runtime is left to send it, the ttl ends the hold.
#[must_use = "the lock is given back when the guard is dropped"]
pub struct Guard {
    hold: Hold,
    runtime: Handle,
    tasks: Vec<AbortHandle>,
}

impl Guard {
    /// Watches over `hold`, and renews it until `renewed`, if any.
    pub(super) fn keep(hold: Hold, runtime: Handle, renewed: Option<Tick>) -> Self {
        let mut tasks = vec![runtime.spawn(hold.clone().watch()).abort_handle()];
        tasks.extend(renewed.map(|end| runtime.spawn(hold.clone().renew(end)).abort_handle()));
        Self { hold, runtime, tasks }
    }

    /// What is known about the hold, for the work.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// As [`Hold::fence`].
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.hold.fence()
    }

    /// As [`Hold::remaining`].
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    /// As [`Hold::lost`].
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.hold.lost()
    }

    /// As [`Hold::is_lost`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.hold.is_lost()
    }

    /// Lets the hold last for `ttl` from now, never shorter than it would. One round trip.
    ///
    /// # Errors
    /// `Conflict` if the lock is lost; `Invalid` for a ttl that the handle would refuse; else the store's.
    pub async fn extend(&self, ttl: Duration) -> Result<()> {
        self.hold.extend(super::handle::whole(ttl)?).await
    }

    /// Gives the lock back. One round trip. If this is dropped half-way, the release is sent from the background.
    ///
    /// # Errors
    /// `Conflict` if the lock was lost before; else the store's, and the lock ends with its ttl.
    pub async fn release(self) -> Result<()> {
        let hold = self.hold.clone();
        // in a task of its own, so that who drops this future does not keep the lock
        let sent = self.runtime.spawn(async move { hold.release().await });
        self.hold.0.over.store(true, Ordering::Release);
        sent.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime is shutting down")))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.hold).finish()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if !self.hold.0.over.swap(true, Ordering::AcqRel) {
            let hold = self.hold.clone();
            hold.0.lost.cancel();
            drop(self.runtime.spawn(async move { hold.release().await }));
        }
    }
}

#[cfg(test)]
mod tests;
