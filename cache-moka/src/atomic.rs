//! [`Atomic`] of a [`Moka`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, Entry, Error, ErrorKind, Parted, Result, check_key, check_ttl};

use crate::Moka;
use crate::store::Alone;

impl Alone<'_> {
    /// The live entry under `key`. Nobody replaces it while this is held; that it may be evicted looks as if it had
    /// been before.
    fn held(&self, key: &str) -> Option<Arc<Entry>> {
        self.store.held(&Parted::cut(key)).filter(|entry| self.store.is_live(entry))
    }

    fn holds(&self, key: &str, expected: &Bytes) -> bool {
        self.held(key).is_some_and(|entry| entry.payload() == expected)
    }
}

#[async_trait]
impl Atomic for Moka {
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool> {
        let ttl = Self::at("set_if_absent", self.check(key, &value, ttl))?;
        Ok(self.put_if(key, |alone| alone.held(key).is_none().then(|| self.entry(value, ttl))))
    }

    async fn compare_and_set(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let ttl = Self::at("compare_and_set", self.check(key, &value, ttl))?;
        Ok(self.put_if(key, |alone| alone.holds(key, expected).then(|| self.entry(value, ttl))))
    }

    async fn compare_and_delete(&self, key: &str, expected: &Bytes) -> Result<bool> {
        Self::at("compare_and_delete", check_key(key))?;
        let alone = self.alone(key);
        Ok(alone.holds(key, expected) && alone.remove(key).is_some())
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        Self::at("add", self.add_to(key, by, ttl))
    }
}

impl Moka {
    /// Stores what `decide` gives, if anything; whether it did.
    fn put_if(&self, key: &str, decide: impl FnOnce(&Alone<'_>) -> Option<Arc<Entry>>) -> bool {
        let alone = self.alone(key);
        let Some(entry) = decide(&alone) else { return false };
        let weight = entry.weight(key.len());
        alone.put(key, entry);
        drop(alone);
        self.wrote(weight);
        true
    }

    fn add_to(&self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        check_key(key)?;
        let ttl = check_ttl(ttl)?;
        let alone = self.alone(key);
        let (sum, deadline) = match alone.held(key) {
            Some(counter) => (integer(counter.payload())?.checked_add(by), counter.deadline()),
            None => (Some(by), self.clock.now() + Duration::from_millis(ttl)),
        };
        let sum = sum.ok_or_else(|| Error::new(ErrorKind::Conflict, "the counter would overflow"))?;
        alone.put(key, Arc::new(Entry::plain(sum.to_string().into(), deadline)));
        Ok(sum)
    }
}

/// The integer that `text` spells exactly as it would be written: no sign `+`, no leading zeros, no spaces.
fn integer(text: &[u8]) -> Result<i64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    parsed
        .filter(|n| n.to_string().as_bytes() == text)
        .ok_or_else(|| Error::new(ErrorKind::Conflict, "the key holds no integer"))
}
