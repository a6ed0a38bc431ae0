//! One cached value in memory: it decodes at most once.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::envelope::flag;
use crate::{Frame, Header, Tags, Tick};

/// What moka takes for an entry, the counters of its key included; [`LocalMemory`](crate::memory::LocalMemory) takes less.
const TABLES: usize = 312;
/// Header and seal before a payload that shares the far store's reply, and what the sharing takes.
const AROUND: usize = 80;

type Decoded = Arc<dyn Any + Send + Sync>;

/// A cached value inside the process: the frame's header, tags and payload, the decoded value once somebody asked for
/// it, and what the near tier knows about it.
///
/// A typed near hit is a lookup, a few compares, a downcast and one `Arc` clone: no decode, no allocation. Of its times a
/// hit compares one, [`attention`](Self::attention), which stands for all.
// in this order, what a hit reads stands behind the `Arc`'s counts without a gap: in two lines, wherever it is allocated
#[repr(C)]
pub struct Entry {
    epoch: AtomicU64,
    attention: AtomicU64,
    decoded: OnceLock<Decoded>,
    header: Header,
    tags: Tags,
    payload: Bytes,
    confirmed: AtomicU64,
    deadline: AtomicU64,
    kept: Tick,
}

impl Entry {
    /// Bytes counted for one entry beside its key and payload, tags by themselves: the struct and its two counters, what a
    /// near store's own tables take for an entry, and the frame around a payload that came from a far store. Measured:
    /// never less than what an entry takes.
    pub const BOOKKEEPING: usize = size_of::<Self>() + 2 * size_of::<usize>() + TABLES + AROUND;

    /// The entry of `frame`, to be served until `deadline`. It is not valid in any epoch until
    /// [`confirm`](Self::confirm)ed.
    #[must_use]
    pub fn new(frame: Frame, deadline: Tick) -> Self {
        let Frame { mut header, tags, payload } = frame;
        // what a hit reads of the tags: whether there are any
        header.flags = tags.flagged(header.flags);
        Self {
            header,
            tags,
            payload,
            decoded: OnceLock::new(),
            attention: AtomicU64::new(deadline.as_nanos()),
            deadline: AtomicU64::new(deadline.as_nanos()),
            kept: deadline,
            epoch: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
        }
    }

    /// Kept past its deadline until `kept`, as a fallback for loads that fail.
    #[must_use]
    pub fn kept_until(mut self, kept: Tick) -> Self {
        self.kept = kept.max(self.deadline());
        self
    }

    /// An entry of plain bytes, to be served until `deadline`.
    #[must_use]
    pub fn plain(payload: Bytes, deadline: Tick) -> Self {
        Self::new(Frame { header: Header::value(), tags: Tags::default(), payload }, deadline)
    }

    /// The frame's header.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The tags' hashes.
    #[must_use]
    pub fn tags(&self) -> &[u64] {
        self.tags.as_slice()
    }

    /// Whether there are tags.
    #[must_use]
    #[inline]
    pub const fn is_tagged(&self) -> bool {
        self.header.flags & flag::TAGS != 0
    }

    /// The encoded value.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The moment from which the entry may no longer be served as fresh.
    #[must_use]
    #[inline]
    pub fn deadline(&self) -> Tick {
        Tick::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// The earliest moment at which a hit has to look closer: the deadline, or an earlier one at which something is due.
    /// Never later than the deadline.
    #[must_use]
    #[inline]
    pub fn attention(&self) -> Tick {
        Tick::from_nanos(self.attention.load(Ordering::Acquire))
    }

    /// Moves [`attention`](Self::attention) from `seen` to `next`, or to the deadline if that is earlier. `false` if
    /// somebody else moved it meanwhile: of all that see the same moment come, one succeeds.
    pub fn attend(&self, seen: Tick, next: Tick) -> bool {
        let next = next.min(self.deadline()).as_nanos();
        self.attention.compare_exchange(seen.as_nanos(), next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Moves the deadline, never back; [`attention`](Self::attention) stays.
    pub fn prolong(&self, deadline: Tick) {
        self.deadline.fetch_max(deadline.as_nanos(), Ordering::AcqRel);
    }

    /// Until when the entry may be served as a fallback for a load that fails: the deadline, unless it is
    /// [kept longer](Self::kept_until).
    #[must_use]
    pub fn kept(&self) -> Tick {
        self.kept.max(self.deadline())
    }

    /// The epoch in which the entry was last known to be current; 0 if never.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The moment at which the entry was last loaded or confirmed.
    #[must_use]
    pub fn confirmed(&self) -> Tick {
        Tick::from_nanos(self.confirmed.load(Ordering::Acquire))
    }

    /// Marks the entry current in `epoch` as of `now`.
    pub fn confirm(&self, epoch: u64, now: Tick) {
        self.confirmed.store(now.as_nanos(), Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
    }

    #[inline]
    pub(crate) fn remembered(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.decoded.get()
    }

    /// The decoded value, if it was decoded as a `V`.
    #[must_use]
    #[inline]
    pub fn decoded<V: Any + Send + Sync>(&self) -> Option<Arc<V>> {
        Arc::clone(self.decoded.get()?).downcast::<V>().ok()
    }

    /// Remembers the decoded value; the first one stays.
    pub fn remember(&self, value: Arc<dyn Any + Send + Sync>) {
        // losing the race is fine: both values were decoded from the same payload
        let _ = self.decoded.set(value);
    }

    /// The bytes that the entry under a key of `key_len` bytes counts for in a near store's budget.
    ///
    /// The decoded value isn't counted: its size isn't known. Budgets are best given with that in mind.
    #[must_use]
    pub fn weight(&self, key_len: usize) -> u64 {
        let bytes = key_len + self.payload.len() + size_of_val(self.tags()) + Self::BOOKKEEPING;
        bytes as u64
    }

    /// The entry's frame, for example to store it elsewhere.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        Frame { header: self.header, tags: self.tags.clone(), payload: self.payload.clone() }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("header", &self.header)
            .field("tags", &self.tags.as_slice().len())
            .field("payload_bytes", &self.payload.len())
            .field("decoded", &self.decoded.get().is_some())
            .field("deadline", &self.deadline())
            .field("epoch", &self.epoch())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn attention_is_claimed_once_and_never_passes_the_deadline() {
        let entry = Entry::plain(Bytes::new(), at(10)).kept_until(at(20));
        assert_eq!((entry.attention(), entry.deadline(), entry.kept()), (at(10), at(10), at(20)));
        assert!(entry.attend(at(10), at(5)));
        assert!(!entry.attend(at(10), at(6)), "somebody was faster");
        assert!(entry.attend(at(5), at(15)));
        assert_eq!(entry.attention(), at(10));
    }

    #[test]
    fn a_deadline_moves_forward_only() {
        let entry = Entry::plain(Bytes::new(), at(10)).kept_until(at(5));
        assert_eq!(entry.kept(), at(10), "kept for as long as it is fresh");
        entry.prolong(at(8));
        assert_eq!(entry.deadline(), at(10));
        entry.prolong(at(12));
        assert_eq!((entry.deadline(), entry.kept()), (at(12), at(12)));
    }
}
