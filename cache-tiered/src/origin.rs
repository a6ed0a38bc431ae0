//! How an origin is protected: options.

use std::time::Duration;

/// The protection of a key space's origin. Everything is off until it is asked for.
///
/// Caches of one space share their protection. It counts calls of the loader, in this process: a batch is one call. What
/// it refuses fails with [`Overloaded`](cache_core::ErrorKind::Overloaded), which says when to come back; where a stale
/// fallback is kept, that is served instead.
///
/// ```
/// use cache_tiered::{Origin, OriginBreaker};
///
/// let origin = Origin::default().at_most(64).queue(256).breaker(OriginBreaker::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Origin {
    /// The most calls of the loader at once. Default: no limit.
    pub at_most: Option<usize>,
    /// The most loads that wait for their turn; one more is refused at once. Default: four times `at_most`.
    pub queue: Option<usize>,
    /// The longest that a load waits for its turn. Default 1 second; the policy's hard timeout counts too.
    pub patience: Option<Duration>,
    /// Gives an origin that fails a pause. Default: none.
    pub breaker: Option<OriginBreaker>,
}

impl Origin {
    /// With at most `calls` of the loader at once.
    pub const fn at_most(mut self, calls: usize) -> Self {
        self.at_most = Some(calls);
        self
    }

    /// With at most `loads` waiting for their turn.
    pub const fn queue(mut self, loads: usize) -> Self {
        self.queue = Some(loads);
        self
    }

    /// With a turn waited for no longer than this, which is below the policy's hard timeout.
    pub const fn patience(mut self, span: Duration) -> Self {
        self.patience = Some(span);
        self
    }

    /// With a breaker.
    pub const fn breaker(mut self, breaker: OriginBreaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Every mistake in it, as sentences, where loads are given up after `hard`.
    pub(crate) fn mistakes(&self, hard: Duration) -> Vec<String> {
        let mut found = Vec::new();
        if self.at_most == Some(0) {
            found.push("origin.at_most is zero, so nothing could ever be loaded".to_owned());
        }
        if self.at_most.is_some_and(|most| most > tokio::sync::Semaphore::MAX_PERMITS) {
            found.push("origin.at_most is no limit; leave it out instead".to_owned());
        }
        if self.at_most.is_none() && self.queue.is_some() {
            found.push("origin.queue is set, but without at_most nobody ever waits".to_owned());
        }
        if let Some(patience) = self.patience {
            if patience.is_zero() {
                found.push("origin.patience is zero; set queue to 0 instead".to_owned());
            }
            if self.at_most.is_none() {
                found.push("origin.patience is set, but without at_most nobody ever waits".to_owned());
            }
            if self.queue == Some(0) {
                found.push("origin.patience is set, but with a queue of 0 nobody ever waits".to_owned());
            }
            if patience >= hard {
                found.push(format!(
                    "origin.patience {patience:?} is not below hard_timeout {hard:?}, which ends the wait"
                ));
            }
        }
        if self.at_most.is_none() && self.breaker.is_none() {
            found.push("origin protects from nothing; set at_most or breaker, or leave it out".to_owned());
        }
        if let Some(breaker) = &self.breaker {
            breaker.mistakes(&mut found);
        }
        found
    }
}

/// When an origin's breaker opens: once `rate` of at least `fewest` loads within `window` failed. It stays open for
/// `pause`; then one load is let through as a probe, whose success closes it and whose failure opens it again.
///
/// A loader's error, a panic and a load past its deadline are failures; a load that its callers left is neither.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct OriginBreaker {
    /// The share of failed loads at which it opens, over 0 and at most 1. Default 0.5.
    pub rate: f64,
    /// The fewest loads within the window that say anything. Default 10.
    pub fewest: u32,
    /// How far back loads are judged. Default 10 seconds.
    pub window: Duration,
    /// How long it stays open. Default 5 seconds.
    pub pause: Duration,
}

impl Default for OriginBreaker {
    fn default() -> Self {
        Self { rate: 0.5, fewest: 10, window: Duration::from_secs(10), pause: Duration::from_secs(5) }
    }
}

impl OriginBreaker {
    /// Opens at this share of failures.
    pub const fn rate(mut self, share: f64) -> Self {
        self.rate = share;
        self
    }

    /// Judges no fewer loads than this.
    pub const fn fewest(mut self, loads: u32) -> Self {
        self.fewest = loads;
        self
    }

    /// Judges the loads of this span.
    pub const fn window(mut self, span: Duration) -> Self {
        self.window = span;
        self
    }

    /// Stays open for this span.
    pub const fn pause(mut self, span: Duration) -> Self {
        self.pause = span;
        self
    }

    fn mistakes(&self, found: &mut Vec<String>) {
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            found.push(format!("origin.breaker.rate is {}; it must be over 0 and at most 1", self.rate));
        }
        if self.fewest == 0 {
            found.push("origin.breaker.fewest is zero; it must be at least 1".to_owned());
        }
        for (name, span) in [("window", self.window), ("pause", self.pause)] {
            if span < Duration::from_millis(1) {
                found.push(format!("origin.breaker.{name} is {span:?}; it must be at least a millisecond"));
            }
        }
    }
}
