//! What a cache does with its entries, as data; and the pure decisions over it.

mod breaker;
mod check;
mod decide;
mod options;
mod rate_breaker;
mod recipes;

use std::time::Duration;

pub(crate) use breaker::Breaker;
pub(crate) use check::{Around, all_mistakes};
pub(crate) use decide::{Life, Verdict};
pub use options::{Backoff, FailSafe, Refresh, Sliding, Timeouts};
pub(crate) use rate_breaker::{Fate, Pass, RateBreaker};

/// How entries of a cache live. All times are upper bounds.
///
/// Begins with a ttl or a [recipe](Self::profiles); methods change one thing each. What is wrong in it is told when the
/// cache is built, every mistake at once.
///
/// ```
/// use std::time::Duration;
/// use cache_tiered::Policy;
///
/// let policy = Policy::minutes(5)
///     .fail_safe(Duration::from_secs(2 * 3600))
///     .soft_timeout(Duration::from_millis(200))
///     .hard_timeout(Duration::from_secs(5))
///     .refresh_ahead(0.8);
/// assert_eq!(policy.ttl, Duration::from_secs(300));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
#[non_exhaustive]
pub struct Policy {
    /// How long a value is fresh, in every tier. Default 5 minutes.
    pub ttl: Duration,
    /// How long a value stays in the near tier at most. Default: as long as `ttl`.
    pub near_ttl: Option<Duration>,
    /// How long "there is nothing" is remembered. Default 30 seconds.
    pub negative_ttl: Duration,
    /// The share of a ttl by which it is shortened at random, so that entries filled together don't expire together.
    /// It never lengthens. Default 0.1.
    pub jitter: f64,
    /// The largest entry, in bytes of key, value and bookkeeping, that the near tier keeps. Default: 1 MiB, or what the
    /// near tier's budget holds. Larger ones are kept in the far tier only; where there is none, nowhere, and counted as
    /// `strata_unkept_values_total`.
    pub near_max: Option<u64>,
    /// Values kept past their ttl as a fallback. Default: none.
    pub fail_safe: Option<FailSafe>,
    /// How long loads may take.
    pub timeouts: Timeouts,
    /// Loading again before the ttl has passed. Default: off.
    pub refresh: Option<Refresh>,
    /// Ttls that count from the last read. Default: off.
    pub sliding: Option<Sliding>,
    /// The pause after a load that failed; `None` forgets errors at once. Default 100 ms to 5 s.
    pub backoff: Option<Backoff>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            near_ttl: None,
            negative_ttl: Duration::from_secs(30),
            jitter: 0.1,
            near_max: None,
            fail_safe: None,
            timeouts: Timeouts::default(),
            refresh: None,
            sliding: None,
            backoff: Some(Backoff::default()),
        }
    }
}

impl From<Duration> for Policy {
    fn from(ttl: Duration) -> Self {
        Self { ttl, ..Self::default() }
    }
}

impl Policy {
    /// Values fresh for `n` seconds.
    pub fn seconds(n: u64) -> Self {
        Duration::from_secs(n).into()
    }

    /// Values fresh for `n` minutes.
    pub fn minutes(n: u64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }

    /// Values fresh for `n` hours.
    pub fn hours(n: u64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }

    /// With another ttl.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// With a shorter life in the near tier. No longer than the ttl, nor than the cap of an
    /// [`incoherent`](crate::TieredBuilder::incoherent) far store.
    pub const fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// With "there is nothing" remembered for `ttl`.
    pub const fn negative(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// With ttls shortened by up to this share at random; 0 for none.
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// With entries over `bytes` kept in the far tier only. No more than the near tier's budget.
    pub const fn near_max(mut self, bytes: u64) -> Self {
        self.near_max = Some(bytes);
        self
    }

    /// With values kept for `span` past their ttl and served, marked stale, when a load fails. A [`FailSafe`] says more
    /// than the span.
    pub fn fail_safe(mut self, fail_safe: impl Into<FailSafe>) -> Self {
        self.fail_safe = Some(fail_safe.into());
        self
    }

    /// With no waiting longer than `after` for a load where there is a fallback to serve; the load goes on in the
    /// background. Needs [`fail_safe`](Self::fail_safe).
    pub const fn soft_timeout(mut self, after: Duration) -> Self {
        self.timeouts.soft = Some(after);
        self
    }

    /// With loads given up after `after`, with a `Timeout`. Default 30 seconds.
    pub const fn hard_timeout(mut self, after: Duration) -> Self {
        self.timeouts.hard = after;
        self
    }

    /// With values loaded again in the background once this share of their ttl has passed, or as a [`Refresh`] says.
    pub fn refresh_ahead(mut self, refresh: impl Into<Refresh>) -> Self {
        self.refresh = Some(refresh.into());
        self
    }

    /// With ttls that count from the last read.
    pub fn sliding(mut self) -> Self {
        self.sliding = Some(Sliding::default());
        self
    }

    /// With other pauses after loads that failed, such as `Backoff::between(..)`; `None` for no pause at all.
    pub fn backoff(mut self, backoff: impl Into<Option<Backoff>>) -> Self {
        self.backoff = backoff.into();
        self
    }
}

/// The largest near entry, unless told otherwise.
pub(crate) const NEAR_MAX: u64 = 1 << 20;

impl Policy {
    /// Whether the near tier is to keep an entry of this weight.
    pub(crate) fn keeps_near(&self, weight: u64) -> bool {
        weight <= self.near_max.unwrap_or(NEAR_MAX)
    }

    /// `ttl`, shortened at random.
    pub(crate) fn jittered(&self, ttl: Duration) -> Duration {
        let share = 1.0 - self.jitter * fastrand::f64();
        // every entry that is read passes here, and exact arithmetic on durations takes its time; a float is exact enough
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is out of range is cut")]
        let nanos = (ttl.as_secs_f64() * 1e9 * share) as u64;
        Duration::from_nanos(nanos).clamp(Duration::from_millis(1), ttl.max(Duration::from_millis(1)))
    }

    /// How long past its ttl a value is kept as a fallback.
    pub(crate) fn grace(&self) -> Duration {
        self.fail_safe.map_or(Duration::ZERO, |fail_safe| fail_safe.span)
    }
}

#[cfg(test)]
mod tests;
