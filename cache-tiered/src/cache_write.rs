//! Writing and invalidating through a typed cache.

use std::time::Duration;

use cache_core::{Change, Error, ErrorKind, Result};

use crate::engine::Where;
use crate::loaded::Loaded;
use crate::write_guard::WriteGuard;
use crate::{Cache, CacheKey};

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    /// Stores a value for everybody, in the far store's order. One round trip.
    ///
    /// When it returns, no process reads an older value from the far store, this one reads none at all, and others read
    /// none after the bound. If the store refuses the value, the key is left missing, never with an old value.
    ///
    /// # Errors
    /// `TooLarge`, `Codec` and `Invalid` before anything is touched; what the far store says.
    pub async fn set(&self, key: &K, value: V) -> Result<()> {
        self.store(key, Loaded::value(value)).await
    }

    /// As [`set`](Self::set) with a ttl, tags and a row version of its own.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn store(&self, key: &K, loaded: Loaded<V>) -> Result<()> {
        let at = self.engine().names.locate(&self.text(key)?)?;
        let produced = self.reader.encode(loaded)?;
        if let Some(ttl) = produced.ttl {
            cache_core::check_ttl(ttl)?;
        }
        let applied = self.engine().put(at, produced, &self.space.policy).await?;
        if applied.stored {
            return Ok(());
        }
        let text = "the far store removed the old value and refused the new one; its memory may be full";
        Err(Error::new(ErrorKind::Overloaded, text).with_operation("set"))
    }

    /// Never serve the value under `key` again, from any tier of any process. One round trip; returns when it is
    /// acknowledged.
    ///
    /// After it returned, this process serves nothing older, other processes serve nothing older than the bound, and no
    /// load that began before it is stored.
    ///
    /// # Errors
    /// What the far store says: the key is then invalid in this process, and is retried in the background for the
    /// others.
    pub async fn invalidate(&self, key: &K) -> Result<()> {
        self.invalidate_many(&[key]).await
    }

    /// As [`invalidate`](Self::invalidate) for many keys: one round trip.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_many(&self, keys: &[&K]) -> Result<()> {
        self.engine().change(self.places(keys)?, Change::Delete).await.map(|_| ())
    }

    /// As [`invalidate`](Self::invalidate), and returns when every process has stopped serving the old value: the bound
    /// later.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_settled(&self, key: &K) -> Result<()> {
        self.invalidate(key).await?;
        tokio::time::sleep(self.engine().options.bound).await;
        Ok(())
    }

    /// Guards a write of the rows behind `keys`: until [`commit`](WriteGuard::commit), for `hold` at most, loads of them
    /// go to the origin and nothing is kept, in any process. One round trip, and one for the commit.
    ///
    /// It closes two windows of "write, then invalidate": a load that reads a lagging replica, or before the commit, is
    /// not kept; and a process that dies between commit and invalidation leaves no old value, if `hold` outlasts the
    /// transaction. Call it before the transaction commits.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate); then don't commit.
    pub async fn write_guard(&self, keys: &[&K], hold: Duration) -> Result<WriteGuard> {
        cache_core::check_ttl(hold)?;
        let places = self.places(keys)?;
        self.engine().change(places.clone(), Change::Hold { hold }).await?;
        Ok(WriteGuard::new(self.tiered().clone(), places))
    }

    /// Stores a value read or written with the row's `version`, unless the far store holds the same version or a newer
    /// one; says whether it was stored. One round trip.
    ///
    /// # Errors
    /// As [`set`](Self::set); `Invalid` for version 0, which stands for "none".
    pub async fn set_versioned(&self, key: &K, value: V, version: u32) -> Result<bool> {
        if version == 0 {
            return Err(Error::new(ErrorKind::Invalid, "row version 0 stands for none; count from 1"));
        }
        let at = self.engine().names.locate(&self.text(key)?)?;
        let produced = self.reader.encode(Loaded::value(value).row(version))?;
        Ok(self.engine().put_newer(at, produced, &self.space.policy).await?.stored)
    }

    fn places(&self, keys: &[&K]) -> Result<Vec<Where>> {
        keys.iter().map(|key| self.engine().names.locate(&self.text(key)?)).collect()
    }
}
