//! Many keys in one call of a typed cache.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use cache_core::{Error, ErrorKind, Result};

use crate::answer::{Answer, Served};
use crate::cache::{BoxError, Cache, Probed, Reader};
use crate::loaded::{Loaded, ManyLoader, Produced};
use crate::{CacheKey, KeyText};

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    /// The values under `keys`, in order: one near pass, one far round trip. A key's error hides no other's result.
    pub async fn get_many(&self, keys: &[&K]) -> Vec<Result<Option<Arc<V>>>> {
        let mut sorted = self.sort(keys, |text| self.near(text, None));
        if !sorted.texts.is_empty() {
            let served = self.engine().get_many(&sorted.texts, &self.space, self.consistency).await;
            sorted.fill(served, |found| {
                let found = found.map_err(|error| self.failed(error))?;
                self.finish_get(found).map(|answer| answer.and_then(|answer| answer.value))
            });
        }
        sorted.results()
    }

    /// The values under `keys`, in order; those in neither tier are loaded, in one call of `loader` for all that this
    /// process is the one to load.
    ///
    /// A key that the loader does not answer has nothing: its result is `Ok(None)`, remembered for the policy's
    /// `negative_ttl`. What it answers and was not asked for is dropped. Keys that are already being loaded, by another
    /// call in this process or by another process, are waited for and not asked for again; the loader runs once more for
    /// those that nobody filled after all. A call is asked for at most `max_batch` keys; more are split. A key may stand
    /// in `keys` twice.
    ///
    /// The loader runs in a task of its own and must end within the policy's `hard_timeout`. A caller that goes away
    /// does not end it while others wait for one of its keys. One near pass; one far round trip if all is found there,
    /// else three and the load.
    ///
    /// # Errors
    /// Each key has its own: `Loader` with the loader's error or panic for the keys that it was asked for; `Timeout` past
    /// the deadline; `Invalid` for a bad key. A far store that fails is no error here: the loader is run.
    ///
    /// ```
    /// # use cache_core::{Memory, codec::Raw, memory::LocalMemory};
    /// # use cache_tiered::Tiered;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cache_core::Result<()> {
    /// # let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).far(Memory::new()).build().await?;
    /// let names = tiered.cache::<String>("names").keyed::<u64>().codec(Raw).build()?;
    ///
    /// let found = names
    ///     .get_many_or_load(&[1, 2], async |ids: Vec<u64>| {
    ///         // SELECT .. WHERE id = ANY(ids)
    ///         Ok::<_, std::io::Error>(ids.into_iter().filter(|id| *id == 1).map(|id| (id, "Ada".to_owned())))
    ///     })
    ///     .await;
    /// assert_eq!(found[0].as_ref().unwrap().as_deref().map(String::as_str), Some("Ada"));
    /// assert!(found[1].as_ref().unwrap().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_many_or_load<Q, F, Fut, I, E>(&self, keys: &[Q], loader: F) -> Vec<Result<Option<Arc<V>>>>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, V)>,
        E: Into<BoxError>,
    {
        let mut sorted = self.sort(keys, |text| self.near(text, None));
        if !sorted.texts.is_empty() {
            let load = move |keys: Vec<Q>| {
                let load = loader(keys);
                async move {
                    let plain = |(key, value)| (key, Ok::<_, BoxError>(Loaded::value(value)));
                    load.await.map(|loaded| loaded.into_iter().map(plain).collect::<Vec<_>>())
                }
            };
            let loader = self.erase_many(&sorted, keys, load);
            let served = self.engine().load_many(&sorted.texts, &self.space, &loader, self.consistency).await;
            sorted.fill(served, |found| self.finish_load(found).map(|answer| answer.value));
        }
        sorted.results()
    }

    /// As [`get_many_or_load`](Self::get_many_or_load) with a loader that fails, or decides about ttl, tags and storing,
    /// key by key, and answers that tell tier, freshness, age and version.
    ///
    /// # Errors
    /// As [`get_many_or_load`](Self::get_many_or_load).
    pub async fn load_many_with<Q, F, Fut, I, E, E2>(&self, keys: &[Q], loader: F) -> Vec<Result<Answer<V>>>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, Result<Loaded<V>, E2>)>,
        E: Into<BoxError>,
        E2: Into<BoxError>,
    {
        let mut sorted = self.sort(keys, |text| self.near_answer(text, None));
        if !sorted.texts.is_empty() {
            let loader = self.erase_many(&sorted, keys, loader);
            let served = self.engine().load_many(&sorted.texts, &self.space, &loader, self.consistency).await;
            sorted.fill(served, |found| self.finish_load(found));
        }
        sorted.results()
    }

    /// Answers what is near; what is not, and is a good key, is left with its text.
    fn sort<Q: Borrow<K>, T>(&self, keys: &[Q], near: impl Fn(&str) -> Option<T>) -> Sorted<T> {
        let mut sorted = Sorted { results: Vec::with_capacity(keys.len()), texts: Vec::new(), places: Vec::new() };
        for (place, key) in keys.iter().enumerate() {
            sorted.results.push(match self.probe(key.borrow(), &near) {
                Ok(Probed::Hit(found)) => Some(Ok(found)),
                Ok(Probed::Miss(text)) => {
                    sorted.texts.push(text);
                    sorted.places.push(place);
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        sorted
    }

    fn finish_load(&self, found: Result<Option<Served>>) -> Result<Answer<V>> {
        match found.map_err(|error| self.failed(error))? {
            Some(served) => self.answer(&served),
            // a load ends with an entry or with an error
            None => Err(self.failed(Error::new(ErrorKind::Loader, "the load was cancelled"))),
        }
    }

    /// A loader whose results are already encoded, one for each key that it is asked for.
    fn erase_many<Q, T, F, Fut, I, E, E2>(&self, sorted: &Sorted<T>, keys: &[Q], loader: F) -> ManyLoader
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, Result<Loaded<V>, E2>)>,
        E: Into<BoxError>,
        E2: Into<BoxError>,
    {
        let open: Arc<[Q]> = sorted.places.iter().filter_map(|place| keys.get(*place)).cloned().collect();
        let (reader, loader) = (Arc::clone(&self.reader), Arc::new(loader));
        Arc::new(move |asked: Vec<usize>| {
            let asked: Vec<Q> = asked.into_iter().filter_map(|position| open.get(position)).cloned().collect();
            let (reader, loader) = (Arc::clone(&reader), Arc::clone(&loader));
            Box::pin(async move {
                let places: HashMap<String, usize> =
                    asked.iter().enumerate().map(|(place, key)| (key_text::<K>(key.borrow()), place)).collect();
                let mut results: Vec<Option<Result<Produced>>> = asked.iter().map(|_| None).collect();
                let loaded = loader(asked).await.map_err(Error::loader)?;
                let mut foreign = 0_usize;
                for (key, loaded) in loaded {
                    match places.get(&key_text::<K>(key.borrow())).and_then(|place| results.get_mut(*place)) {
                        Some(result) => *result = Some(encode(&reader, loaded)),
                        None => foreign += 1,
                    }
                }
                if foreign > 0 {
                    tracing::warn!(foreign, "a batch loader answered for keys that it was not asked for");
                }
                let nothing = || reader.encode(Loaded::nothing());
                Ok(results.into_iter().map(|result| result.unwrap_or_else(nothing)).collect())
            })
        })
    }
}

fn encode<V, E>(reader: &Reader<V>, loaded: Result<Loaded<V>, E>) -> Result<Produced>
where
    V: Send + Sync + 'static,
    E: Into<BoxError>,
{
    reader.encode(loaded.map_err(Error::loader)?)
}

/// A key's own text; one that is too long is cut, and was refused before.
fn key_text<K: CacheKey + ?Sized>(key: &K) -> String {
    let mut text = KeyText::new();
    key.write(&mut text);
    text.as_str().unwrap_or_default().to_owned()
}

/// The results of a call so far, and what is still to be found.
struct Sorted<T> {
    results: Vec<Option<Result<T>>>,
    /// The texts of the open keys.
    texts: Vec<String>,
    /// Their positions.
    places: Vec<usize>,
}

impl<T> Sorted<T> {
    fn fill(&mut self, served: Vec<Result<Option<Served>>>, finish: impl Fn(Result<Option<Served>>) -> Result<T>) {
        for (place, found) in self.places.iter().zip(served) {
            if let Some(result) = self.results.get_mut(*place) {
                *result = Some(finish(found));
            }
        }
    }

    fn results(self) -> Vec<Result<T>> {
        let lost = || Err(Error::new(ErrorKind::Loader, "the load was cancelled"));
        self.results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
    }
}
