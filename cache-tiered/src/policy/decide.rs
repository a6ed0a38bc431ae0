//! What the time says of an entry: one pure function.

use std::time::Duration;

use cache_core::{Header, Tick};

use super::{Policy, Refresh};

/// Beyond this many load times before the end, an early refresh is so unlikely that hits need not ask: one in e^9.
const EARLIEST: f64 = 9.0;

/// The times of an entry, on this process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// How long it is fresh in all.
    pub(crate) ttl: Duration,
    /// The end of freshness.
    pub(crate) ends: Tick,
    /// The end of freshness in the near store: `ends` or earlier.
    pub(crate) deadline: Tick,
    /// Until when it may be served as a fallback.
    pub(crate) kept: Tick,
    /// How long its load took.
    pub(crate) load: Duration,
}

impl Life {
    /// The times of an entry that is fresh until `ends`, in every store alike.
    pub(crate) fn of(header: &Header, policy: &Policy, ends: Tick) -> Self {
        // a sliding ttl counts from reads, which the header does not tell
        let ttl = match policy.sliding {
            Some(_) => policy.ttl,
            None => Duration::from_millis(header.soft_exp.saturating_sub(header.created)),
        };
        Self { ttl, ends, deadline: ends, kept: ends, load: Duration::from_millis(header.load_ms.into()) }
    }
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it, and load it again in the background.
    Refresh,
    /// Serve it, and prolong its life.
    Touch,
    /// Serve it only if a load fails or is late.
    Fallback,
    /// Nothing.
    Gone,
}

impl Policy {
    /// Judges an entry by the time `now`; `roll` is a random number over 0 and at most 1.
    pub(crate) fn decide(&self, life: &Life, now: Tick, roll: f64) -> Verdict {
        if now >= life.deadline {
            let kept = self.fail_safe.is_some() && now < life.kept;
            return if kept { Verdict::Fallback } else { Verdict::Gone };
        }
        if self.sliding.is_some() {
            return if now >= self.attention(life) { Verdict::Touch } else { Verdict::Fresh };
        }
        let due = match self.refresh {
            None => false,
            Some(Refresh::After(_)) => now >= self.attention(life),
            Some(Refresh::Early(beta)) => {
                let ahead = life.load.mul_f64((beta * -roll.ln()).clamp(0.0, 1e6));
                now + ahead >= life.ends
            }
        };
        if due { Verdict::Refresh } else { Verdict::Fresh }
    }

    /// The earliest moment at which [`decide`](Self::decide) may say anything but `Fresh`.
    pub(crate) fn attention(&self, life: &Life) -> Tick {
        let point = match (self.sliding, self.refresh) {
            (Some(sliding), _) => before(life.ends, life.ttl.mul_f64((1.0 - sliding.after).clamp(0.0, 1.0))),
            (None, Some(Refresh::After(share))) => before(life.ends, life.ttl.mul_f64((1.0 - share).clamp(0.0, 1.0))),
            (None, Some(Refresh::Early(beta))) => {
                before(life.ends, life.load.mul_f64((beta * EARLIEST).clamp(0.0, 1e6)))
            }
            (None, None) => life.deadline,
        };
        point.min(life.deadline)
    }
}

fn before(moment: Tick, span: Duration) -> Tick {
    Tick::from_nanos(moment.as_nanos().saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
}
