//! The tiered cache as a store of bytes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{CacheService, Change, Error, ErrorKind, Result, Tags, check_key, check_ttl, check_value};

use crate::Tiered;
use crate::answer::Served;
use crate::consistency::Consistency;
use crate::engine::{FarNames, Payloads, Where};
use crate::loaded::Produced;
use crate::policy::{NEAR_MAX, Policy};
use crate::space::Space;

/// The id that frames of plain bytes carry: the raw codec, no schema.
const RAW: u32 = 1;

/// Plain bytes keep the ttl that they were set with, as far as the namespace's `max_ttl` goes.
static SPACE: LazyLock<Arc<Space>> = LazyLock::new(|| {
    // a value of the largest size has room beside its key and its bookkeeping: near may be all there is
    let near_max = NEAR_MAX + 4096;
    let policy = Policy { ttl: cache_core::MAX_TTL, jitter: 0.0, ..Policy::default() }.near_max(near_max);
    Arc::new(Space {
        policy,
        max_batch: usize::MAX,
        origin: None,
        gathered: false,
        accepts: Box::new(|entry| entry.header().codec == RAW && !entry.header().is_negative()),
    })
});

impl Tiered {
    /// The near form of a plain key: they live in a space without a name.
    fn plain(&self, key: &str) -> Result<String> {
        check_key(key)?;
        Ok(self.engine().names.near_of_plain(key))
    }

    fn place(&self, key: &str) -> Result<Where> {
        self.engine().place(&self.plain(key)?)
    }

    /// The values under `keys` where there is no near store.
    async fn get_many_bare(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let engine = self.engine();
        engine.open()?;
        let mut names = FarNames::with_capacity(keys.len(), keys.first().map_or(0, |key| key.len()));
        for key in keys {
            check_key(key)?;
            names.push_plain(engine, key)?;
        }
        engine.read_names(&names, &Payloads { space: &SPACE, codec: RAW }).await.into_iter().collect()
    }
}

fn payload(served: Option<Served>) -> Option<Bytes> {
    served.map(|served| served.entry.payload().clone())
}

#[async_trait]
impl CacheService for Tiered {
    fn name(&self) -> &'static str {
        "tiered"
    }

    fn max_value(&self) -> usize {
        // a frame is a header of 48 bytes and a seal of 8 longer than its value
        self.engine()
            .far
            .as_ref()
            .map_or(cache_core::DEFAULT_MAX_VALUE, |far| far.store().max_value().saturating_sub(56))
    }

    fn max_key(&self) -> usize {
        self.engine().names.max_key("")
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let engine = self.engine();
        if engine.reads_bare() {
            check_key(key)?;
            engine.open()?;
            let (line, name) = engine.names.far_of_plain(key)?;
            return engine.read_name(line, name, &Payloads { space: &SPACE, codec: RAW }).await;
        }
        let near = self.plain(key)?.into();
        Ok(payload(Box::pin(engine.get(&near, &SPACE)).await?))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let at = self.place(key)?;
        let ttl = Duration::from_millis(check_ttl(ttl)?);
        check_value(value.len(), self.max_value())?;
        let produced = Produced {
            payload: Some(value),
            decoded: None,
            codec: RAW,
            ttl: Some(ttl),
            tags: Tags::default(),
            row: 0,
            store: true,
            noted: false,
            far_only: false,
        };
        let applied = self.engine().put(at, produced, &SPACE.policy).await?;
        if applied.stored {
            return Ok(());
        }
        let text = "the far store removed the old value and refused the new one; its memory may be full";
        Err(Error::new(ErrorKind::Overloaded, text).with_operation("set").with_store("tiered"))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.delete_many(&[key]).await? > 0)
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let engine = self.engine();
        if engine.reads_bare() {
            return self.get_many_bare(keys).await;
        }
        let mut text = engine.names.near_prefix("");
        let prefix = text.len();
        let near = keys.iter().map(|key| {
            check_key(key)?;
            text.truncate(prefix);
            text.push_str(key);
            Ok(text.as_str().into())
        });
        let near: Vec<Arc<str>> = near.collect::<Result<_>>()?;
        let served = engine.get_many(&near, &SPACE, Consistency::Local).await;
        served.into_iter().map(|served| served.map(payload)).collect()
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        let places: Vec<Where> = keys.iter().map(|key| self.place(key)).collect::<Result<_>>()?;
        Ok(self.engine().change(places, Change::Delete).await?.removed)
    }
}
