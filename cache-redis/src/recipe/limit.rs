//! [`LimitStore`]: one short text a key.

use async_trait::async_trait;
use cache_core::recipe::limit::{Algorithm, Limit, LimitStore, Outcome};
use cache_core::{ErrorKind, Result};

use crate::error::fault;
use crate::script::{self, Call};
use crate::service::{Redis, checked};

/// The script that takes `cost`.
fn call(key: &str, limit: &Limit, cost: u32) -> Result<Call> {
    let window = u64::try_from(limit.window().as_micros()).unwrap_or(u64::MAX);
    let (script, kind, span) = match limit.algorithm() {
        Algorithm::Gcra => (&script::LIMIT_GCRA, "g:", limit.interval_us()),
        Algorithm::Fixed => (&script::LIMIT_FIXED, "f:", window),
        Algorithm::Sliding => (&script::LIMIT_SLIDING, "s:", window),
        Algorithm::Log => (&script::LIMIT_LOG, "l:", window),
        _ => return Err(fault(ErrorKind::Invalid, "this algorithm is not known").with_operation("limit")),
    };
    Ok(script.on(&[key]).arg(cost).arg(kind).arg(limit.most()).arg(span))
}

type Said = (bool, u32, u64, u64, u64);

fn outcome((allowed, remaining, retry_us, reset_us, _): Said) -> Outcome {
    Outcome { allowed, remaining, retry_us, reset_us }
}

#[async_trait]
impl LimitStore for Redis {
    async fn take(&self, key: &str, limit: &Limit, cost: u32) -> Result<Outcome> {
        checked(key, "limit")?;
        call(key, limit, cost)?.run(self.link(), "limit").await.map(outcome)
    }

    async fn reset(&self, key: &str) -> Result<()> {
        checked(key, "limit")?;
        script::LIMIT_RESET.on(&[key]).run(self.link(), "limit").await
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
