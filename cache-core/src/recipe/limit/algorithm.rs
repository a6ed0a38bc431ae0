//! How takes are counted: pure functions of what was taken, the limit and the time in microseconds.
//!
//! A server's scripts compute the same, in the same order on the same numbers.

use std::collections::VecDeque;

use super::{Algorithm, Limit};

/// What a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is allowed.
    pub allowed: bool,
    /// How many more are allowed now.
    pub remaining: u32,
    /// Microseconds until the same may be allowed; 0 if it is.
    pub retry_us: u64,
    /// Microseconds until all is allowed again.
    pub reset_us: u64,
}

/// What was taken under one key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Taken {
    /// When the next one would arrive, were they spread evenly.
    Gcra {
        /// That moment.
        arrival: u64,
    },
    /// A window and its count.
    Fixed {
        /// Takes in the window.
        count: u64,
        /// The window's end.
        end: u64,
    },
    /// Two windows of the clock.
    Sliding {
        /// The number of the later one.
        index: u64,
        /// Takes in the window before it.
        before: u64,
        /// Takes in it.
        count: u64,
    },
    /// Each take with its cost, oldest first.
    Log {
        /// Moments and costs.
        takes: VecDeque<(u64, u32)>,
        /// The sum of the costs.
        total: u64,
    },
}

/// What was taken is counted by another algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch;

impl Taken {
    /// Nothing yet.
    fn nothing(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Gcra => Self::Gcra { arrival: 0 },
            Algorithm::Fixed => Self::Fixed { count: 0, end: 0 },
            Algorithm::Sliding => Self::Sliding { index: 0, before: 0, count: 0 },
            Algorithm::Log => Self::Log { takes: VecDeque::new(), total: 0 },
        }
    }

    /// Takes `cost` at `now` if `limit` allows it. A denial and a cost of 0 take nothing; they change `held` only if it
    /// lay further in the future than `limit` can explain. A cost of 0 tells whether 1 would be allowed. Once
    /// [`reset_us`](Outcome::reset_us) have passed, `held` need not be kept.
    ///
    /// # Errors
    /// [`Mismatch`], and nothing is changed.
    pub fn take(held: &mut Option<Self>, limit: &Limit, now: u64, cost: u32) -> Result<Outcome, Mismatch> {
        let held = held.get_or_insert_with(|| Self::nothing(limit.algorithm()));
        match (limit.algorithm(), held) {
            (Algorithm::Gcra, Self::Gcra { arrival }) => Ok(gcra(arrival, limit, now, cost)),
            (Algorithm::Fixed, Self::Fixed { count, end }) => Ok(fixed(count, end, limit, now, cost)),
            (Algorithm::Sliding, Self::Sliding { index, before, count }) => {
                Ok(sliding([index, before, count], limit, now, cost))
            }
            (Algorithm::Log, Self::Log { takes, total }) => Ok(log(takes, total, limit, now, cost)),
            _ => Err(Mismatch),
        }
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn gcra(arrival: &mut u64, limit: &Limit, now: u64, cost: u32) -> Outcome {
    let (interval, burst) = (limit.interval_us(), u64::from(limit.most()));
    let span = interval * burst;
    // never further off than a whole burst: what lies beyond was left by a larger limit, or by a clock set back
    *arrival = (*arrival).min(now + span);
    let mut next = (*arrival).max(now);
    let late = (next + interval * u64::from(cost.max(1))).saturating_sub(now + span);
    if late == 0 && cost > 0 {
        next += interval * u64::from(cost);
        *arrival = next;
    }
    let reset_us = next - now;
    Outcome { allowed: late == 0, remaining: small((span - reset_us) / interval), retry_us: late, reset_us }
}

fn fixed(count: &mut u64, end: &mut u64, limit: &Limit, now: u64, cost: u32) -> Outcome {
    let (most, window) = (u64::from(limit.limit()), limit.window_us());
    // as above
    *end = (*end).min(now + window);
    let (mut held, mut until) = (*count, *end);
    if until <= now {
        (held, until) = (0, now + window);
    }
    let allowed = held + u64::from(cost.max(1)) <= most;
    if allowed && cost > 0 {
        held += u64::from(cost);
        (*count, *end) = (held, until);
    }
    let left = until - now;
    Outcome {
        allowed,
        remaining: small(most.saturating_sub(held)),
        retry_us: if allowed { 0 } else { left },
        reset_us: if held == 0 { 0 } else { left },
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the same doubles as in a server's script; times stay below 2^53, and what is cast back is not negative"
)]
fn sliding([index, before, count]: [&mut u64; 3], limit: &Limit, now: u64, cost: u32) -> Outcome {
    let (most, window) = (u64::from(limit.limit()), limit.window_us());
    let (mut at, mut passed) = (now / window, now % window);
    if *index == at + 1 {
        // a clock that was set back a little stands still until it has caught up
        (at, passed) = (*index, 0);
    }
    let (last, mut held) = match at.checked_sub(*index) {
        Some(0) => (*before, *count),
        Some(1) => (*count, 0),
        _ => (0, 0),
    };
    let (ask, most, span, left) = (f64::from(cost.max(1)), most as f64, window as f64, (window - passed) as f64);
    let weight = last as f64 * left / span;
    let allowed = weight + held as f64 + ask <= most;
    if allowed && cost > 0 {
        held += u64::from(cost);
        (*index, *before, *count) = (at, last, held);
    }
    let held_f = held as f64;
    let free = most - held_f - ask;
    let retry = if allowed {
        0.0
    } else if free >= 0.0 {
        ((span - free * span / last as f64).ceil() - passed as f64).max(1.0)
    } else {
        left + (span - (most - ask) * span / held_f).ceil().max(0.0)
    };
    let reset_us = match (held, last) {
        (0, 0) => 0,
        (0, _) => window - passed,
        _ => window - passed + window,
    };
    let remaining = (most - weight - held_f).floor().max(0.0);
    Outcome { allowed, remaining: remaining as u32, retry_us: retry as u64, reset_us }
}

fn log(takes: &mut VecDeque<(u64, u32)>, total: &mut u64, limit: &Limit, now: u64, cost: u32) -> Outcome {
    let (most, window) = (u64::from(limit.limit()), limit.window_us());
    // a clock that was set back stands still until it has caught up, but no longer than a window
    if takes.back().is_some_and(|(last, _)| *last > now + window) {
        takes.clear();
        *total = 0;
    }
    let now = takes.back().map_or(now, |(last, _)| now.max(*last));
    while let Some((_, gone)) = takes.pop_front_if(|(at, _)| *at + window <= now) {
        *total -= u64::from(gone);
    }
    let ask = u64::from(cost.max(1));
    let allowed = *total + ask <= most;
    let mut retry_us = 0;
    if allowed && cost > 0 {
        takes.push_back((now, cost));
        *total += u64::from(cost);
    } else if !allowed {
        let mut over = (*total + ask).saturating_sub(most);
        for (at, cost) in takes.iter() {
            retry_us = at + window - now;
            over = over.saturating_sub(u64::from(*cost));
            if over == 0 {
                break;
            }
        }
    }
    let reset_us = takes.back().map_or(0, |(last, _)| last + window - now);
    Outcome { allowed, remaining: small(most.saturating_sub(*total)), retry_us, reset_us }
}

#[cfg(test)]
mod tests;
