//! The atomic step of a limiter.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Limit, Outcome};
use crate::Result;

/// The atomic steps of a limiter, one round trip each. A store sees arguments that the handle has checked.
///
/// # Errors
/// A key that holds something else, or a limit that another algorithm counts, is `WrongType`, and is left as it is.
#[async_trait]
pub trait LimitStore: fmt::Debug + Send + Sync + 'static {
    /// Takes `cost` if the limit allows it, by the store's clock. A denial changes nothing. A cost of 0 only looks,
    /// and tells whether 1 would be allowed.
    async fn take(&self, key: &str, limit: &Limit, cost: u32) -> Result<Outcome>;

    /// Forgets what was taken.
    async fn reset(&self, key: &str) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: LimitStore + ?Sized> LimitStore for Arc<S> {
    async fn take(&self, key: &str, limit: &Limit, cost: u32) -> Result<Outcome> {
        (**self).take(key, limit, cost).await
    }
    async fn reset(&self, key: &str) -> Result<()> {
        (**self).reset(key).await
    }
}
