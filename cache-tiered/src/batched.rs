//! A cache with a batch loader of its own: single loads are gathered into its calls.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};

use crate::CacheKey;
use crate::answer::Answer;
use crate::cache::{BoxError, Cache, Due, Probed};
use crate::cache_batch::plain;
use crate::gather::Gather;
use crate::loaded::{KeysLoader, Loaded};

/// How long a load waits for others, unless told otherwise.
const WINDOW: Duration = Duration::from_micros(500);

/// A [`Cache`] together with a loader of many keys: misses of concurrent single calls are loaded in one call.
///
/// A handle: clones share everything. Only loads are gathered: near and far hits are as fast as ever. A load waits for
/// keys that are on their way to the loader too, at most [`window`](Self::window) long; a load that is alone waits for
/// nobody. A key that is invalidated, loaded by another call or held by another process is treated as in a single
/// [`get_or_load`](Cache::get_or_load). Refreshes in the background are gathered in the same way.
///
/// `Q` is the keys' own type, `K` what the cache takes: `Batched<V, u64>` over a cache keyed by `u64`,
/// `Batched<V, String, str>` over one keyed by strings.
///
/// ```
/// # use cache_core::{codec::Raw, memory::LocalMemory};
/// # use cache_tiered::Tiered;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_core::Result<()> {
/// # let tiered = Tiered::builder().near(LocalMemory::new(1 << 20)).build().await?;
/// let names = tiered.cache::<String>("names").keyed::<u64>().codec(Raw).build()?;
/// let names = names.batched(async |ids: Vec<u64>| {
///     // SELECT .. WHERE id = ANY(ids): called once for both gets below
///     Ok::<_, std::io::Error>(ids.into_iter().map(|id| (id, format!("name {id}"))))
/// });
///
/// let (one, two) = tokio::join!(names.get_or_load(&1), names.get_or_load(&2));
/// assert_eq!((one?.as_str(), two?.as_str()), ("name 1", "name 2"));
/// # Ok(())
/// # }
/// ```
pub struct Batched<V, Q, K: ?Sized = Q> {
    cache: Cache<V, K>,
    /// The same cache, whose single loads go through `gather`.
    gathered: Cache<V, K>,
    gather: Arc<Gather<Q>>,
    loader: KeysLoader<Q>,
    window: Duration,
}

impl<V, K> Cache<V, K>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    /// This cache with a loader of many keys, which then loads for single calls too. What the loader leaves out is
    /// remembered as nothing; see [`get_many_or_load`](Self::get_many_or_load).
    pub fn batched<Q, F, Fut, I, E>(&self, loader: F) -> Batched<V, Q, K>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, V)>,
        E: Into<BoxError> + 'static,
    {
        Batched::new(self, self.erase_many(plain(loader)))
    }

    /// As [`batched`](Self::batched) with a loader that fails, or decides about ttl, tags and storing, key by key; see
    /// [`load_many_with`](Self::load_many_with).
    pub fn batched_with<Q, F, Fut, I, E, E2>(&self, loader: F) -> Batched<V, Q, K>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (Q, Result<Loaded<V>, E2>)>,
        E: Into<BoxError>,
        E2: Into<BoxError>,
    {
        Batched::new(self, self.erase_many(loader))
    }
}

impl<V, Q, K> Batched<V, Q, K>
where
    V: Send + Sync + 'static,
    Q: Borrow<K> + Clone + Send + Sync + 'static,
    K: CacheKey + ?Sized,
{
    fn new(cache: &Cache<V, K>, loader: KeysLoader<Q>) -> Self {
        let gathered = Cache { space: cache.space.gathered(), ..cache.clone() };
        let gather = Gather::new(Arc::clone(cache.engine()), Arc::clone(&gathered.space), Arc::clone(&loader));
        Self { cache: cache.clone(), gathered, gather, loader, window: WINDOW }
    }

    /// The same handle with another window: the longest that a load waits for keys that are on their way to the loader.
    /// Zero gathers what comes while the runtime's ready tasks run once. Default 500 µs; the runtime's timer rounds up
    /// to a millisecond or two.
    #[must_use]
    pub const fn window(mut self, span: Duration) -> Self {
        self.window = span;
        self
    }

    /// The cache.
    #[must_use]
    pub const fn cache(&self) -> &Cache<V, K> {
        &self.cache
    }

    /// The value under `key`, from near, far or the loader.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`]; `Loader` if there is nothing under the key.
    pub async fn get_or_load(&self, key: &Q) -> Result<Arc<V>> {
        self.find_or_load(key).await?.ok_or_else(|| {
            Error::new(ErrorKind::Loader, "there is nothing under the key; use find_or_load where that may be")
        })
    }

    /// As [`get_or_load`](Self::get_or_load) for values that may not exist.
    ///
    /// # Errors
    /// As [`Cache::find_or_load`].
    pub async fn find_or_load(&self, key: &Q) -> Result<Option<Arc<V>>> {
        let mut due = None;
        match self.gathered.probe(key.borrow(), |key| self.gathered.near(key, Some(&mut due)))? {
            Probed::Hit(value) => {
                if let Some(due) = due {
                    self.refresh(due, key);
                }
                Ok(value)
            }
            Probed::Miss(text) => Ok(self.load(text, key).await?.value),
        }
    }

    /// As [`find_or_load`](Self::find_or_load), and tells tier, freshness, age and version.
    ///
    /// # Errors
    /// As [`Cache::load_with`].
    pub async fn lookup_or_load(&self, key: &Q) -> Result<Answer<V>> {
        let mut due = None;
        match self.gathered.probe(key.borrow(), |key| self.gathered.near_answer(key, Some(&mut due)))? {
            Probed::Hit(answer) => {
                if let Some(due) = due {
                    self.refresh(due, key);
                }
                Ok(answer)
            }
            Probed::Miss(text) => self.load(text, key).await,
        }
    }

    /// The values under `keys`, in order, as [`Cache::get_many_or_load`]: a batch waits for no other.
    ///
    /// # Errors
    /// Each key has its own.
    pub async fn get_many_or_load(&self, keys: &[Q]) -> Vec<Result<Option<Arc<V>>>> {
        self.cache.load_many(keys, Arc::clone(&self.loader)).await
    }

    async fn load(&self, text: String, key: &Q) -> Result<Answer<V>> {
        let loader = self.gather.loader(key.clone(), &text, self.window);
        Box::pin(self.gathered.load_slow(text, loader)).await
    }

    #[cold]
    fn refresh(&self, due: Due, key: &Q) {
        let loader = self.gather.loader(key.clone(), &due.text, self.window);
        self.gathered.refresh(due, loader);
    }
}

impl<V, Q, K: ?Sized> Clone for Batched<V, Q, K> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            gathered: self.gathered.clone(),
            gather: Arc::clone(&self.gather),
            loader: Arc::clone(&self.loader),
            window: self.window,
        }
    }
}

impl<V, Q, K: ?Sized> fmt::Debug for Batched<V, Q, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("cache", &self.cache).field("window", &self.window).finish_non_exhaustive()
    }
}
