//! Atomic values.

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::Result;
use cache_core::recipe::value::{Exchanged, ValueStore};

use crate::script;
use crate::service::Redis;

#[async_trait]
impl ValueStore for Redis {
    async fn swap(&self, key: &str, value: Bytes, ttl_ms: u64) -> Result<Option<Bytes>> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(&value[..]).arg("GET").arg("PX").arg(ttl_ms);
        self.link().call("swap", &command).await
    }

    async fn overwrite(&self, key: &str, value: Bytes, if_present: bool, ttl_ms: u64) -> Result<bool> {
        let call = script::OVERWRITE.on(&[key]).arg(if_present).arg(&value[..]).arg(ttl_ms);
        call.run(self.link(), "overwrite").await
    }

    async fn exchange(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        value: Option<Bytes>,
        ttl_ms: u64,
    ) -> Result<Exchanged> {
        let call = script::EXCHANGE.on(&[key]);
        let call = call.arg(expected.is_some()).arg(expected.map_or(&b""[..], |bytes| bytes));
        let call = call.arg(value.is_some()).arg(value.as_deref().unwrap_or_default()).arg(ttl_ms);
        let (done, held): (bool, Option<Bytes>) = call.run(self.link(), "exchange").await?;
        Ok(if done { Exchanged::Done } else { Exchanged::Changed(held) })
    }
}
