//! The handle: arguments, waiting, and work under a lock.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Claim, Claimed, Guard, Hold, LockStore, Token};
use crate::{Clock, Error, ErrorKind, MAX_TTL, Result, Tick, check_key, check_ttl};

/// The shortest ttl: below it, what clocks may differ by and a round trip leave nothing to hold.
const MIN_TTL: Duration = Duration::from_millis(10);
/// How often who waits looks again, should a call be lost; jittered by a quarter.
const POLL: Duration = Duration::from_secs(1);
/// How long a place in line is kept for who stops asking.
const STAY: Duration = Duration::from_secs(5);

/// Locks on one store, each under a key. A handle: cheap to clone.
///
/// [`lock`](super) tells what a lock promises. Keys are physical and are a lock's alone.
#[derive(Clone, Debug)]
pub struct Locks {
    store: Arc<dyn LockStore>,
    clock: Clock,
    fair: bool,
    patience: Duration,
    max_hold: Duration,
}

impl Locks {
    /// Locks on `store`: in no order, waiting for up to 30 s, renewed for up to 10 minutes.
    pub fn new(store: impl LockStore) -> Self {
        Self {
            store: Arc::new(store),
            clock: Clock::system(),
            fair: false,
            patience: Duration::from_secs(30),
            max_hold: Duration::from_secs(600),
        }
    }

    /// The same, first come first served: who waits stands in line, and one alone is woken. Who stops asking, because
    /// its process died, is skipped after 5 s, or 2 s after its turn came.
    ///
    /// All handles of a key should agree: one that is not fair takes a free lock past the line. A line has at most
    /// 1,024 places; who finds it full gets one when it asks again.
    #[must_use]
    pub fn fair(mut self) -> Self {
        self.fair = true;
        self
    }

    /// How long [`acquire`](Self::acquire) and [`with_lock`](Self::with_lock) wait; 30 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a hold is renewed for, so that work that hangs does not keep its lock for ever; 10 minutes by default.
    /// Zero: a hold ends with its ttl unless it is extended by hand.
    #[must_use]
    pub fn max_hold(mut self, most: Duration) -> Self {
        self.max_hold = most.min(MAX_TTL);
        self
    }

    /// The clock that deadlines of guards are read from; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Takes the lock of `key` if it is free; `None` if somebody has it or, with [`fair`](Self::fair), stands in line.
    /// One round trip.
    ///
    /// # Errors
    /// `Invalid` for a key that [`check_key`] refuses, a ttl below 10 ms or beyond ten years; else the store's. After
    /// an error a release is sent in the background, in case the lock was taken.
    pub async fn try_acquire(&self, key: &str, ttl: Duration) -> Result<Option<Guard>> {
        let mut attempt = self.attempt(key, ttl)?;
        // the line is respected, not joined: who does not wait must not be waited for
        attempt.claim.queue = self.fair.then_some(Duration::ZERO);
        Ok(match attempt.once().await? {
            Step::Won(hold) => Some(attempt.keep(hold, Some(self.max_hold))),
            Step::Wait(_) => None,
        })
    }

    /// As [`acquire_within`](Self::acquire_within), waiting for the handle's [`patience`](Self::patience).
    ///
    /// # Errors
    /// As there.
    pub async fn acquire(&self, key: &str, ttl: Duration) -> Result<Guard> {
        self.acquire_within(key, ttl, self.patience).await
    }

    /// Takes the lock of `key` for `ttl`, waiting for it for up to `wait`. One round trip if it is free.
    ///
    /// Who waits is woken by the release; should that message be lost, it looks again within about a second. Dropping
    /// the future gives up: place in line and lock are given back in the background.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire); `Timeout` if it did not become free in time. While waiting, errors of
    /// the store that may pass are waited out, and the last one is told at the end.
    pub async fn acquire_within(&self, key: &str, ttl: Duration, wait: Duration) -> Result<Guard> {
        let mut attempt = self.attempt(key, ttl)?;
        let hold = attempt.wait(wait).await?;
        Ok(attempt.keep(hold, Some(self.max_hold)))
    }

    /// Runs `work` under the lock of `key` and gives it back; `work` is dropped at the await where the lock is lost.
    ///
    /// The lock is renewed only while this future is polled, up to [`max_hold`](Self::max_hold), so work that blocks
    /// its thread or hangs loses it. `work` gets the [`Hold`], for its fence. A result that came before the lock was
    /// lost is returned, whatever becomes of the release.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and `work` did not run; `Conflict` if the lock was lost and `work` was dropped.
    pub async fn with_lock<T, W>(&self, key: &str, ttl: Duration, work: impl FnOnce(Hold) -> W) -> Result<T>
    where
        W: Future<Output = T>,
    {
        let mut attempt = self.attempt(key, ttl)?;
        let hold = attempt.wait(self.patience).await?;
        let end = hold_end(&self.clock, self.max_hold);
        let guard = attempt.keep(hold.clone(), None);
        let work = work(hold.clone());
        let done = tokio::select! {
            biased;
            () = hold.gone() => Err(Hold::loss()),
            done = work => Ok(done),
            () = hold.clone().renew(end) => Err(Hold::loss()),
        };
        let released = guard.release().await;
        if done.is_ok() {
            // the work is done; what the release found is for the fence to judge
            drop(released);
        }
        done
    }

