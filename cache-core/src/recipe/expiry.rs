//! How long the keys of a recipe live.

use std::time::Duration;

use crate::{Error, ErrorKind, Result, check_ttl};

/// How long a key lives that a recipe makes, and whether later changes prolong it. Every key has a ttl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    millis: u64,
    renews: bool,
}

impl Expiry {
    /// A key lives for `ttl` from when it was made; later changes keep the ttl that it has.
    ///
    /// # Errors
    /// `Invalid` if `ttl` is below 1 ms or beyond [`MAX_TTL`](crate::MAX_TTL).
    pub fn kept(ttl: Duration) -> Result<Self> {
        Ok(Self { millis: millis(ttl)?, renews: false })
    }

    /// Each change lets the key live for the whole ttl again.
    #[must_use]
    pub fn renewed(self) -> Self {
        Self { renews: true, ..self }
    }

    /// The ttl in ms, at least 1.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.millis
    }

    /// Whether each change prolongs.
    #[must_use]
    pub fn renews(self) -> bool {
        self.renews
    }

    /// The ttl.
    #[must_use]
    pub fn ttl(self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// `ttl` in whole milliseconds. One below 1 ms is a mistake of units: what it keeps is gone before it can be asked for.
pub(super) fn millis(ttl: Duration) -> Result<u64> {
    if !ttl.is_zero() && ttl < Duration::from_millis(1) {
        return Err(Error::new(ErrorKind::Invalid, "the ttl is below 1 ms"));
    }
    check_ttl(ttl)
}
