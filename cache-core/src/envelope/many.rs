//! Many frames at once.

use bytes::Bytes;

use super::{Frame, HEADER, Header, seal};

/// So many headers are looked at before the first payload is.
const AT_ONCE: usize = 64;

impl Frame {
    /// As [`untagged`](Self::untagged), of each of `frames` under its key.
    ///
    /// In two passes: a client's own thread has just written the frames, and while their headers are looked at, all of
    /// them come from the memory of its core; one by one, each would be waited for.
    pub(crate) fn untagged_many(keys: &[&str], frames: &[Option<Bytes>]) -> Vec<Option<(Header, usize)>> {
        let mut found = Vec::with_capacity(frames.len());
        let mut heads = seal::Heads::with_capacity(frames.len().min(AT_ONCE));
        for (keys, frames) in keys.chunks(AT_ONCE).zip(frames.chunks(AT_ONCE)) {
            heads.clear();
            let first = found.len();
            let frames = keys.iter().zip(frames).map(|(key, frame)| (*key, frame.as_deref().unwrap_or_default()));
            for (key, bytes) in frames.clone() {
                let header = Self::untagged_header(bytes);
                if let Some(header) = &header {
                    heads.write(key, header);
                }
                found.push(header.map(|header| (header, HEADER + seal::LEN)));
            }
            for ((key, bytes), found) in frames.zip(found.iter_mut().skip(first)) {
                let fits = found.as_ref().is_some_and(|(header, at)| {
                    let sealed = bytes.get(HEADER..*at).unwrap_or_default();
                    heads.fits(key, header, bytes.get(*at..).unwrap_or_default(), sealed)
                });
                if !fits {
                    *found = None;
                }
            }
        }
        found
    }
}
