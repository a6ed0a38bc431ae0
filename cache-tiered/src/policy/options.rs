//! The parts of a policy, one noun each.

use std::time::Duration;

/// Fail-safe: values kept past their ttl, and served, marked stale, when a load fails or is late.
///
/// A fallback passes the same test as a fresh value: what was invalidated is never served. While the far store is cut
/// off, nothing unconfirmed for longer than the namespace's outage window is served either. Remembered "there is
/// nothing" is no fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailSafe {
    /// How long past its ttl a value is kept. Default 1 day.
    pub span: Duration,
    /// After a load that failed or was late, how long the fallback is served without another try: one try in this time
    /// by all processes together, while the far store has the fallback. Default 30 seconds.
    pub throttle: Duration,
}

impl Default for FailSafe {
    fn default() -> Self {
        Self { span: Duration::from_secs(24 * 3600), throttle: Duration::from_secs(30) }
    }
}

impl From<Duration> for FailSafe {
    /// Values kept for `span` past their ttl. A throttle longer than that is cut to it.
    fn from(span: Duration) -> Self {
        Self { span, throttle: Self::default().throttle.min(span) }
    }
}

impl FailSafe {
    /// With another throttle.
    #[must_use]
    pub const fn throttle(mut self, throttle: Duration) -> Self {
        self.throttle = throttle;
        self
    }
}

/// How long loads may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// How long a caller waits where there is a fallback; then the load goes on in the background. Default: no such limit.
    pub soft: Option<Duration>,
    /// The longest that a load may take, waiting for another process included; then it ends with a `Timeout`. Default 30
    /// seconds.
    pub hard: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { soft: None, hard: Duration::from_secs(30) }
    }
}

/// Refresh ahead: when a value is loaded again while it is still fresh.
///
/// One caller in one process does it, in the background, with the loader that it passed; the far store is asked first,
/// and what was invalidated meanwhile is not stored. A refresh that fails leaves the entry as it is, and no process tries
/// again before the pause is over: the throttle of fail-safe, or the backoff.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Refresh {
    /// Once this share of the ttl has passed; over 0 and below 1.
    After(f64),
    /// At random, the likelier the nearer the end and the longer its load took (XFetch, Vattani et al., VLDB 2015): so that
    /// of many readers one begins just about in time. 1 is a good start; more is earlier.
    Early(f64),
}

impl From<f64> for Refresh {
    fn from(share: f64) -> Self {
        Self::After(share)
    }
}

/// Sliding expiry: a read makes the ttl count anew.
///
/// The near deadline moves at once, the far store's in the background, at most once in `after` of a ttl and process, and
/// without a message to anybody.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sliding {
    /// The share of the ttl that has to pass before a read prolongs it. Default 0.25.
    pub after: f64,
}

impl Default for Sliding {
    fn default() -> Self {
        Self { after: 0.25 }
    }
}

/// The pause after a load that failed: its error is told to whoever asks before it is over, without another load.
///
/// It doubles with each failure in a row from `least` to `most`, shortened by up to a quarter at random; a success or a
/// change of the key ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first pause. Default 100 ms.
    pub least: Duration,
    /// The longest pause. Default 5 seconds.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { least: Duration::from_millis(100), most: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// Pauses from `least` to `most`.
    #[must_use]
    pub const fn between(least: Duration, most: Duration) -> Self {
        Self { least, most }
    }

    /// The pause after `failures` failures in a row, counted from 1; `roll` is from 0 to 1.
    pub(crate) fn pause(&self, failures: u32, roll: f64) -> Duration {
        let doubled = self.least.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.most).mul_f64(1.0 - roll / 4.0)
    }
}
