//! Writing and invalidating through a typed cache.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{Change, Entry, Error, ErrorKind, Result};

use crate::engine::{Where, Wish, refused};
use crate::loaded::Loaded;
use crate::write_guard::WriteGuard;
use crate::{Cache, CacheKey, Update};

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
    /// `TooLarge`, `Codec` and `Invalid` before anything is touched; `Overloaded` if the far store had no room for it; what
    /// the far store says.
    pub async fn set(&self, key: &K, value: V) -> Result<()> {
        self.store(key, Loaded::value(value)).await
    }

    /// As [`set`](Self::set) with a ttl, tags and a row version of its own.
    ///
    /// # Errors
    /// As [`set`](Self::set); `Invalid` for what is [`unstored`](Loaded::unstored).
    pub async fn store(&self, key: &K, loaded: Loaded<V>) -> Result<()> {
        let at = self.engine().place(&self.text(key)?)?;
        if !loaded.store {
            let text = "the value is marked as not to be stored; drop the mark, or invalidate the key";
            return Err(Error::new(ErrorKind::Invalid, text).with_operation("set"));
        }
        let produced = self.reader.encode(loaded)?;
        if let Some(ttl) = produced.ttl {
            cache_core::check_ttl(ttl)?;
        }
        let stored = self.engine().put_behind(at, produced, &self.space).await?;
        if stored { Ok(()) } else { Err(refused("set")) }
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
    /// later, and the outage window more, in which a process that can't hear the far store may serve it marked. Where every
    /// process of the namespace is built with `outage(Duration::ZERO)`, that is the bound.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_settled(&self, key: &K) -> Result<()> {
        self.invalidate(key).await?;
        tokio::time::sleep(self.engine().settles_after()).await;
        Ok(())
    }

    /// As [`invalidate`](Self::invalidate), except that the value may still be served as a fallback, marked stale, while
    /// loads of the key fail: for a change that makes a value old, not wrong. One round trip.
    ///
    /// The fallback is kept for the policy's fail-safe span from now, and never longer than it would have been. Where the
    /// policy has no fail-safe, and where the far store can't number changes, it is an `invalidate`. A value that is
    /// invalidated is never a fallback, whichever came first. Tags are only [invalidated](crate::Tiered::invalidate_tag).
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate); what is retried in the background is then an invalidation.
    pub async fn expire(&self, key: &K) -> Result<()> {
        self.expire_many(&[key]).await
    }

    /// As [`expire`](Self::expire) for many keys: one round trip.
    ///
    /// # Errors
    /// As [`expire`](Self::expire).
    pub async fn expire_many(&self, keys: &[&K]) -> Result<()> {
        let grace = self.space.policy.grace();
        let change = if grace.is_zero() { Change::Delete } else { Change::Soften { grace } };
        self.engine().change(self.places(keys)?, change).await.map(|_| ())
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
        let until = self.engine().clock.now() + hold;
        self.engine().change(places.clone(), Change::Hold { hold }).await?;
        Ok(WriteGuard::new(self.tiered().clone(), places, until))
    }

    /// Stores a value read or written with the row's `version`, unless the far store holds the same version or a newer
    /// one; says whether it was stored. One round trip.
    ///
    /// Stored, it is as good as a `set`. `false` is as good as an [`invalidate`](Self::invalidate) of everything older than
    /// `version`: the newer value stays in the far store, and every process reads it there before it serves the key again.
    ///
    /// # Errors
    /// As [`set`](Self::set), `Overloaded` too if the value was refused: then the key is missing, and there was no newer
    /// version. `Invalid` for version 0, which stands for "none"; `Config` for a far store that can't number changes.
    pub async fn set_versioned(&self, key: &K, value: V, version: u32) -> Result<bool> {
        if version == 0 {
            return Err(Error::new(ErrorKind::Invalid, "row version 0 stands for none; count from 1"));
        }
        let at = self.engine().place(&self.text(key)?)?;
        let produced = self.reader.encode(Loaded::value(value).row(version))?;
        self.engine().put_newer(at, produced, &self.space.policy).await
    }

    /// Read-modify-write that loses no update: gives `f` the value under `key`, or `None`, and does what it says, unless
    /// somebody changed the value meanwhile; then `f` runs again on what is there now. Returns the value that stands then.
    ///
    /// The value is read from the far store, never near: two round trips a try, one if `f` leaves things as they are.
    /// `f` is given `None` for a miss, a remembered "there is nothing", and a value that is expired, evicted or
    /// invalidated. It should compute from what it is given alone: what it reads elsewhere may be older than an
    /// invalidation that came meanwhile; for that there are [`get_or_load`](Self::get_or_load) and
    /// [`write_guard`](Self::write_guard). While the key is under a `write_guard`, updates wait.
    ///
    /// May be dropped at any await: the update is then done, or not at all.
    ///
    /// ```
    /// # use cache_core::{Memory, codec::Raw, memory::LocalMemory};
    /// # use cache_tiered::{Tiered, Update};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cache_core::Result<()> {
    /// let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).far(Memory::new()).build().await?;
    /// let logs = tiered.cache::<String>("logs").codec(Raw).build()?;
    /// logs.set("today", "up".into()).await?;
    /// let log = logs
    ///     .update("today", |log| match log {
    ///         Some(log) => Update::from(format!("{log}, down")),
    ///         None => Update::Leave,
    ///     })
    ///     .await?;
    /// assert_eq!(log.unwrap().as_str(), "up, down");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Conflict` if the value kept changing, or stayed under a guard, for 5 s; `Invalid`, `Codec` and `TooLarge` as
    /// [`set`](Self::set); what the far store says: after `Timeout` the update may have been done or not. `Config` for a
    /// far store that can't compare. An update that failed invalidates nothing: where it followed a change of the row,
    /// [`invalidate`](Self::invalidate) the key.
    pub async fn update<F>(&self, key: &K, mut f: F) -> Result<Option<Arc<V>>>
    where
        F: FnMut(Option<Arc<V>>) -> Update<V> + Send,
    {
        let at = self.engine().place(&self.text(key)?)?;
        let mut stands = None;
        let mut step = |held: Option<&Entry>| {
            let old = held.and_then(|entry| self.reader.read(entry)).flatten();
            let (wish, then) = match f(old.clone()) {
                Update::Store(loaded) if loaded.store => {
                    let produced = self.reader.encode(loaded)?;
                    if let Some(ttl) = produced.ttl {
                        cache_core::check_ttl(ttl)?;
                    }
                    let value = produced.decoded.clone().and_then(|value| value.downcast::<V>().ok());
                    (Wish::Store(produced), value)
                }
                Update::Remove => (Wish::Remove, None),
                Update::Store(_) | Update::Leave => (Wish::Leave, old),
            };
            stands = then;
            Ok(wish)
        };
        self.engine().update(&at, &self.space, &mut step).await?;
        Ok(stands)
    }

    fn places(&self, keys: &[&K]) -> Result<Vec<Where>> {
        keys.iter().map(|key| self.engine().place(&self.text(key)?)).collect()
    }
}
