//! What a loader may know of the value that it replaces.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cache_core::{Error, ErrorKind, Result};

/// The longest etag.
const MAX_ETAG: usize = 1024;

/// The value that a load would replace: past its ttl, or still fresh if it is refreshed. Not invalidated.
#[derive(Debug)]
#[non_exhaustive]
pub struct Known<V> {
    /// The value.
    pub value: Arc<V>,
    /// The etag that came with it.
    pub etag: Option<String>,
    /// The origin's time of its last change, to the millisecond.
    pub last_modified: Option<SystemTime>,
    /// Its row version; 0 if none.
    pub row: u32,
}

/// What the origin said beside a value. It stands before the payload, so that packing and seal cover it: two bytes of
/// length of the etag, eight of the time in ms since 1970 (0 for none), the etag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<SystemTime>,
}

impl Notes {
    pub(crate) const fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// `payload` with the notes before it.
    pub(crate) fn before(&self, payload: &Bytes) -> Result<Bytes> {
        let etag = self.etag.as_deref().unwrap_or_default();
        if etag.len() > MAX_ETAG {
            let text = format!("the etag has {} bytes, the limit is {MAX_ETAG}", etag.len());
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let since = self.last_modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let mut out = BytesMut::with_capacity(10 + etag.len() + payload.len());
        out.put_u16_le(u16::try_from(etag.len()).unwrap_or(0));
        out.put_u64_le(u64::try_from(since.as_millis()).unwrap_or(0));
        out.put_slice(etag.as_bytes());
        out.put_slice(payload);
        Ok(out.freeze())
    }

    /// The notes, and the payload behind them; `None` if these are none.
    pub(crate) fn split(payload: &Bytes) -> Option<(Self, Bytes)> {
        let mut rest = payload.clone();
        if rest.len() < 10 {
            return None;
        }
        let (length, ms) = (usize::from(rest.get_u16_le()), rest.get_u64_le());
        if length > MAX_ETAG || length > rest.len() {
            return None;
        }
        let etag = rest.split_to(length);
        let etag = if etag.is_empty() { None } else { Some(std::str::from_utf8(&etag).ok()?.to_owned()) };
        let last_modified = if ms == 0 { None } else { Some(UNIX_EPOCH.checked_add(Duration::from_millis(ms))?) };
        Some((Self { etag, last_modified }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_and_leave_the_payload_alone() {
        let payload = Bytes::from_static(b"payload");
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        for (etag, last_modified) in [(None, None), (Some("\"v1\""), None), (None, Some(time)), (Some("w"), Some(time))]
        {
            let notes = Notes { etag: etag.map(str::to_owned), last_modified };
            assert_eq!(Notes::split(&notes.before(&payload).unwrap()), Some((notes, payload.clone())));
        }
        let long = Notes { etag: Some("x".repeat(MAX_ETAG + 1)), last_modified: None };
        assert_eq!(long.before(&payload).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn what_is_no_notes_is_told() {
        for bytes in [&b""[..], b"123456789", b"\xff\xff12345678", b"\x05\x0012345678abc", b"\x01\x0012345678\xff"] {
            assert_eq!(Notes::split(&Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }
}
