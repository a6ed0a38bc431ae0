//! Tag generations on a server that changes one item at a time.
//!
//! The tags of a line are spread over 64 records. A record holds the last bumps of its tags and a *floor*: what was
//! loaded below it can't be judged. A record that was lost is made anew *closed*, which is the highest floor, and opened
//! with the line's number as it is *after* that: every bump that the lost record knew and that was acknowledged is at
//! or below that number.
//!
//! A bump is noted first, one above the line's number, then numbered, then looked for again: a record that was lost in
//! between does not know it. So nobody who has seen the number can find a record that does not know the bump, once the
//! bump was acknowledged; and nobody is told of it before. Periods play no part: a record lives as long as it is used.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cache_core::envelope::ALL;
use cache_core::{Generations, Line, Result, check_ttl};

use crate::Memcached;
use crate::item::Slot;
use crate::reply::Reply;
use crate::request::Request;
use crate::sequence::{number, raised_to};
use crate::service::Attempt;
use crate::time::Expiry;

/// How many records a line has.
const RECORDS: u64 = 64;
/// How many tags a record knows; beyond that the oldest bump raises the floor.
const TAGS: usize = 1024;
/// What a record begins with.
const MAGIC: &[u8; 4] = b"tag1";
/// The floor of a record that is not open yet.
const CLOSED: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    floor: u64,
    bumps: BTreeMap<u64, u64>,
}

impl Record {
    const fn closed() -> Self {
        Self { floor: CLOSED, bumps: BTreeMap::new() }
    }

    /// The record in a slot; `None` if it has to be made.
    fn of(slot: &Slot) -> Option<Self> {
        let Slot::Live(item) = slot else { return None };
        let (floor, rest) = item.value.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        let (pairs, []) = rest.as_chunks::<16>() else { return None };
        let pair = |pair: &[u8; 16]| {
            let both = u128::from_le_bytes(*pair);
            // the low half comes first
            (both as u64, (both >> 64) as u64)
        };
        Some(Self { floor: u64::from_le_bytes(*floor), bumps: pairs.iter().map(pair).collect() })
    }

    fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + self.bumps.len() * 16);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.floor.to_le_bytes());
        for (tag, n) in &self.bumps {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes.into()
    }

    const fn is_open(&self) -> bool {
        self.floor != CLOSED
    }

    /// Notes a bump; the oldest goes into the floor if there are too many.
    fn note(&mut self, tag: u64, n: u64) {
        let known = self.bumps.entry(tag).or_default();
        *known = n.max(*known);
        while self.bumps.len() > TAGS {
            let Some((&oldest, &n)) = self.bumps.iter().min_by_key(|(_, n)| **n) else { return };
            self.bumps.remove(&oldest);
            // a closed record is at the top already
            self.floor = self.floor.max(n);
        }
    }

    /// Whether nothing loaded before bump `n` of `tag` passes.
    fn knows(&self, tag: u64, n: u64) -> bool {
        self.bumps.get(&tag).is_some_and(|known| *known >= n) || (self.is_open() && self.floor >= n)
    }
}

/// The key of the record of `tag`.
fn key(line: &Line, tag: u64) -> String {
    format!("{}r{:02}", line.tags, tag % RECORDS)
}

/// How long a record lives unused: two spans.
fn life(span: Duration) -> Result<Expiry> {
    let seconds = check_ttl(span)?.div_ceil(1000).saturating_mul(2);
    // over 30 days it would be a date, and it is touched far more often
    Ok(Expiry { seconds: i64::try_from(seconds).unwrap_or(i64::MAX).min(29 * 24 * 3600) + 1, flags: 0 })
}

impl Memcached {
    /// Bumps `tag`; the bump's number.
    pub(crate) async fn bump_tag(&self, line: &Line, tag: u64, span: Duration, attempt: Attempt) -> Result<u64> {
        let (key, life) = (key(line, tag), life(span)?);
        'anew: loop {
            let request = Request::default().get_and_touch(&key, life.seconds).get(&line.seq);
            let [record, last] = self.ask(request, attempt).await?;
            let slot = self.slot(record)?;
            let last = match number(&self.slot(last)?) {
                Some(last) => last,
                None => self.sequence(&line.seq, attempt).await?.0,
            };
            let mut record = Record::of(&slot).unwrap_or(Record::closed());
            let noted = last.saturating_add(1);
            record.note(tag, noted);
            let request = Request::default().set(&key, &record.to_bytes(), life, slot.unchanged());
            let [stored, raised, there] = self.ask(request.increment(&line.seq).get(&key), attempt).await?;
            match stored {
                Reply::Done(_) => {}
                Reply::Refused(error) => return Err(error),
                _ => continue,
            }
            let Some(n) = raised_to(&raised) else { continue };
            let mut slot = self.slot(there)?;
            // others may have taken numbers meanwhile: then the note is raised to this one
            loop {
                let Some(mut record) = Record::of(&slot) else { continue 'anew };
                if record.knows(tag, n) {
                    return Ok(n);
                }
                if !record.knows(tag, noted) {
                    continue 'anew;
                }
                record.note(tag, n);
                let request = Request::default().set(&key, &record.to_bytes(), life, slot.unchanged());
                let [stored, there] = self.ask(request.get(&key), attempt).await?;
                match stored {
                    Reply::Done(_) => return Ok(n),
                    Reply::Refused(error) => return Err(error),
                    _ => slot = self.slot(there)?,
                }
            }
        }
    }

