//! What a cache does with its entries, as data; and the pure decisions over it.

mod breaker;

use std::time::Duration;

use cache_core::{Error, ErrorKind, MAX_TTL};

pub(crate) use breaker::Breaker;

/// How entries of a cache live. All times are upper bounds.
#[derive(Clone, Debug, PartialEq)]
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
    /// The longest that a load may take, waiting for another process included. Default 30 seconds.
    pub load_deadline: Duration,
    /// The largest entry, in bytes of key, value and bookkeeping, that the near tier keeps. Default 1 MiB.
    pub near_max: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            near_ttl: None,
            negative_ttl: Duration::from_secs(30),
            jitter: 0.1,
            load_deadline: Duration::from_secs(30),
            near_max: 1 << 20,
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
    #[must_use]
    pub fn seconds(n: u64) -> Self {
        Duration::from_secs(n).into()
    }

    /// Values fresh for `n` minutes.
    #[must_use]
    pub fn minutes(n: u64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }

    /// Values fresh for `n` hours.
    #[must_use]
    pub fn hours(n: u64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }

    /// Every mistake in it, as sentences.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, ttl) in
            [("ttl", self.ttl), ("negative_ttl", self.negative_ttl), ("load_deadline", self.load_deadline)]
        {
            if ttl.is_zero() || ttl > MAX_TTL {
                found.push(format!("{name} is {ttl:?}; it must be over zero and at most ten years"));
            }
        }
        if let Some(near) = self.near_ttl {
            if near.is_zero() {
                found.push("near_ttl is zero; leave the near tier out instead".to_owned());
            }
            if near > self.ttl {
                found.push(format!("near_ttl {near:?} is longer than ttl {:?}", self.ttl));
            }
        }
        if !(0.0..1.0).contains(&self.jitter) {
            found.push(format!("jitter is {}; it must be at least 0 and below 1", self.jitter));
        }
        found
    }

    /// `ttl`, shortened at random.
    pub(crate) fn jittered(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(1.0 - self.jitter * fastrand::f64()).max(Duration::from_millis(1))
    }
}

/// One error for all mistakes of a builder.
pub(crate) fn all_mistakes(found: &[String]) -> Result<(), Error> {
    if found.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Config, found.join("; "))) }
}
