//! The answer to a take.

use std::time::Duration;

use super::Limit;
use crate::{Error, ErrorKind, Result};

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The store.
    Store,
    /// This process, which remembers a denial of the store that still holds: no round trip.
    Remembered,
    /// The rule for when the store is away.
    Away,
}

/// Whether something may happen, and what its sender may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether it may happen. Of a peek: whether a take of one would be allowed.
    pub allowed: bool,
    /// How many more are allowed now.
    pub remaining: u32,
    /// What is allowed.
    pub limit: Limit,
    /// When the same may be allowed; zero if it is allowed now.
    pub retry_after: Duration,
    /// When everything is allowed again that the limit gives.
    pub reset_after: Duration,
    /// Who decided.
    pub source: Source,
}

impl Decision {
    /// `Ok` if allowed.
    ///
    /// # Errors
    /// `Overloaded` with [`retry_after`](Error::retry_after) if denied.
    pub fn require(self) -> Result<Self> {
        if self.allowed {
            return Ok(self);
        }
        let text = format!("the rate limit is reached; come back in {} ms", self.retry_after.as_millis());
        Err(Error::new(ErrorKind::Overloaded, text).with_operation("limit").with_retry_after(self.retry_after))
    }

    /// The fields that tell it to an HTTP client: `RateLimit-Policy` and `RateLimit` as in the IETF's draft
    /// (draft-ietf-httpapi-ratelimit-headers-10), and `Retry-After` if denied. Times are whole seconds, rounded up.
    ///
    /// `policy` names the limit, as in `"api"`; of its characters those are kept that a quoted name may hold.
    #[must_use]
    pub fn headers(&self, policy: &str) -> Vec<(&'static str, String)> {
        let name: String = policy.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        let window = seconds(self.limit.window());
        let mut fields = vec![
            ("ratelimit-policy", format!("\"{name}\";q={};w={window}", self.limit.most())),
            ("ratelimit", format!("\"{name}\";r={};t={}", self.remaining, seconds(self.reset_after))),
        ];
        if !self.allowed {
            fields.push(("retry-after", seconds(self.retry_after).max(1).to_string()));
        }
        fields
    }
}

fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_draft() {
        let mut decision = Decision {
            allowed: true,
            remaining: 9,
            limit: Limit::per_minute(10),
            retry_after: Duration::ZERO,
            reset_after: Duration::from_millis(6001),
            source: Source::Store,
        };
        assert_eq!(
            decision.headers("a\"p\\i\n"),
            [("ratelimit-policy", "\"api\";q=10;w=60".to_owned()), ("ratelimit", "\"api\";r=9;t=7".to_owned())]
        );
        assert!(decision.require().is_ok());
        decision.allowed = false;
        decision.retry_after = Duration::from_millis(1);
        assert_eq!(decision.headers("api")[2], ("retry-after", "1".to_owned()));
        let error = decision.require().unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Overloaded, Some(Duration::from_millis(1))));
    }
}
