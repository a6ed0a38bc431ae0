//! Filling the near tier before the first caller comes.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::future::Future;
use std::sync::Arc;

use cache_core::{Error, ErrorKind, Result};

use crate::cache::{BoxError, Cache};
use crate::consistency::Consistency;
use crate::engine::join_all;
use crate::{CacheKey, key_list};

/// The keys of one far round trip, and how many of those are under way at once.
const CHUNK: usize = 256;
const AT_ONCE: usize = 4;

/// What a warm-up came to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Warmed {
    /// Keys that are near now, or were already; remembered "there is nothing" included.
    pub found: usize,
    /// Keys that were found or loaded and are not near: larger than [`near_max`](crate::Policy::near_max), kept out by their
    /// loader ([`far_only`](crate::Loaded::far_only)), or pushed out by others.
    pub not_near: usize,
    /// Keys that are in no tier.
    pub missing: usize,
    /// Keys that could not be asked for or loaded.
    pub failed: usize,
    /// Keys that were not asked for because the near store was full.
    pub skipped: usize,
    /// The first error.
    pub error: Option<Error>,
}

impl Warmed {
    /// Counts what keys came to; `is_near` tells of one by its place.
    fn count<T>(&mut self, results: Vec<Result<Option<T>>>, is_near: impl Fn(usize) -> bool) {
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(Some(_)) if is_near(index) => self.found += 1,
                Ok(Some(_)) => self.not_near += 1,
                Ok(None) => self.missing += 1,
                Err(error) => self.fail(1, error),
            }
        }
    }

    fn fail(&mut self, keys: usize, error: Error) {
        self.failed += keys;
        self.error.get_or_insert(error);
    }
}

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    /// Fetches what the far store holds of `keys` into the near tier; loads nothing. One round trip for 256 keys, four of
    /// them at once. Stops when the near store is full: name what matters most first.
    ///
    /// A key's error hides no other's result: it is counted, and the first is told. Without a near store to fill all keys
    /// have failed, with `Config`, and nobody was asked. May be dropped at any await: what was fetched stays.
    pub async fn warm_up(&self, keys: &[&K]) -> Warmed {
        let mut warmed = Warmed::default();
        if let Err(error) = self.fills_near() {
            warmed.fail(keys.len(), error);
            return warmed;
        }
        let mut texts = Vec::with_capacity(keys.len());
        for key in keys {
            match self.text(key) {
                Ok(text) => texts.push(text.into()),
                Err(error) => warmed.fail(1, error),
            }
        }
        self.fetch(&texts, &mut warmed).await;
        warmed
    }

    /// As [`warm_up`](Self::warm_up); what is in neither tier is loaded, as by
    /// [`get_many_or_load`](Self::get_many_or_load), 256 keys at a time.
    pub async fn warm_up_or_load<Q, F, Fut, I, E>(&self, keys: &[Q], loader: F) -> Warmed
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, V)>,
        E: Into<BoxError> + 'static,
    {
        let mut warmed = Warmed::default();
        if let Err(error) = self.fills_near() {
            warmed.fail(keys.len(), error);
            return warmed;
        }
        let loader = Arc::new(loader);
        for chunk in keys.chunks(CHUNK) {
            if self.is_full() {
                warmed.skipped += chunk.len();
                continue;
            }
            let loader = Arc::clone(&loader);
            let load = move |keys: Vec<Q>| loader(keys);
            let results = self.get_many_or_load(chunk, load).await;
            warmed.count(results, |index| self.text(chunk[index].borrow()).is_ok_and(|text| self.is_near(&text)));
        }
        warmed
    }

    /// The keys of this key space that the near store holds, at most `most`, the hottest first, as bytes for
    /// [`import`](Self::import) in a process to come. No values: those are fetched anew, so nothing is served that was not
    /// confirmed. The keys are in it as they are; keep it where you would keep them.
    ///
    /// How hot a key is is known where [`track_heat`](crate::TieredBuilder::track_heat) is on; else, and among keys that
    /// are alike, the newest come first. At most 64 MiB. Walks over the whole near store: not for a hot path.
    #[must_use]
    pub fn export(&self, most: usize) -> Vec<u8> {
        let engine = self.engine();
        let mut held = Vec::new();
        if let Some(near) = &engine.near {
            near.each(&mut |key, entry| {
                if key.starts_with(self.head.as_str()) && engine.clock.now() < entry.deadline() {
                    held.push((key.to_owned(), entry.header().created));
                }
                true
            });
        }
        let heat = engine.monitor.as_ref().map(|monitor| monitor.heat()).unwrap_or_default();
        held.sort_by_cached_key(|(key, created)| Reverse((heat.get(key.as_str()).copied().unwrap_or(0), *created)));
        key_list::write(
            &engine.names.shared(self.head.as_str()),
            self.head.as_str(),
            held.iter().take(most).map(|(key, _)| key.as_str()),
        )
    }

    /// Fetches the keys that another process [exported](Self::export), as [`warm_up`](Self::warm_up) does: from the far
    /// store, which decides what is still valid. Call it before the process reports that it is ready.
    ///
    /// # Errors
    /// `Invalid` for bytes that were cut or changed, are of another version, or of another namespace or key space;
    /// `Config` without a near store to fill or a far store to ask.
    pub async fn import(&self, bytes: &[u8]) -> Result<Warmed> {
        let engine = self.engine();
        engine.open()?;
        if engine.near.is_none() || engine.far.is_none() {
            let text = "an import fetches values from the far store into the near one; give the cache both";
            return Err(Error::new(ErrorKind::Config, text).with_operation("import"));
        }
        let texts = key_list::read(&engine.names.shared(self.head.as_str()), self.head.as_str(), bytes)?;
        let texts: Vec<Arc<str>> = texts.into_iter().map(Arc::from).collect();
        let mut warmed = Warmed::default();
        self.fetch(&texts, &mut warmed).await;
        Ok(warmed)
    }

    async fn fetch(&self, texts: &[Arc<str>], warmed: &mut Warmed) {
        for wave in texts.chunks(CHUNK * AT_ONCE) {
            if self.is_full() {
                warmed.skipped += wave.len();
                continue;
            }
            let chunks = wave.chunks(CHUNK);
            let reads = chunks.map(|chunk| self.engine().get_many(chunk, &self.space, Consistency::Local));
            for (chunk, results) in wave.chunks(CHUNK).zip(join_all(reads).await) {
                warmed.count(results, |index| self.is_near(&chunk[index]));
            }
        }
    }

    /// # Errors
    /// `Config` without a near store.
    fn fills_near(&self) -> Result<()> {
        if self.engine().near.is_some() {
            return Ok(());
        }
        let text = "a warm-up fills the near store and there is none; give the cache one";
        Err(Error::new(ErrorKind::Config, text).with_operation("warm_up"))
    }

    fn is_near(&self, text: &str) -> bool {
        self.engine().near.as_ref().is_some_and(|near| near.get(text).is_some())
    }

    /// Whether what is fetched next would push out what was fetched before.
    fn is_full(&self) -> bool {
        self.engine().near.as_ref().is_some_and(|near| {
            near.settle();
            near.weight() >= near.budget() / 10 * 9
        })
    }
}
