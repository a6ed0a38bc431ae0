//! The steps that a store does.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;

use crate::Result;
use crate::recipe::Expiry;
use crate::recipe::value::ValueStore;

/// A store that counts. Each step is one round trip; a counter is stored as decimal text, as Redis does.
///
/// Every step fails with `Conflict`, and changes nothing, if a key holds anything but an integer of 64 bits as it
/// would be written (no `+`, no leading zeros, no spaces), or if a sum overflows.
#[async_trait]
pub trait CounterStore: ValueStore {
    /// Adds `by` to the counter under `key`, missing as 0, if what it holds is in `allowed`.
    async fn count(&self, key: &str, by: i64, allowed: RangeInclusive<i64>, expiry: Expiry) -> Result<Step<i64>>;

    /// Moves `amount`, more than 0, from one counter to another, missing ones as 0, if the first holds that much.
    ///
    /// # Errors
    /// `Invalid` with [`Reply::CrossSlot`](crate::Reply::CrossSlot) if a cluster keeps the keys in different slots.
    async fn transfer(&self, from: &str, to: &str, amount: i64, expiry: Expiry) -> Result<Step<Balances>>;

    /// Sets the counter and its ttl; what it held before.
    async fn replace(&self, key: &str, value: i64, expiry: Expiry) -> Result<Option<i64>>;
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// It is done, and this is what stands now.
    Done(T),
    /// Nothing was done: the counter, the paying one of a transfer, holds this.
    Refused(Option<i64>),
}

/// What two counters hold after a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balances {
    /// The paying side.
    pub from: i64,
    /// The other one.
    pub to: i64,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CounterStore + ?Sized> CounterStore for Arc<S> {
    async fn count(&self, key: &str, by: i64, allowed: RangeInclusive<i64>, expiry: Expiry) -> Result<Step<i64>> {
        (**self).count(key, by, allowed, expiry).await
    }

    async fn transfer(&self, from: &str, to: &str, amount: i64, expiry: Expiry) -> Result<Step<Balances>> {
        (**self).transfer(from, to, amount, expiry).await
    }

    async fn replace(&self, key: &str, value: i64, expiry: Expiry) -> Result<Option<i64>> {
        (**self).replace(key, value, expiry).await
    }
}