    fn attempt(&self, key: &str, ttl: Duration) -> Result<Attempt> {
        check_key(key).map_err(|error| error.with_operation("lock"))?;
        let mut claim = Claim::new(Token::random()?, whole(ttl)?);
        claim.queue = self.fair.then_some(STAY);
        let runtime = Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Config, "a lock needs a tokio runtime").with_operation("lock"))?;
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        Ok(Attempt { store, clock, key: key.to_owned(), claim, runtime, open: false })
    }
}

/// When a hold that begins now is renewed no more.
fn hold_end(clock: &Clock, most: Duration) -> Tick {
    clock.now() + most
}

/// `ttl` in whole milliseconds.
pub(super) fn whole(ttl: Duration) -> Result<Duration> {
    if ttl < MIN_TTL {
        return Err(Error::new(ErrorKind::Invalid, "a lock's ttl is at least 10 ms").with_operation("lock"));
    }
    check_ttl(ttl).map(Duration::from_millis).map_err(|error| error.with_operation("lock"))
}

/// A wait between two attempts: `left`, and a little more so that it is over; no longer than a poll.
fn nap(left: Duration) -> Duration {
    let poll = POLL.mul_f64(0.75 + fastrand::f64() / 2.0);
    poll.min(left + Duration::from_micros(1000 + fastrand::u64(..4000)))
}

enum Step {
    Won(Hold),
    Wait(Duration),
}

/// A claim under way. Dropping it gives back what it may have taken.
struct Attempt {
    store: Arc<dyn LockStore>,
    clock: Clock,
    key: String,
    claim: Claim,
    runtime: Handle,
    /// The store was asked, and what it gave has no owner yet.
    open: bool,
}

impl Attempt {
    async fn once(&mut self) -> Result<Step> {
        let sent = self.clock.now();
        self.open = true;
        match self.store.acquire(&self.key, &self.claim).await? {
            Claimed::Held { left } => {
                // without a line nothing was left behind
                self.open = self.claim.queue.is_some_and(|stay| !stay.is_zero());
                Ok(Step::Wait(left))
            }
            Claimed::Granted { fence } => {
                let (store, token) = (Arc::clone(&self.store), self.claim.token.clone());
                let hold = Hold::new(store, &self.key, token, fence, self.clock.clone(), self.claim.ttl, sent);
                // the answer came too late to be of use; the same token asks again, and is known
                if hold.is_lost() { Ok(Step::Wait(Duration::ZERO)) } else { Ok(Step::Won(hold)) }
            }
        }
    }

    async fn wait(&mut self, patience: Duration) -> Result<Hold> {
        let end = Instant::now() + patience.min(MAX_TTL);
        let mut left = match self.once().await? {
            Step::Won(hold) => return Ok(hold),
            Step::Wait(left) => left,
        };
        let mut fault = None;
        let waiting = async {
            let mut seat = None;
            loop {
                match &mut seat {
                    // what was released before it listened was not heard: look again at once
                    None => seat = self.store.listen(&self.key, &self.claim.token).await.ok(),
                    Some(seat) => {
                        tokio::select! {
                            () = seat.called() => {}
                            () = sleep(nap(left)) => {}
                        }
                    }
                }
                if seat.is_none() {
                    sleep(nap(left.min(POLL / 10))).await;
                }
                left = match self.once().await {
                    Ok(Step::Won(hold)) => {
                        if let Some(seat) = seat.take() {
                            seat.won();
                        }
                        return Ok(hold);
                    }
                    Ok(Step::Wait(left)) => {
                        fault = None;
                        left
                    }
                    Err(error) if error.is_transient() => {
                        fault = Some(error);
                        POLL / 10
                    }
                    Err(error) => return Err(error),
                };
            }
        };
        match timeout_at(end, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(fault.unwrap_or_else(|| {
                let text = format!("the lock was not free within {} ms", patience.as_millis());
                Error::new(ErrorKind::Timeout, text).with_operation("lock")
            })),
        }
    }

    fn keep(mut self, hold: Hold, max_hold: Option<Duration>) -> Guard {
        self.open = false;
        let renewed = max_hold.filter(|most| !most.is_zero()).map(|most| hold_end(&self.clock, most));
        Guard::keep(hold, self.runtime.clone(), renewed)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.open {
            let (store, key, token) =
                (Arc::clone(&self.store), std::mem::take(&mut self.key), self.claim.token.clone());
            drop(self.runtime.spawn(async move { store.release(&key, &token).await }));
        }
    }
}

#[cfg(test)]
mod tests;