    /// The generations of `tags`.
    pub(crate) async fn tag_generations(
        &self,
        line: &Line,
        tags: &[u64],
        span: Duration,
        attempt: Attempt,
    ) -> Result<Generations> {
        let life = life(span)?;
        // the record of "everything" counts always
        let mut records: BTreeMap<u64, Record> = BTreeMap::new();
        let wanted: Vec<u64> = tags.iter().chain([&ALL]).map(|tag| tag % RECORDS).collect();
        let request = wanted
            .iter()
            .fold(Request::default(), |request, tag| request.get_and_touch(&key(line, *tag), life.seconds));
        for (part, reply) in wanted.iter().zip(self.ask_all(request, attempt).await?) {
            let record = match Record::of(&self.slot(reply)?) {
                Some(record) if record.is_open() => record,
                _ => self.open_record(line, &key(line, *part), life, attempt).await?,
            };
            records.insert(*part, record);
        }
        let floor = records.values().map(|record| record.floor).max().unwrap_or(CLOSED);
        let bump = |tag: &u64| records.get(&(tag % RECORDS)).and_then(|record| record.bumps.get(tag)).copied();
        Ok(Generations { floor, bumps: tags.iter().map(|tag| bump(tag).unwrap_or(0)).collect() })
    }

    /// The record under `key`, made and opened if need be.
    async fn open_record(&self, line: &Line, key: &str, life: Expiry, attempt: Attempt) -> Result<Record> {
        loop {
            // in this order: the number is from after the record was read
            let [record, last] = self.ask(Request::default().get(key).get(&line.seq), attempt).await?;
            let slot = self.slot(record)?;
            let (record, when) = match Record::of(&slot) {
                Some(record) if record.is_open() => return Ok(record),
                Some(mut record) => {
                    record.floor = match number(&self.slot(last)?) {
                        Some(last) => last,
                        None => self.sequence(&line.seq, attempt).await?.0,
                    };
                    (record, slot.unchanged())
                }
                None => (Record::closed(), slot.unchanged()),
            };
            let [stored] = self.ask(Request::default().set(key, &record.to_bytes(), life, when), attempt).await?;
            match stored {
                Reply::Done(_) if record.is_open() => return Ok(record),
                Reply::Refused(error) => return Err(error),
                _ => {}
            }
        }
    }

    /// Loses the record of `tag`, as a full server may.
    #[cfg(feature = "testkit")]
    pub(crate) async fn lose_record(&self, line: &Line, tag: u64) -> Result<()> {
        let [_] = self.ask(Request::default().delete(&key(line, tag), None), self.attempt()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Item;
    use crate::request::When;
    use crate::time::Deadline;

    fn slot(bytes: impl Into<Bytes>) -> Slot {
        Slot::Live(Item { value: bytes.into(), number: 1, deadline: Deadline::Never })
    }

    #[test]
    fn a_record_reads_back_and_anything_else_is_none() {
        let mut record = Record { floor: 9, bumps: BTreeMap::new() };
        for (tag, n) in [(5, 10), (u64::MAX, u64::MAX - 1), (0, 12)] {
            record.note(tag, n);
            assert_eq!(Record::of(&slot(record.to_bytes())), Some(record.clone()));
        }
        let bytes = record.to_bytes();
        for cut in 0..bytes.len() {
            let read = Record::of(&slot(bytes.slice(..cut)));
            assert!(read.is_none_or(|read| read.bumps.len() < 3), "{cut}");
        }
        for other in ["", "tag1", "tag2\0\0\0\0\0\0\0\0", "new", "1700000000000000"] {
            assert_eq!(Record::of(&slot(other)), None, "{other:?}");
        }
        assert_eq!(Record::of(&Slot::Empty), None);
    }

    #[test]
    fn a_full_record_forgets_the_oldest_bump_into_its_floor() {
        let mut record = Record { floor: 0, bumps: BTreeMap::new() };
        for tag in 0..TAGS as u64 + 10 {
            record.note(tag, 1000 + tag);
        }
        assert_eq!((record.bumps.len(), record.floor), (TAGS, 1009));
        for tag in 0..TAGS as u64 + 10 {
            assert!(record.knows(tag, 1000 + tag), "{tag}");
        }
        let mut closed = Record::closed();
        for tag in 0..TAGS as u64 + 1 {
            closed.note(tag, tag);
        }
        assert!(!closed.is_open() && !closed.knows(7777, 1), "a closed record can't vouch for what it does not list");
    }

    #[test]
    fn a_record_lives_two_spans_and_never_by_date() {
        assert_eq!(life(Duration::from_millis(1)).unwrap().seconds, 3);
        assert_eq!(life(Duration::from_secs(60)).unwrap().seconds, 121);
        assert!(life(Duration::from_secs(3600 * 24 * 365)).unwrap().seconds < 30 * 24 * 3600);
        assert!(life(Duration::ZERO).is_err());
    }

    #[test]
    fn unchanged_means_what_was_read() {
        assert_eq!(Slot::Empty.unchanged(), When::Absent);
        assert_eq!(Slot::Over(4).unchanged(), When::Same(4));
    }
}
