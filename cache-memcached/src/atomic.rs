//! [`Atomic`] by compare-and-swap.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, CacheService, Result, check_key, check_ttl, check_value};

use crate::Memcached;
use crate::item::{Edit, Until, no_integer};
use crate::reply::Reply;
use crate::request::{Request, When};

#[async_trait]
impl Atomic for Memcached {
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool> {
        self.run("set_if_absent", async |attempt| {
            check_key(key)?;
            check_value(value.len(), self.max_value())?;
            let ttl = check_ttl(ttl)?;
            let add = Request::default().set(key, &value, self.time().expiry(ttl), When::Absent);
            let [added, there] = self.ask(add.get(key), attempt).await?;
            match added {
                Reply::Done(_) => return Ok(true),
                Reply::Refused(error) => return Err(error),
                _ => {}
            }
            let slot = self.slot(there)?;
            self.edit_from(slot, key, attempt, |held| {
                Ok(match held {
                    Some(_) => Edit::Leave(false),
                    None => Edit::Store(value.clone(), Until::Ttl(ttl), true),
                })
            })
            .await
        })
        .await
    }

    async fn compare_and_set(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        self.run("compare_and_set", async |attempt| {
            check_key(key)?;
            check_value(value.len(), self.max_value())?;
            let ttl = check_ttl(ttl)?;
            self.edit(key, attempt, |held| {
                Ok(match held {
                    Some(item) if item.value == expected => Edit::Store(value.clone(), Until::Ttl(ttl), true),
                    _ => Edit::Leave(false),
                })
            })
            .await
        })
        .await
    }

    async fn compare_and_delete(&self, key: &str, expected: &Bytes) -> Result<bool> {
        self.run("compare_and_delete", async |attempt| {
            check_key(key)?;
            self.edit(key, attempt, |held| {
                Ok(match held {
                    Some(item) if item.value == expected => Edit::Remove(true),
                    _ => Edit::Leave(false),
                })
            })
            .await
        })
        .await
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        self.run("add", async |attempt| {
            check_key(key)?;
            let ttl = check_ttl(ttl)?;
            self.edit(key, attempt, |held| {
                let (before, until) = match held {
                    Some(item) => (integer(&item.value).ok_or_else(no_integer)?, Until::Before),
                    None => (0, Until::Ttl(ttl)),
                };
                let sum = before.checked_add(by).ok_or_else(no_integer)?;
                Ok(Edit::Store(sum.to_string().into(), until, sum))
            })
            .await
        })
        .await
    }
}

/// A decimal integer, as every store of ours writes it: no sign but a minus, no space.
fn integer(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.starts_with('+') { None } else { text.parse().ok() }
}
