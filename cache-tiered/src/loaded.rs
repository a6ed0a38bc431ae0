//! What a loader is told, and what it answers.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache_core::{Entry, Result, Tags};

use crate::known::Notes;

/// A loader's answer: a value, or the fact that there is none, and what the loader wants for it.
///
/// A plain value or an `Option` converts into one.
#[derive(Debug)]
#[must_use]
pub struct Loaded<V> {
    pub(crate) value: Option<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<u64>,
    pub(crate) row: u32,
    pub(crate) store: bool,
    pub(crate) notes: Notes,
    pub(crate) unchanged: bool,
    pub(crate) far_only: bool,
}

impl<V> Loaded<V> {
    const fn new(value: Option<V>) -> Self {
        let notes = Notes { etag: None, last_modified: None };
        Self { value, ttl: None, tags: Vec::new(), row: 0, store: true, notes, unchanged: false, far_only: false }
    }

    /// The value that the loader was shown still stands, with its tags, row, etag and time where none are named anew: it
    /// is fresh for another ttl. Only for [`Cache::load_if`](crate::Cache::load_if).
    pub const fn unchanged() -> Self {
        let mut loaded = Self::new(None);
        loaded.unchanged = true;
        loaded
    }

    /// With the origin's etag, kept for the next [`load_if`](crate::Cache::load_if). At most 1024 bytes.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.notes.etag = Some(etag.into());
        self
    }

    /// With the origin's time of the last change, kept to the millisecond for the next
    /// [`load_if`](crate::Cache::load_if).
    pub const fn last_modified(mut self, time: SystemTime) -> Self {
        self.notes.last_modified = Some(time);
        self
    }

    /// A value.
    pub const fn value(value: V) -> Self {
        Self::new(Some(value))
    }

    /// There is nothing under this key. Remembered for the policy's negative ttl.
    pub const fn nothing() -> Self {
        Self::new(None)
    }

    /// With a ttl of its own instead of the policy's. One over the namespace's
    /// [`max_ttl`](crate::TieredBuilder::max_ttl) is cut to it. Zero from a loader is [`unstored`](Self::unstored); what is
    /// not loaded but stored is refused with it.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// With one more tag. Tags may be chosen from what was loaded.
    pub fn tag(mut self, name: &str) -> Self {
        self.tags.push(Tags::hash(name));
        self
    }

    /// With the version of the row that was read.
    pub const fn row(mut self, version: u32) -> Self {
        self.row = version;
        self
    }

    /// Kept in the far store only, by every process: for a value that is not worth its room near, such as a large one that
    /// is seldom asked for. Without a far store it is kept nowhere.
    ///
    /// What the loader says of one value; [`Policy::near_max`](crate::Policy::near_max) says it of all that are large.
    pub const fn far_only(mut self) -> Self {
        self.far_only = true;
        self
    }

    /// For the callers of this load only: stored nowhere, in no tier. A refresh that answers it leaves the old value, and
    /// [`store`](crate::Cache::store) refuses it.
    pub const fn unstored(mut self) -> Self {
        self.store = false;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::value(value)
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::nothing, Self::value)
    }
}

/// A decoded value with its type erased.
pub(crate) type Decoded = Arc<dyn Any + Send + Sync>;

/// A loader's answer with its type erased: what the engine moves.
#[derive(Clone)]
pub(crate) struct Produced {
    /// The encoded value; `None` for nothing.
    pub(crate) payload: Option<Bytes>,
    pub(crate) decoded: Option<Decoded>,
    pub(crate) codec: u32,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Tags,
    pub(crate) row: u32,
    pub(crate) store: bool,
    /// Whether notes stand before the payload.
    pub(crate) noted: bool,
    /// Whether near stores are not to keep it.
    pub(crate) far_only: bool,
}

impl Produced {
    /// Whether it is for anybody but the callers of its load.
    pub(crate) fn is_stored(&self) -> bool {
        self.store && self.ttl != Some(Duration::ZERO)
    }
}

impl fmt::Debug for Produced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Produced").field("bytes", &self.payload.as_ref().map(Bytes::len)).finish_non_exhaustive()
    }
}

/// A running load.
pub(crate) type Loading = Pin<Box<dyn Future<Output = Result<Produced>> + Send>>;

/// A load that can be started once; told the entry that it would replace, if there is one that may be served.
pub(crate) type Loader = Box<dyn FnOnce(Option<Arc<Entry>>) -> Loading + Send>;

/// A running load of many keys: a result for each that was asked for, in order, or one failure for all.
pub(crate) type ManyLoading = Pin<Box<dyn Future<Output = Result<Vec<Result<Produced>>>> + Send>>;

/// A load of these keys, none twice; may be started several times.
pub(crate) type KeysLoader<Q> = Arc<dyn Fn(Vec<Q>) -> ManyLoading + Send + Sync>;

/// A load of the keys at these positions of a call; may be started several times, each time for other keys.
pub(crate) type ManyLoader = Arc<dyn Fn(Vec<usize>) -> ManyLoading + Send + Sync>;
