//! Many keys in one call of a typed cache.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Parted, Result};

use crate::answer::{Answer, Freshness, Served, Tier};
use crate::cache::{BoxError, Cache, Due, Probed};
use crate::gather::Gather;
use crate::loaded::{KeysLoader, Loaded, Loader, ManyLoader, Produced};
use crate::reader::Reader;
use crate::{CacheKey, KeyText};

/// How long the refreshes of a batch wait for each other, once the first has found that it is the one to load.
const TOGETHER: Duration = Duration::from_millis(100);

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    /// The values under `keys`, in order: one near pass, one far round trip. A key's error hides no other's result.
    ///
    /// A cache that asks for more than [`Local`](crate::Consistency::Local) asks the far store for each key by itself, for all
    /// at once: 50 keys are 50 requests by `Fresh`, and by `Strict` a beat for each besides, so 100.
    ///
    /// Any number of keys: a far store is sent a few hundred at a time, each such request with a deadline of its own.
    pub async fn get_many(&self, keys: &[&K]) -> Vec<Result<Option<Arc<V>>>> {
        let mut sorted = self.sort(keys, |key, _| self.near(key, None));
        if !sorted.texts.is_empty() {
            let served = self.engine().get_many(&sorted.texts, &self.space, self.consistency).await;
            if self.space.policy.sliding.is_some() {
                self.note_far(&mut sorted, &served, false);
            }
            sorted.fill(served, |found| self.finish_get(found));
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
    /// Values that are due by the policy's [`refresh_ahead`](crate::Policy::refresh_ahead) are served, and refreshed in the
    /// background by one call for all of them that this process is the one to load: one for those found near, one for those
    /// found far.
    ///
    /// # Errors
    /// Each key has its own: `Loader` with the loader's error or panic for the keys that it was asked for; `Timeout` past
    /// the deadline; `Overloaded` from the origin's protection; `Invalid` for a bad key. Where there is a fallback, it is
    /// served instead. A far store that fails is no error here: the loader is run.
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
        E: Into<BoxError> + 'static,
    {
        self.load_many(keys, self.erase_many(plain(loader))).await
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
        self.many(keys, self.erase_many(loader), |key, due| self.near_answer(key, Some(due)), |answer| answer).await
    }

    /// As [`get_many_or_load`](Self::get_many_or_load) with a loader whose type is erased.
    pub(crate) async fn load_many<Q>(&self, keys: &[Q], loader: KeysLoader<Q>) -> Vec<Result<Option<Arc<V>>>>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
    {
        self.many(keys, loader, |key, due| self.near(key, Some(due)), |answer| answer.value).await
    }

    async fn many<Q, T: Send>(
        &self,
        keys: &[Q],
        loader: KeysLoader<Q>,
        near: impl Fn(&Parted<'_>, &mut Option<Due>) -> Option<T>,
        finish: impl Fn(Answer<V>) -> T,
    ) -> Vec<Result<T>>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
    {
        let mut sorted = self.sort(keys, near);
        if !sorted.due.is_empty() {
            self.refresh_many(keys, std::mem::take(&mut sorted.due), &loader);
        }
        if !sorted.texts.is_empty() {
            let by_position = Self::by_position(&sorted, keys, Arc::clone(&loader));
            let served = self.engine().load_many(&sorted.texts, &self.space, &by_position, self.consistency).await;
            self.note_far(&mut sorted, &served, true);
            if !sorted.due.is_empty() {
                self.refresh_many(keys, std::mem::take(&mut sorted.due), &loader);
            }
            sorted.fill(served, |found| self.finish_load(found).map(&finish));
        }
        sorted.results()
    }

    /// Does what is due about what was found, and notes what is to be refreshed by a caller that `loads`.
    fn note_far<T>(&self, sorted: &mut Sorted<T>, served: &[Result<Option<Served>>], loads: bool) {
        for ((place, text), found) in sorted.places.iter().zip(&sorted.texts).zip(served) {
            if let Ok(Some(Served { entry, tier: Tier::Near | Tier::Far, freshness })) = found
                && !matches!(freshness, Freshness::Stale(_))
                && self.engine().due(text, entry, &self.space, loads)
            {
                sorted.due.push((*place, Due { text: text.as_ref().to_owned(), entry: Arc::clone(entry) }));
            }
        }
    }

    /// Begins refreshes in the background: each key's own, and one call of the loader for those that are loaded.
    #[cold]
    fn refresh_many<Q>(&self, keys: &[Q], due: Vec<(usize, Due)>, loader: &KeysLoader<Q>)
    where
        Q: Clone + Send + Sync + 'static,
    {
        let space = self.space.gathered();
        let gather = Gather::new(Arc::clone(self.engine()), Arc::clone(&space), Arc::clone(loader));
        // all are on their way before the first sets out
        let loads: Vec<(Due, Loader)> = due
            .into_iter()
            .filter_map(|(place, due)| {
                let load = gather.loader(keys.get(place)?.clone(), &due.text, TOGETHER);
                Some((due, load))
            })
            .collect();
        for (due, load) in loads {
            self.engine().refresh(&due.text, due.entry, &space, load);
        }
    }

    /// Answers what is near; what is not, and is a good key, is left with its text.
    fn sort<Q: Borrow<K>, T>(
        &self,
        keys: &[Q],
        near: impl Fn(&Parted<'_>, &mut Option<Due>) -> Option<T>,
    ) -> Sorted<T> {
        let results = Vec::with_capacity(keys.len());
        let mut sorted = Sorted { results, texts: Vec::new(), places: Vec::new(), due: Vec::new() };
        for (place, key) in keys.iter().enumerate() {
            let mut due = None;
            sorted.results.push(match self.probe_as(key.borrow(), |key| near(key, &mut due)) {
                Ok(Probed::Hit(found)) => Some(Ok(found)),
                Ok(Probed::Miss(text)) => {
                    sorted.texts.push(text);
                    sorted.places.push(place);
                    None
                }
                Err(error) => Some(Err(error)),
            });
            sorted.due.extend(due.map(|due| (place, due)));
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

    /// A loader of the open keys of a call, by their positions in it.
    fn by_position<Q, T>(sorted: &Sorted<T>, keys: &[Q], loader: KeysLoader<Q>) -> ManyLoader
    where
        Q: Clone + Send + Sync + 'static,
    {
        let open: Arc<[Q]> = sorted.places.iter().filter_map(|place| keys.get(*place)).cloned().collect();
        Arc::new(move |asked: Vec<usize>| {
            loader(asked.into_iter().filter_map(|position| open.get(position)).cloned().collect())
        })
    }

    /// A loader whose results are already encoded, one for each key that it is asked for.
    pub(crate) fn erase_many<Q, F, Fut, I, E, E2>(&self, loader: F) -> KeysLoader<Q>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, Result<Loaded<V>, E2>)>,
        E: Into<BoxError>,
        E2: Into<BoxError>,
    {
        let (reader, loader) = (Arc::clone(&self.reader), Arc::new(loader));
        Arc::new(move |asked: Vec<Q>| {
            let (reader, loader) = (Arc::clone(&reader), Arc::clone(&loader));
            Box::pin(async move {
                let mut answers = Answers::new(asked.len());
                // two flights of one key may be asked for at once, if the first was detached
                let distinct = asked.into_iter().filter(|key| answers.expect(key_text::<K>(key.borrow()))).collect();
                for (key, loaded) in loader(distinct).await.map_err(Error::loader)? {
                    answers.note(&key_text::<K>(key.borrow()), || encode(&reader, loaded));
                }
                Ok(answers.all(|| reader.encode(Loaded::nothing())))
            })
        })
    }
}

/// What a loader of many keys answered so far.
struct Answers {
    /// Where each key's answer goes.
    places: HashMap<String, Vec<usize>>,
    answers: Vec<Option<Result<Produced>>>,
    expected: usize,
    foreign: usize,
}

impl Answers {
    fn new(n: usize) -> Self {
        Self { places: HashMap::with_capacity(n), answers: vec![None; n], expected: 0, foreign: 0 }
    }

    /// The next key that was asked for; whether it is the first of its text.
    fn expect(&mut self, text: String) -> bool {
        let places = self.places.entry(text).or_default();
        places.push(self.expected);
        self.expected += 1;
        places.len() == 1
    }

    fn note(&mut self, text: &str, answer: impl FnOnce() -> Result<Produced>) {
        let Some(places) = self.places.get(text) else {
            self.foreign += 1;
            return;
        };
        let answer = answer();
        for place in places {
            if let Some(open) = self.answers.get_mut(*place) {
                *open = Some(answer.clone());
            }
        }
    }

    /// An answer for each key that was asked for; `nothing` for those that the loader left out.
    fn all(self, nothing: impl Fn() -> Result<Produced>) -> Vec<Result<Produced>> {
        if self.foreign > 0 {
            tracing::warn!(keys = self.foreign, "a batch loader answered for keys that it was not asked for");
        }
        self.answers.into_iter().map(|answer| answer.unwrap_or_else(&nothing)).collect()
    }
}

/// A loader that knows values and nothing else.
pub(crate) fn plain<Q, V, F, Fut, I, E>(loader: F) -> impl Fn(Vec<Q>) -> PlainLoad<Q, V, E> + Send + Sync + 'static
where
    F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<I, E>> + Send + 'static,
    I: IntoIterator<Item = (Q, V)>,
{
    move |keys| {
        let load = loader(keys);
        Box::pin(async move {
            let answer = |(key, value)| (key, Ok(Loaded::value(value)));
            load.await.map(|loaded| loaded.into_iter().map(answer).collect())
        })
    }
}

type PlainAnswers<Q, V> = Vec<(Q, Result<Loaded<V>, Infallible>)>;
type PlainLoad<Q, V, E> = Pin<Box<dyn Future<Output = Result<PlainAnswers<Q, V>, E>> + Send>>;

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
    texts: Vec<Arc<str>>,
    /// Their positions.
    places: Vec<usize>,
    /// What is to be refreshed, by position.
    due: Vec<(usize, Due)>,
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
