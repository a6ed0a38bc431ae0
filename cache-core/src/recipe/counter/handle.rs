//! What an application calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Balances, CounterStore, InsufficientBalance, InsufficientStock, LimitExceeded, Step};
use crate::memory::integer;
use crate::recipe::Expiry;
use crate::recipe::value::{Changed, Exchanged};
use crate::{Error, ErrorKind, Result, check_key};

/// Integers of 64 bits under keys, changed atomically. Each call is one round trip; clones share the store.
///
/// A refusal that an application expects (the limit, an empty stock) is the inner result; the outer one is `Err` only
/// if the store could not tell. So `counters.deduct(key, 1).await??` ends at either.
///
/// A counter gets its ttl when it is made and keeps it, so that one made per day or per window ends with it. With
/// [`renewing`](Self::renewing), each change prolongs it. Counters are stored as decimal text: other programs can read
/// them, and `INCRBY` works on them.
///
/// # Errors
/// Every call: `Invalid` for a bad key; `Conflict`, and nothing is changed, if the key holds no integer or a sum
/// overflows; else what the store says. After `Timeout` it is unknown whether the call took effect.
///
/// # Cancellation
/// Dropping a call leaves the counter either as before or as asked.
///
/// ```
/// # use std::time::Duration;
/// use cache_core::Memory;
/// use cache_core::recipe::Counters;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let counters = Counters::new(Memory::new(), Duration::from_secs(86_400))?;
/// counters.set("stock:lamp", 3).await?;
/// assert_eq!(counters.deduct("stock:lamp", 2).await??, 1);
/// assert_eq!(counters.deduct("stock:lamp", 2).await?.unwrap_err().stock, Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Counters {
    store: Arc<dyn CounterStore>,
    expiry: Expiry,
}

impl Counters {
    /// Counters in `store` that live for `ttl` from when they were made.
    ///
    /// # Errors
    /// `Invalid` if `ttl` is below 1 ms or beyond [`MAX_TTL`](crate::MAX_TTL).
    pub fn new(store: impl CounterStore, ttl: Duration) -> Result<Self> {
        Ok(Self { store: Arc::new(store), expiry: Expiry::kept(ttl)? })
    }

    /// The same, but each change lets the counter live for the whole ttl again.
    #[must_use]
    pub fn renewing(self) -> Self {
        Self { expiry: self.expiry.renewed(), ..self }
    }

    /// What the counter holds.
    ///
    /// # Errors
    /// As every call.
    pub async fn get(&self, key: &str) -> Result<Option<i64>> {
        check_key(key)?;
        self.store.get(key).await?.as_deref().map(integer).transpose()
    }

    /// Adds `by`, which may be negative; the sum. A missing counter is 0.
    ///
    /// # Errors
    /// As every call.
    pub async fn add(&self, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        match self.store.count(key, by, i64::MIN..=i64::MAX, self.expiry).await? {
            Step::Done(sum) => Ok(sum),
            Step::Refused(_) => Err(Error::new(ErrorKind::Other, "the store refused to add without a limit")),
        }
    }

    /// Adds `by` if the sum stays within `limit`; the sum. A missing counter is 0.
    ///
    /// # Errors
    /// `Invalid` if `by` or `limit` is below 1, and as every call.
    pub async fn increment(&self, key: &str, by: i64, limit: i64) -> Result<Result<i64, LimitExceeded>> {
        check_key(key)?;
        positive("the increment", by)?;
        positive("the limit", limit)?;
        // both are positive, so the difference can't overflow
        Ok(match self.store.count(key, by, i64::MIN..=limit - by, self.expiry).await? {
            Step::Done(sum) => Ok(sum),
            Step::Refused(held) => Err(LimitExceeded { current: held.unwrap_or(0) }),
        })
    }

    /// Takes `quantity` from the stock under `key` if it holds that much; what is left.
    ///
    /// # Errors
    /// `Invalid` if `quantity` is below 1, and as every call.
    pub async fn deduct(&self, key: &str, quantity: i64) -> Result<Result<i64, InsufficientStock>> {
        check_key(key)?;
        positive("the quantity", quantity)?;
        Ok(match self.store.count(key, -quantity, quantity..=i64::MAX, self.expiry).await? {
            Step::Done(left) => Ok(left),
            Step::Refused(stock) => Err(InsufficientStock { stock }),
        })
    }

    /// Moves `amount` from one counter to another if the first holds that much; what both hold then. A missing
    /// receiver is 0.
    ///
    /// In a cluster both keys must be in one slot: give them a hash tag, as in `{shop-7}:points:ada`.
    ///
    /// # Errors
    /// `Invalid` if `amount` is below 1 or the keys are the same; with
    /// [`Reply::CrossSlot`](crate::Reply::CrossSlot) if a cluster keeps them in different slots; and as every call.
    pub async fn transfer(&self, from: &str, to: &str, amount: i64) -> Result<Result<Balances, InsufficientBalance>> {
        check_key(from)?;
        check_key(to)?;
        positive("the amount", amount)?;
        if from == to {
            return Err(Error::new(ErrorKind::Invalid, "a transfer needs two keys"));
        }
        Ok(match self.store.transfer(from, to, amount, self.expiry).await? {
            Step::Done(balances) => Ok(balances),
            Step::Refused(balance) => Err(InsufficientBalance { balance }),
        })
    }

    /// Sets the counter, with the whole ttl.
    ///
    /// # Errors
    /// As every call: what holds no integer isn't overwritten.
    pub async fn set(&self, key: &str, value: i64) -> Result<()> {
        self.get_and_set(key, value).await.map(drop)
    }

    /// Sets the counter, with the whole ttl; what it held before.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_and_set(&self, key: &str, value: i64) -> Result<Option<i64>> {
        check_key(key)?;
        self.store.replace(key, value, self.expiry).await
    }

    /// Sets the counter if it is missing; `true` if it was set.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_if_absent(&self, key: &str, value: i64) -> Result<bool> {
        Ok(self.compare_and_swap(key, None, value).await?.is_ok())
    }

    /// Sets the counter, with the whole ttl, if it holds `expected`; `None` expects that it is missing. The inner
    /// result tells what it holds instead.
    ///
    /// # Errors
    /// As every call.
    pub async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<i64>,
        value: i64,
    ) -> Result<Result<(), Changed<i64>>> {
        check_key(key)?;
        let expected = expected.map(text);
        Ok(match self.store.exchange(key, expected.as_ref(), Some(text(value)), self.expiry.millis()).await? {
            Exchanged::Done => Ok(()),
            Exchanged::Changed(current) => Err(Changed { current: current.as_deref().map(integer).transpose()? }),
        })
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("store", &self.store.name()).field("expiry", &self.expiry).finish()
    }
}

fn text(value: i64) -> Bytes {
    value.to_string().into()
}

fn positive(what: &str, n: i64) -> Result<()> {
    if n > 0 { Ok(()) } else { Err(Error::new(ErrorKind::Invalid, format!("{what} is below 1"))) }
}
