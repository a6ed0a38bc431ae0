//! What is allowed.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// The longest window: a year.
const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 3600);
/// The highest limit of a [`Algorithm::Log`], which remembers each take.
const MAX_LOG: u32 = 1000;
/// Products of times stay below it: numbers in a server's scripts have 53 bits.
const MAX_SPAN: u64 = 1 << 50;

/// How takes are counted. Between them they differ in what a window may see at worst, and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// One arrival time (the generic cell rate algorithm, a token bucket): a burst at once, then one each
    /// `window / limit`. Exact for rate and burst: any window of any length sees at most the burst and what the rate
    /// gives in it. Some 60 bytes a key. The default.
    Gcra,
    /// A count in a window that begins with its first take. At a border two windows meet: any window of the same
    /// length sees at most twice the limit. Some 50 bytes a key.
    Fixed,
    /// Two windows of the clock, the last one weighed by what is left of it. An approximation that is right for even
    /// traffic; at worst a window sees less than twice the limit. Some 60 bytes a key.
    Sliding,
    /// Each take is remembered: any window sees at most the limit, exactly. 12 bytes a take; for limits up to 1,000.
    Log,
}

/// How much is allowed: so many in a window, counted by an [`Algorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    algorithm: Algorithm,
    limit: u32,
    window: Duration,
    burst: u32,
}

impl Limit {
    /// `limit` in each `window`, by [`Algorithm::Gcra`] with a burst of `limit`.
    #[must_use]
    pub const fn new(limit: u32, window: Duration) -> Self {
        Self { algorithm: Algorithm::Gcra, limit, window, burst: limit }
    }

    /// So many a second.
    #[must_use]
    pub const fn per_second(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(1))
    }

    /// So many a minute.
    #[must_use]
    pub const fn per_minute(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(60))
    }

    /// So many an hour.
    #[must_use]
    pub const fn per_hour(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(3600))
    }

    /// The same, with another burst: how many may come at once after a pause. For [`Algorithm::Gcra`] only.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// The same, counted by another algorithm. A key's algorithm can't be changed while it is remembered.
    #[must_use]
    pub const fn by(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// How takes are counted.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many are allowed in a window.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The window; whole microseconds.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// The most that one take may cost: the burst, or the limit where there is none.
    #[must_use]
    pub const fn most(&self) -> u32 {
        match self.algorithm {
            Algorithm::Gcra => self.burst,
            _ => self.limit,
        }
    }

    /// The window in microseconds.
    pub(super) fn window_us(&self) -> u64 {
        u64::try_from(self.window.as_micros()).unwrap_or(u64::MAX)
    }

    /// The time between two takes at the rate, in microseconds, rounded up: never faster than asked for. A rate of
    /// thousands a second and more is thereby kept a little slower than it says, up to one in `interval_us`.
    #[must_use]
    pub fn interval_us(&self) -> u64 {
        self.window_us().div_ceil(u64::from(self.limit.max(1)))
    }

    /// Every mistake in one error.
    pub(super) fn check(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.limit == 0 {
            faults.push("the limit is zero; allow at least one".to_owned());
        }
        if self.window < Duration::from_millis(1) {
            faults.push("the window is below 1 ms".to_owned());
        }
        if self.window > MAX_WINDOW {
            faults.push("the window is longer than 366 days".to_owned());
        }
        match self.algorithm {
            Algorithm::Gcra if self.burst == 0 => faults.push("the burst is zero; allow at least one".to_owned()),
            Algorithm::Gcra if u64::from(self.limit) > self.window_us() => {
                faults.push("the rate is above one a microsecond".to_owned());
            }
            Algorithm::Gcra if self.interval_us().saturating_mul(self.burst.into()) > MAX_SPAN => {
                faults.push("the burst takes more than 35 years to come back".to_owned());
            }
            Algorithm::Fixed | Algorithm::Sliding | Algorithm::Log if self.burst != self.limit => {
                faults.push("only gcra has a burst beside its limit".to_owned());
            }
            Algorithm::Log if self.limit > MAX_LOG => {
                faults.push(format!("a log's limit is at most {MAX_LOG}; count by gcra"));
            }
            _ => {}
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, faults.join("; ")).with_operation("limit"))
    }
}
