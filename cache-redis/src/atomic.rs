//! Atomic values.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, CacheService, Result};

use crate::script;
use crate::service::{Redis, checked, millis, sized};

#[async_trait]
impl Atomic for Redis {
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool> {
        let ttl = writable(self, key, &value, ttl, "set_if_absent")?;
        let mut command = redis::cmd("SET");
        command.arg(key).arg(&value[..]).arg("NX").arg("PX").arg(ttl);
        let set: Option<()> = self.link().call("set_if_absent", &command).await?;
        Ok(set.is_some())
    }

    async fn compare_and_set(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let ttl = writable(self, key, &value, ttl, "compare_and_set")?;
        let call = script::CAS.on(&[key]).arg(&expected[..]).arg(&value[..]).arg(ttl);
        call.run(self.link(), "compare_and_set").await
    }

    async fn compare_and_delete(&self, key: &str, expected: &Bytes) -> Result<bool> {
        checked(key, "compare_and_delete")?;
        script::CAD.on(&[key]).arg(&expected[..]).run(self.link(), "compare_and_delete").await
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        checked(key, "add")?;
        let ttl = millis(ttl, "add")?;
        script::ADD.on(&[key]).arg(by).arg(ttl).run(self.link(), "add").await
    }
}

/// Checks everything about a write; its ttl in ms.
fn writable(redis: &Redis, key: &str, value: &Bytes, ttl: Duration, operation: &'static str) -> Result<u64> {
    checked(key, operation)?;
    sized(value.len(), redis.max_value(), operation)?;
    millis(ttl, operation)
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
