//! [`Atomic`] of a [`Memory`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use crate::{Atomic, Error, ErrorKind, Result, check_key, check_ttl, check_value};

#[async_trait]
impl Atomic for Memory {
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool> {
        self.run("set_if_absent", |state| {
            check_key(key)?;
            check_value(value.len(), self.limit())?;
            let ttl = check_ttl(ttl)?;
            let absent = !state.has(key);
            if absent {
                state.put(key, value, ttl);
            }
            Ok(absent)
        })
    }

    async fn compare_and_set(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        self.run("compare_and_set", |state| {
            check_key(key)?;
            check_value(value.len(), self.limit())?;
            let ttl = check_ttl(ttl)?;
            let equal = state.bytes(key)?.as_ref() == Some(expected);
            if equal {
                state.put(key, value, ttl);
            }
            Ok(equal)
        })
    }

    async fn compare_and_delete(&self, key: &str, expected: &Bytes) -> Result<bool> {
        self.run("compare_and_delete", |state| {
            check_key(key)?;
            Ok(state.bytes(key)?.as_ref() == Some(expected) && state.remove(key))
        })
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        self.run("add", |state| {
            check_key(key)?;
            let ttl = check_ttl(ttl)?;
            let Some(held) = state.bytes(key)? else {
                state.put(key, by.to_string().into(), ttl);
                return Ok(by);
            };
            let sum = integer(&held)?.checked_add(by).ok_or_else(overflow)?;
            state.replace(key, sum.to_string().into());
            Ok(sum)
        })
    }
}

/// The integer that `text` spells exactly as it would be written: no sign `+`, no leading zeros, no spaces.
pub(crate) fn integer(text: &[u8]) -> Result<i64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    parsed
        .filter(|n| n.to_string().as_bytes() == text)
        .ok_or_else(|| Error::new(ErrorKind::Conflict, "the key holds no integer"))
}

pub(super) fn overflow() -> Error {
    Error::new(ErrorKind::Conflict, "the counter would overflow")
}
