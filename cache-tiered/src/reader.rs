//! Values to bytes and back.

use std::sync::Arc;

use bytes::Bytes;
use cache_core::codec::Codec;
use cache_core::envelope::flag;
use cache_core::{Entry, Error, ErrorKind, Part, Result, Tags};

use crate::known::{Known, Notes};
use crate::loaded::{Loaded, Produced};

/// The codec of a cache, and the id that its frames carry.
pub(crate) struct Reader<V> {
    pub(crate) codec: Box<dyn Codec<V>>,
    pub(crate) id: u32,
}

impl<V: Send + Sync + 'static> Reader<V> {
    /// The entry's value, decoded at most once; `Some(None)` for a remembered "there is nothing", outer `None` if it is
    /// none of ours.
    pub(crate) fn read(&self, entry: &Entry) -> Option<Option<Arc<V>>> {
        if entry.header().codec != self.id {
            return None;
        }
        if entry.header().is_negative() {
            return Some(None);
        }
        if let Some(value) = entry.decoded::<V>() {
            return Some(Some(value));
        }
        let value = if entry.header().flags & flag::NOTES == 0 {
            self.codec.decode(entry.payload())
        } else {
            self.codec.decode(&Notes::split(entry.payload())?.1)
        };
        let value = Arc::new(value.ok()?);
        entry.remember(Arc::clone(&value) as _);
        Some(Some(value))
    }

    /// As [`read`](Self::read), of an entry's part; `None` for what has to be decoded too.
    #[inline]
    pub(crate) fn take(&self, part: Part) -> Option<Option<Arc<V>>> {
        if part.codec != self.id {
            return None;
        }
        part.value.map(Arc::downcast).transpose().ok()
    }

    pub(crate) fn encode(&self, loaded: Loaded<V>) -> Result<Produced> {
        self.encode_over(loaded, None)
    }

    /// As [`encode`](Self::encode), for a loader that was shown `old` and may say that it still stands.
    pub(crate) fn encode_over(&self, loaded: Loaded<V>, old: Option<&Entry>) -> Result<Produced> {
        let Loaded { value, ttl, tags, row, store, notes, unchanged, far_only } = loaded;
        let tags = Tags::new(tags)?;
        if unchanged {
            let Some(old) = old.filter(|old| !old.header().is_negative()) else {
                let text = "the loader said that nothing changed, but it was shown nothing; load the value then";
                return Err(Error::new(ErrorKind::Loader, text).with_operation("load"));
            };
            let anew = !notes.is_empty();
            let (held, payload) = Self::parts(old).unwrap_or_default();
            let notes = if anew { notes } else { held };
            let tags = if tags.as_slice().is_empty() { old.to_frame().tags } else { tags };
            let row = if row == 0 { old.header().row } else { row };
            let decoded = old.decoded::<V>().map(|value| value as _);
            let far_only = far_only || old.header().flags & flag::FAR_ONLY != 0;
            let payload = Some(payload);
            let produced = Produced { payload, decoded, codec: self.id, ttl, tags, row, store, noted: false, far_only };
            return self.noted(produced, &notes);
        }
        let payload = value.as_ref().map(|value| self.codec.encode(value)).transpose()?;
        let decoded = value.map(|value| Arc::new(value) as _);
        let produced = Produced { payload, decoded, codec: self.id, ttl, tags, row, store, noted: false, far_only };
        self.noted(produced, &notes)
    }

    fn noted(&self, mut produced: Produced, notes: &Notes) -> Result<Produced> {
        if let Some(payload) = produced.payload.as_mut().filter(|_| !notes.is_empty()) {
            *payload = notes.before(payload)?;
            produced.noted = true;
        }
        Ok(produced)
    }

    /// What stands before an entry's payload, and the payload.
    fn parts(entry: &Entry) -> Option<(Notes, Bytes)> {
        if entry.header().flags & flag::NOTES == 0 {
            return Some((Notes::default(), entry.payload().clone()));
        }
        Notes::split(entry.payload())
    }

    /// What a loader may know of an entry; `None` for one that is none of ours or says that there is nothing.
    pub(crate) fn known(&self, entry: &Entry) -> Option<Known<V>> {
        let value = self.read(entry)??;
        let (Notes { etag, last_modified }, _) = Self::parts(entry)?;
        Some(Known { value, etag, last_modified, row: entry.header().row })
    }
}
