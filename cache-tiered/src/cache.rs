//! The typed cache.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use cache_core::codec::Codec;
use cache_core::observe::Metric;
use cache_core::{Entry, Error, ErrorKind, Head, Parted, Result};

use crate::answer::{Answer, Freshness, Served, Tier};
use crate::consistency::Consistency;
use crate::engine::{Engine, Gate, Look, Probe};
use crate::loaded::{Loaded, Loader};
use crate::reader::Reader;
use crate::space::Space;
use crate::{CacheKey, KeyText, Policy, Tiered};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A cache of values of type `V` under keys of type `K`, over the tiers of a [`Tiered`].
///
/// A handle: clones share everything. A near hit decodes nothing, allocates nothing and never awaits.
///
/// ```
/// # use cache_core::{Memory, codec::Raw, memory::LocalMemory};
/// # use cache_tiered::Tiered;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_core::Result<()> {
/// let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).far(Memory::new()).build().await?;
/// let names = tiered.cache::<String>("names").keyed::<u64>().codec(Raw).build()?;
///
/// let name = names.get_or_load(&42, async || Ok::<_, std::io::Error>("Ada".to_owned())).await?;
/// assert_eq!(*name, "Ada");
///
/// names.invalidate(&42).await?;
/// assert!(names.get(&42).await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct Cache<V, K: ?Sized = str> {
    pub(crate) tiered: Tiered,
    pub(crate) head: Head,
    pub(crate) reader: Arc<Reader<V>>,
    pub(crate) space: Arc<Space>,
    pub(crate) consistency: Consistency,
    pub(crate) keys: PhantomData<fn(&K)>,
}

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    pub(crate) fn new(
        tiered: Tiered,
        space: &str,
        codec: impl Codec<V>,
        id: u32,
        policy: Policy,
        max_batch: usize,
        origin: Option<Arc<Gate>>,
    ) -> Result<Self> {
        let head = Head::new(tiered.engine().names.near_prefix(space))?;
        let reader = Arc::new(Reader { codec: Box::new(codec), id });
        let accepts = Arc::clone(&reader);
        let accepts = Box::new(move |entry: &Entry| accepts.read(entry).is_some());
        Ok(Self {
            tiered,
            head,
            reader,
            space: Arc::new(Space { policy, max_batch, origin, gathered: false, accepts }),
            consistency: Consistency::Local,
            keys: PhantomData,
        })
    }

    /// The tiers below.
    #[must_use]
    pub const fn tiered(&self) -> &Tiered {
        &self.tiered
    }

    /// The same cache with answers as current as `consistency` asks, and as this cache's already are: it asks for more,
    /// never for less.
    #[must_use]
    pub fn with(&self, consistency: Consistency) -> Self {
        Self { consistency: self.consistency.at_least(consistency), ..self.clone() }
    }

    pub(crate) const fn consistency(&self) -> Consistency {
        self.consistency
    }

    /// The value under `key`, from near or far; never loads. `None` for a miss and for a remembered "there is nothing".
    ///
    /// Costs no round trip on a near hit, else one.
    ///
    /// # Errors
    /// `Invalid` for a bad key; what the far store says if it had to be asked.
    pub async fn get(&self, key: &K) -> Result<Option<Arc<V>>> {
        // the match ends before the await: what a hit finds is no part of the future
        let text = match self.probe_as(key, |key| self.near(key, None))? {
            Probed::Hit(value) => return Ok(value),
            Probed::Miss(text) => text,
        };
        self.finish_get(Box::pin(self.get_slow(text)).await)
    }

    /// As [`get`](Self::get), and tells tier, freshness, age and version. `None` is a miss; an answer without value is
    /// a remembered "there is nothing".
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn lookup(&self, key: &K) -> Result<Option<Answer<V>>> {
        match self.probe_as(key, |key| self.near_answer(key, None))? {
            Probed::Hit(answer) => Ok(Some(answer)),
            Probed::Miss(text) => {
                let found = Box::pin(self.get_slow(text)).await;
                self.finish(found, |served| self.answer(served))
            }
        }
    }

    /// The value under `key`; on a miss `loader` is run to get it, once for all callers of all processes that miss
    /// together.
    ///
    /// The loader runs in a task of its own: a caller that goes away does not end it while others wait; when the last
    /// one goes, it is cancelled and its lease given back. It must end within the policy's `hard_timeout`. It may load other
    /// keys; if it asks for its own, by way of another key's loader too, it is told so and does not wait for itself.
    /// A near hit costs no round trip, a far hit one, a miss three and the load.
    ///
    /// # Errors
    /// `Loader` with the loader's error, shared by all callers that waited; `Timeout` past the deadline; `Invalid` for a
    /// bad key. A far store that fails is no error here: the loader is run.
    pub async fn get_or_load<F, Fut, E>(&self, key: &K, loader: F) -> Result<Arc<V>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let text = {
            let mut due = None;
            match self.probe(key, |key| self.near(key, Some(&mut due)))? {
                Probed::Hit(value) => {
                    if let Some(due) = due {
                        self.refresh(due, self.erase(async move || loader().await.map(Loaded::value)));
                    }
                    return value.ok_or_else(nothing);
                }
                Probed::Miss(text) => text,
            }
        };
        let loader = self.erase(async move || loader().await.map(Loaded::value));
        Box::pin(self.load_slow(text, loader)).await?.value.ok_or_else(nothing)
    }

    /// As [`get_or_load`](Self::get_or_load) for values that may not exist: a loader's `None` is remembered for the
    /// policy's `negative_ttl`.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn find_or_load<F, Fut, E>(&self, key: &K, loader: F) -> Result<Option<Arc<V>>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let text = {
            let mut due = None;
            match self.probe(key, |key| self.near(key, Some(&mut due)))? {
                Probed::Hit(value) => {
                    if let Some(due) = due {
                        self.refresh(due, self.erase(async move || loader().await.map(Loaded::from)));
                    }
                    return Ok(value);
                }
                Probed::Miss(text) => text,
            }
        };
        let loader = self.erase(async move || loader().await.map(Loaded::from));
        Ok(Box::pin(self.load_slow(text, loader)).await?.value)
    }

    /// As [`find_or_load`](Self::find_or_load) with a loader that decides about ttl, tags and storing, and an answer
    /// that tells tier, freshness, age and version.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn load_with<F, Fut, E>(&self, key: &K, loader: F) -> Result<Answer<V>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let mut due = None;
        match self.probe(key, |key| self.near_answer(key, Some(&mut due)))? {
            Probed::Hit(answer) => {
                if let Some(due) = due {
                    self.refresh(due, self.erase(loader));
                }
                Ok(answer)
            }
            Probed::Miss(text) => Box::pin(self.load_slow(text, self.erase(loader))).await,
        }
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.tiered.engine()
    }

    pub(crate) fn text(&self, key: &K) -> Result<String> {
        let mut text = KeyText::new();
        Ok(text.behind(&self.head, key)?.joined(str::to_owned))
    }

    /// The near hit. Synchronous, so that the key's text on the stack never becomes part of a future.
    #[inline]
    pub(crate) fn probe<T>(&self, key: &K, near: impl FnOnce(&Parted<'_>) -> Option<T>) -> Result<Probed<T>> {
        self.probe_as(key, near)
    }

    /// As [`probe`](Self::probe), with the text of a miss in the form that its slow path takes.
    #[inline]
    pub(crate) fn probe_as<T, S: for<'a> From<&'a str>>(
        &self,
        key: &K,
        near: impl FnOnce(&Parted<'_>) -> Option<T>,
    ) -> Result<Probed<T, S>> {
        let mut text = KeyText::new();
        let key = text.behind(&self.head, key)?;
        Ok(near(&key).map_or_else(|| Probed::Miss(key.joined(|text| text.into())), Probed::Hit))
    }

    /// The value near, or `Some(None)` for a remembered "there is nothing".
    #[inline]
    pub(crate) fn near(&self, key: &Parted<'_>, due: Option<&mut Option<Due>>) -> Option<Option<Arc<V>>> {
        if self.consistency != Consistency::Local {
            return None;
        }
        let engine = self.engine();
        // a monitor sees entries
        if engine.monitor.is_none() {
            return match engine.glance(key, |part| self.reader.take(part)) {
                Ok(value) => {
                    engine.counters.count(Metric::NearHit);
                    Some(value)
                }
                Err(look) => self.near_entry(key, look, due),
            };
        }
        self.near_entry(key, engine.look(key), due)
    }

    /// As [`near`](Self::near), for a hit that is not plain, or is not known to be.
    #[inline(never)]
    fn near_entry(&self, key: &Parted<'_>, look: Look, due: Option<&mut Option<Due>>) -> Option<Option<Arc<V>>> {
        let engine = self.engine();
        let (entry, freshness) = match look {
            Look::Plain(Probe::Hit(entry, freshness)) => (entry, freshness),
            Look::Due(entry) => return self.near_due(key, &entry, due),
            Look::Plain(Probe::Suspect(_) | Probe::Miss) => return None,
        };
        let value = match entry.decoded::<V>() {
            Some(value) if entry.header().codec == self.reader.id => Some(value),
            _ => self.reader.read(&entry)?,
        };
        engine.counters.count(Metric::NearHit);
        if freshness != Freshness::WithinBound {
            engine.counters.count(Metric::StaleServed);
        }
        self.watch(key, &entry, freshness);
        Some(value)
    }

    /// Shows a hit to who watches them.
    #[inline]
    fn watch(&self, key: &Parted<'_>, entry: &Entry, freshness: Freshness) {
        if let Some(monitor) = &self.engine().monitor
            && freshness == Freshness::WithinBound
        {
            key.joined(|text| monitor.see(text, entry));
        }
    }

    /// A hit on an entry about which something may have to be done. `due` is given by callers that have a loader.
    #[cold]
    fn near_due(&self, key: &Parted<'_>, entry: &Arc<Entry>, due: Option<&mut Option<Due>>) -> Option<Option<Arc<V>>> {
        let value = self.reader.read(entry)?;
        self.note_due(key, entry, due);
        self.engine().counters.count(Metric::NearHit);
        self.watch(key, entry, Freshness::WithinBound);
        Some(value)
    }

    fn note_due(&self, key: &Parted<'_>, entry: &Arc<Entry>, due: Option<&mut Option<Due>>) {
        key.joined(|text| {
            if self.engine().due(text, entry, &self.space, due.is_some())
                && let Some(due) = due
            {
                *due = Some(Due { text: text.to_owned(), entry: Arc::clone(entry) });
            }
        });
    }

    /// As [`near`](Self::near), with all that is known about the value.
    pub(crate) fn near_answer(&self, key: &Parted<'_>, due: Option<&mut Option<Due>>) -> Option<Answer<V>> {
        if self.consistency != Consistency::Local {
            return None;
        }
        let (entry, freshness) = match self.engine().look(key) {
            Look::Plain(Probe::Hit(entry, freshness)) => (entry, freshness),
            Look::Due(entry) => {
                self.reader.read(&entry)?;
                self.note_due(key, &entry, due);
                (entry, Freshness::WithinBound)
            }
            Look::Plain(Probe::Suspect(_) | Probe::Miss) => return None,
        };
        // what this cache's codec does not read is for the slow path
        self.reader.read(&entry)?;
        self.watch(key, &entry, freshness);
        self.answer(&Served { entry, tier: Tier::Near, freshness }).ok()
    }

    async fn get_slow(&self, text: Arc<str>) -> Result<Option<Served>> {
        self.engine().get_as(&text, &self.space, self.consistency).await
    }

    /// The value of what a read found.
    pub(crate) fn finish_get(&self, found: Result<Option<Served>>) -> Result<Option<Arc<V>>> {
        let found = self.finish(found, |served| {
            let value = self.value(served)?;
            self.count(served);
            Ok(value)
        })?;
        Ok(found.flatten())
    }

    fn finish<T>(&self, found: Result<Option<Served>>, tell: impl FnOnce(&Served) -> Result<T>) -> Result<Option<T>> {
        match found.map_err(|error| self.failed(error))? {
            Some(served) => tell(&served).map(Some),
            None => {
                self.engine().counters.count(Metric::Miss);
                Ok(None)
            }
        }
    }

    pub(crate) async fn load_slow(&self, text: String, loader: Loader) -> Result<Answer<V>> {
        let served = self
            .engine()
            .load(&text, &self.space, loader, self.consistency)
            .await
            .map_err(|error| self.failed(error))?;
        self.answer(&served)
    }

    pub(crate) fn answer(&self, served: &Served) -> Result<Answer<V>> {
        let answer = self.told(served)?;
        self.count(served);
        Ok(answer)
    }

    fn count(&self, served: &Served) {
        let counters = &self.engine().counters;
        counters.count(match served.tier {
            Tier::Near => Metric::NearHit,
            Tier::Far => Metric::FarHit,
            Tier::Origin => Metric::OriginHit,
        });
        if matches!(served.freshness, Freshness::Stale(_)) {
            counters.count(Metric::StaleServed);
        }
    }

    fn value(&self, served: &Served) -> Result<Option<Arc<V>>> {
        self.reader.read(&served.entry).ok_or_else(|| {
            // two caches of different types share a flight only if they share a space's name
            let text = "the space is used with two types of value at once; give each type a space of its own";
            self.failed(Error::new(ErrorKind::Codec, text))
        })
    }

    /// What is told of an entry, uncounted.
    pub(crate) fn told(&self, served: &Served) -> Result<Answer<V>> {
        let Served { entry, tier, freshness } = served;
        let header = entry.header();
        let value = self.value(served)?;
        let engine = self.engine();
        let now = engine.time.ms(&engine.clock, engine.clock.now());
        Ok(Answer {
            value,
            tier: *tier,
            freshness: *freshness,
            age: Duration::from_millis(now.saturating_sub(header.created)),
            row: header.row,
            stamp: header.stamp,
        })
    }

    /// Begins a refresh in the background.
    #[cold]
    pub(crate) fn refresh(&self, due: Due, loader: Loader) {
        self.engine().refresh(&due.text, due.entry, &self.space, loader);
    }

    pub(crate) fn failed(&self, error: Error) -> Error {
        self.engine().counters.count(Metric::Failed);
        error
    }

    /// A loader whose result is already encoded.
    fn erase<F, Fut, E>(&self, loader: F) -> Loader
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let reader = Arc::clone(&self.reader);
        Box::new(move |_| Box::pin(async move { reader.encode(loader().await.map_err(Error::loader)?) }))
    }
}

/// The error of a caller that can't be told "there is nothing".
#[cold]
fn nothing() -> Error {
    Error::new(ErrorKind::Loader, "the key is remembered as having nothing; use find_or_load where that may be")
}

/// What the near store says of a key.
pub(crate) enum Probed<T, S = String> {
    Hit(T),
    /// Nothing; this is the key's text, for the slow path.
    Miss(S),
}

/// A near hit that is to be refreshed by the caller that met it.
pub(crate) struct Due {
    pub(crate) text: String,
    pub(crate) entry: Arc<Entry>,
}

impl<V, K: ?Sized> Clone for Cache<V, K> {
    fn clone(&self) -> Self {
        Self {
            tiered: self.tiered.clone(),
            head: self.head.clone(),
            reader: Arc::clone(&self.reader),
            space: Arc::clone(&self.space),
            consistency: self.consistency,
            keys: PhantomData,
        }
    }
}

impl<V, K: ?Sized> fmt::Debug for Cache<V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("prefix", &self.tiered.engine().names.shared(self.head.as_str()))
            .field("policy", &self.space.policy)
            .finish_non_exhaustive()
    }
}
