//! What a plain hit asks of an entry.

use std::any::Any;
use std::sync::Arc;

use crate::{Entry, Tick};

/// What a [`LocalStore`](crate::LocalStore) says of an entry to a caller that may do without it.
///
/// Most hits take the value and leave the entry, so to count a reference to it and back is a third of what a hit costs over
/// a bare lookup. A store that can look at an entry where it stands answers with what such a hit asks.
#[derive(Debug)]
pub enum Glance {
    /// What was read of the entry, all at one moment between the call and its return.
    Part(Part),
    /// The entry.
    Whole(Arc<Entry>),
}

/// What a plain hit asks of an entry.
#[derive(Debug)]
pub struct Part {
    /// [`Entry::epoch`].
    pub epoch: u64,
    /// [`Entry::attention`].
    pub attention: Tick,
    /// [`Header::s0`](crate::Header::s0).
    pub s0: u64,
    /// [`Header::codec`](crate::Header::codec).
    pub codec: u32,
    /// The decoded value; `None` for an entry that says "there is nothing".
    pub value: Option<Arc<dyn Any + Send + Sync>>,
}

impl Entry {
    /// What a plain hit asks; `None` if it has to have the entry: it is tagged, or nobody has decoded it.
    #[must_use]
    #[inline]
    pub fn part(&self) -> Option<Part> {
        if self.is_tagged() {
            return None;
        }
        let header = self.header();
        let value = match self.remembered() {
            Some(value) => Some(Arc::clone(value)),
            None if header.is_negative() => None,
            None => return None,
        };
        Some(Part { epoch: self.epoch(), attention: self.attention(), s0: header.s0, codec: header.codec, value })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::envelope::flag;
    use crate::{Frame, Header, Tags};

    fn entry(flags: u8, tags: &[u64]) -> Entry {
        let header = Header { flags, codec: 7, s0: 3, ..Header::value() };
        let tags = Tags::new(tags.to_vec()).unwrap();
        let entry = Entry::new(Frame { header, tags, payload: Bytes::new() }, Tick::from_nanos(9));
        entry.confirm(5, Tick::ZERO);
        entry
    }

    #[test]
    fn a_plain_hit_is_told_what_the_entry_says() {
        let plain = entry(0, &[]);
        assert!(plain.part().is_none(), "not decoded");
        plain.remember(Arc::new(4u8));
        let part = plain.part().unwrap();
        assert_eq!((part.epoch, part.attention, part.s0, part.codec), (5, Tick::from_nanos(9), 3, 7));
        assert_eq!(*part.value.unwrap().downcast::<u8>().unwrap(), 4);
        assert!(entry(flag::NEGATIVE, &[]).part().unwrap().value.is_none());
    }

    #[test]
    fn what_is_tagged_is_never_judged_without_its_tags() {
        let tagged = entry(0, &[1]);
        tagged.remember(Arc::new(4u8));
        assert!(tagged.part().is_none() && entry(flag::NEGATIVE, &[1]).part().is_none());
    }
}
