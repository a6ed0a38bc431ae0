//! Loads that see what they replace, policies per call, and looks without side effects.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, Result};

use crate::answer::Answer;
use crate::cache::{BoxError, Probed};
use crate::consistency::Consistency;
use crate::known::Known;
use crate::loaded::{Loaded, Loader};
use crate::policy::{Policy, all_mistakes};
use crate::{Cache, CacheKey};

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    /// As [`load_with`](Self::load_with) with a loader that sees the value that it would replace, and may answer
    /// [`Loaded::unchanged`]: for origins that tell cheaply whether something changed, such as HTTP with `ETag` and
    /// `If-None-Match`.
    ///
    /// There is such a value while it is refreshed ahead, and past its ttl with fail-safe; never one that was invalidated.
    ///
    /// # Errors
    /// As [`load_with`](Self::load_with); `Loader` for `unchanged()` where nothing was known.
    pub async fn load_if<F, Fut, E>(&self, key: &K, loader: F) -> Result<Answer<V>>
    where
        F: FnOnce(Option<Known<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let mut due = None;
        match self.probe(key, |key| self.near_answer(key, Some(&mut due)))? {
            Probed::Hit(answer) => {
                if let Some(due) = due {
                    self.refresh(due, self.erase_known(loader));
                }
                Ok(answer)
            }
            Probed::Miss(text) => Box::pin(self.load_slow(text, self.erase_known(loader))).await,
        }
    }

    fn erase_known<F, Fut, E>(&self, loader: F) -> Loader
    where
        F: FnOnce(Option<Known<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let reader = Arc::clone(&self.reader);
        Box::new(move |old| {
            Box::pin(async move {
                let known = old.as_deref().and_then(|old| reader.known(old));
                let loaded = loader(known).await.map_err(Error::loader)?;
                reader.encode_over(loaded, old.as_deref())
            })
        })
    }

    /// The same cache with a policy that differs by what `change` does to it, for calls that want something else than
    /// the space's default.
    ///
    /// # Errors
    /// `Config` that lists every mistake in the changed policy.
    pub fn with_policy(&self, change: impl FnOnce(Policy) -> Policy) -> Result<Self> {
        let policy = change(self.space.policy.clone());
        let mut found = policy.mistakes_among(self.engine().around());
        found.extend(self.space.origin.iter().flat_map(|gate| gate.options().mistakes(policy.timeouts.hard)));
        all_mistakes(&found)?;
        Ok(Self { space: self.space.under(policy), ..self.clone() })
    }

    /// What is stored under `key`, without side effects: nothing is loaded, installed, refreshed, prolonged or counted.
    /// `None` is a miss. At most one round trip.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn peek(&self, key: &K) -> Result<Option<Answer<V>>> {
        let text = self.text(key)?;
        let local = self.consistency() == Consistency::Local;
        let Some(served) = self.engine().peek(&text, &self.space, local).await? else { return Ok(None) };
        self.told(&served).map(Some)
    }

    /// Whether there is something under `key`, be it a remembered "there is nothing". Without side effects; at most one
    /// round trip.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn has(&self, key: &K) -> Result<bool> {
        self.peek(key).await.map(|answer| answer.is_some())
    }

    /// How long what is under `key` is fresh yet, in the tier that would answer; `None` for a miss. Without side effects;
    /// at most one round trip.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn time_left(&self, key: &K) -> Result<Option<Duration>> {
        let text = self.text(key)?;
        let engine = self.engine();
        let served = engine.peek(&text, &self.space, self.consistency() == Consistency::Local).await?;
        Ok(served.map(|served| served.entry.deadline().since(engine.clock.now())))
    }
}
