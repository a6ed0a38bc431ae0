//! What an application calls.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::denials::Denials;
use super::{Algorithm, Decision, Limit, LimitStore, Outcome, Source};
use crate::{Clock, Error, ErrorKind, Memory, Result, check_key};

/// After a failure the store is asked again this much later; until then the rule decides at once.
const PAUSE: Duration = Duration::from_secs(1);

/// What decides while the store can't be reached or can't serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Away {
    /// The caller: it gets the error. The default.
    #[default]
    Fail,
    /// Everything is allowed.
    Open,
    /// Everything is denied.
    Closed,
    /// Each process allows its share: the limit divided by this many processes, rounded down, at least one.
    Local {
        /// How many processes share the limit.
        share: NonZeroU32,
    },
}

/// One limit over any number of keys: users, addresses, tokens. A handle: cheap to clone, clones share what they know.
///
/// A call is one round trip, and none for a key that the store has denied and that is still denied: such a denial is
/// remembered, of up to 8,192 keys. It is right as long as nothing is reset elsewhere, since what others take only
/// prolongs it. Keys are physical and are a limit's alone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    store: Arc<dyn LimitStore>,
    limit: Limit,
    away: Away,
    clock: Clock,
    denials: Denials,
    /// The share of this process, for when the store is away.
    local: Option<(Memory, Limit)>,
    /// Until when the store is not asked, in nanoseconds.
    rest: AtomicU64,
}

impl Limits {
    /// `limit` on `store`; errors of the store are the caller's.
    ///
    /// # Errors
    /// `Invalid`, with every mistake of `limit`: a limit, window or burst of zero, a window below 1 ms or over 366
    /// days, a rate above one a microsecond, a log of more than 1,000, a burst beside another algorithm than gcra.
    pub fn new(store: impl LimitStore, limit: Limit) -> Result<Self> {
        limit.check()?;
        let (store, clock) = (Arc::new(store), Clock::system());
        let (away, denials, rest) = (Away::Fail, Denials::default(), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { store, limit, away, clock, denials, local: None, rest })))
    }

    /// The same with another rule for when the store is away, which is asked at most once a second then. Nothing
    /// that the handle remembers is taken over.
    #[must_use]
    pub fn when_away(self, away: Away) -> Self {
        self.rebuilt(|inner| inner.away = away)
    }

    /// The same with another clock for what it remembers; the system's by default. The store has its own.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.rebuilt(|inner| inner.clock = clock)
    }

    fn rebuilt(self, change: impl FnOnce(&mut Inner)) -> Self {
        let Inner { store, limit, away, clock, .. } = &*self.0;
        let mut inner = Inner {
            store: Arc::clone(store),
            limit: *limit,
            away: *away,
            clock: clock.clone(),
            denials: Denials::default(),
            local: None,
            rest: AtomicU64::new(0),
        };
        change(&mut inner);
        if let Away::Local { share } = inner.away {
            let part = |whole: u32| (whole / share).max(1);
            let mut local = Limit::new(part(limit.limit()), limit.window()).by(limit.algorithm());
            if limit.algorithm() == Algorithm::Gcra {
                local = local.with_burst(part(limit.most()));
            }
            inner.local = Some((Memory::builder().clock(inner.clock.clone()).build(), local));
        }
        Self(Arc::new(inner))
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.0.limit
    }

    /// Takes `cost` of what `key` may have, if it is there. One round trip or none.
    ///
    /// Dropping the future leaves it open whether it was taken.
    ///
    /// # Errors
    /// `Invalid` for a bad key, a cost of 0 (see [`peek`](Self::peek)) and one above what may ever come at once;
    /// `WrongType` if the key holds something else; when the store is away what [`when_away`](Self::when_away) says.
    pub async fn take(&self, key: &str, cost: u32) -> Result<Decision> {
        if cost == 0 {
            return Err(invalid("the cost is zero; peek takes nothing"));
        }
        if cost > self.0.limit.most() {
            let text = format!("the cost {cost} is above what may come at once, {}", self.0.limit.most());
            return Err(invalid(&text));
        }
        self.decide(key, cost).await
    }

    /// What a [`take`](Self::take) of one would be told, without taking. One round trip or none.
    ///
    /// # Errors
    /// As there.
    pub async fn peek(&self, key: &str) -> Result<Decision> {
        self.decide(key, 0).await
    }

    /// Forgets what `key` has taken. Other processes may remember a denial until it would have ended. One round trip.
    ///
    /// # Errors
    /// `Invalid` for a bad key, else the store's.
    pub async fn reset(&self, key: &str) -> Result<()> {
        check_key(key).map_err(|error| error.with_operation("limit"))?;
        self.0.store.reset(key).await?;
        self.0.denials.forget(key);
        Ok(())
    }

    async fn decide(&self, key: &str, cost: u32) -> Result<Decision> {
        let Inner { store, limit, away, clock, denials, rest, .. } = &*self.0;
        check_key(key).map_err(|error| error.with_operation("limit"))?;
        let sent = clock.now();
        if let Some(outcome) = denials.find(key, cost, sent) {
            return Ok(self.decision(outcome, Source::Remembered));
        }
        let end = rest.load(Ordering::Relaxed);
        if *away != Away::Fail && end > 0 {
            // one caller asks again, the others go by the rule meanwhile
            let again = (sent + PAUSE).as_nanos();
            let asks = end <= sent.as_nanos()
                && rest.compare_exchange(end, again, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if !asks {
                return self.alone(key, cost).await;
            }
        }
        match store.take(key, limit, cost).await {
            Ok(outcome) => {
                if end > 0 {
                    rest.store(0, Ordering::Relaxed);
                }
                if !outcome.allowed {
                    denials.keep(key, cost, outcome, sent, clock.now());
                }
                Ok(self.decision(outcome, Source::Store))
            }
            Err(error) if error.is_transient() && *away != Away::Fail => {
                rest.store((clock.now() + PAUSE).as_nanos(), Ordering::Relaxed);
                self.alone(key, cost).await
            }
            Err(error) => Err(error),
        }
    }

    /// The decision without the store.
    async fn alone(&self, key: &str, cost: u32) -> Result<Decision> {
        let Inner { limit, local, away, .. } = &*self.0;
        let pause_us = u64::try_from(PAUSE.as_micros()).unwrap_or(u64::MAX);
        let denied = Outcome { allowed: false, remaining: 0, retry_us: pause_us, reset_us: pause_us };
        let outcome = match (away, local) {
            (Away::Local { .. }, Some((memory, share))) if cost <= share.most() => {
                memory.take(key, share, cost).await?
            }
            // more than this process may ever give
            (Away::Local { .. }, _) | (Away::Closed, _) => denied,
            (Away::Open | Away::Fail, _) => {
                Outcome { allowed: true, remaining: limit.most(), retry_us: 0, reset_us: 0 }
            }
        };
        Ok(self.decision(outcome, Source::Away))
    }

    fn decision(&self, outcome: Outcome, source: Source) -> Decision {
        Decision {
            allowed: outcome.allowed,
            remaining: outcome.remaining,
            limit: self.0.limit,
            retry_after: Duration::from_micros(outcome.retry_us),
            reset_after: Duration::from_micros(outcome.reset_us),
            source,
        }
    }
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorKind::Invalid, text).with_operation("limit")
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { store, limit, away, .. } = &*self.0;
        f.debug_struct("Limits").field("store", store).field("limit", limit).field("away", away).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
