//! Sessions of the crate `tower-sessions`, kept here.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use cache_core::recipe::session::SessionName;
use cache_core::recipe::value::{Exchanged, ValueStore};
use cache_core::{MAX_TTL, Result, check_key, check_ttl, check_value};
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{self, Error, SessionStore};

/// A store for the layer of `tower-sessions`: an application that uses it changes the store and nothing else.
///
/// A session is one key, named by a hash of its id, so the store does not know the id; it holds json and lives until
/// the session's expiry date. Each call is one round trip. A session that was deleted or has expired is not revived by
/// a request that was under way and saves it later.
///
/// An error of the store is a `Backend` error; it names neither id nor data.
#[derive(Clone)]
pub struct TowerSessions {
    store: Arc<dyn ValueStore>,
    prefix: Arc<str>,
}

impl TowerSessions {
    /// Sessions in `store` under keys that begin with `tower`.
    #[must_use]
    pub fn new(store: impl ValueStore) -> Self {
        Self { store: Arc::new(store), prefix: "tower".into() }
    }

    /// The same under keys that begin with `prefix`: two applications on one server take two.
    ///
    /// # Errors
    /// `Invalid` if it is no key, or too long for one.
    pub fn prefix(self, prefix: &str) -> Result<Self> {
        check_key(prefix)?;
        check_key(&format!("{prefix}:{}", SessionName::of(b"")))?;
        Ok(Self { prefix: prefix.into(), ..self })
    }

    fn key(&self, id: Id) -> String {
        format!("{}:{}", self.prefix, SessionName::of(&id.0.to_le_bytes()))
    }

    /// What is stored of a record: data and expiry date. The id isn't.
    fn encode(&self, record: &Record) -> session_store::Result<Vec<u8>> {
        let bytes =
            serde_json::to_vec(&(&record.data, &record.expiry_date)).map_err(|e| Error::Encode(e.to_string()))?;
        check_value(bytes.len(), self.store.max_value()).map_err(backend)?;
        Ok(bytes)
    }
}

/// The time that `record` has left in ms; 0 if it has expired.
fn left(record: &Record) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = u64::try_from(record.expiry_date.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let left = Duration::from_millis(end).saturating_sub(now).min(MAX_TTL);
    check_ttl(left).unwrap_or(0)
}

#[async_trait]
impl SessionStore for TowerSessions {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        let (bytes, ttl) = (self.encode(record)?, left(record));
        if ttl == 0 {
            return Ok(());
        }
        // an id that is taken is another visitor's
        while self.store.exchange(&self.key(record.id), None, Some(bytes.clone().into()), ttl).await.map_err(backend)?
            != Exchanged::Done
        {
            record.id = Id::default();
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        let (bytes, ttl) = (self.encode(record)?, left(record));
        if ttl == 0 {
            return self.delete(&record.id).await;
        }
        self.store.overwrite(&self.key(record.id), bytes.into(), true, ttl).await.map_err(backend)?;
        Ok(())
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        let Some(bytes) = self.store.get(&self.key(*id)).await.map_err(backend)? else { return Ok(None) };
        let (data, expiry_date) = serde_json::from_slice(&bytes).map_err(|e| Error::Decode(e.to_string()))?;
        let record = Record { id: *id, data, expiry_date };
        Ok((left(&record) > 0).then_some(record))
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.store.delete(&self.key(*id)).await.map_err(backend)?;
        Ok(())
    }
}

fn backend(error: impl Display) -> Error {
    Error::Backend(error.to_string())
}

impl fmt::Debug for TowerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessions").field("store", &self.store.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
