//! How long a session lives.

use std::time::Duration;

use crate::recipe::expiry::millis;
use crate::{Error, ErrorKind, Result};

/// How long a session lives: untouched, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Lifetime {
    /// Without being touched.
    pub idle: Duration,
    /// However often it is touched.
    pub absolute: Duration,
}

impl Lifetime {
    /// A session that ends when it wasn't touched for `idle`, and after `absolute` at the latest.
    pub const fn new(idle: Duration, absolute: Duration) -> Self {
        Self { idle, absolute }
    }

    /// A session that ends after `span`, touched or not.
    pub const fn fixed(span: Duration) -> Self {
        Self { idle: span, absolute: span }
    }

    /// The two in ms.
    pub(super) fn millis(self) -> Result<(u64, u64)> {
        let (idle, absolute) = (millis(self.idle)?, millis(self.absolute)?);
        if idle > absolute {
            let text = "the idle time is longer than the absolute one; such a session never idles";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok((idle, absolute))
    }
}

impl Default for Lifetime {
    /// 30 minutes untouched, 24 hours at most.
    fn default() -> Self {
        Self::new(Duration::from_secs(30 * 60), Duration::from_secs(24 * 3600))
    }
}
