//! The book that is kept over versions: what was acknowledged when, and what was read after that.
//!
//! Every product carries its version, so a read can be judged exactly. Two promises are judged at once, at every read:
//! nobody reads an older version than this process acknowledged (G2) or already read (G4) before the read began. The
//! bound on other processes (G3) is judged at the end, over the books of all: for each version of each product the last
//! read that got it is enough, because the later a read began, the worse.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::catalogue::PROBE;

/// Versions stand in the upper bits of a slot, the time of the last read that got it in the lower ones.
const TIME_BITS: u32 = 42;
const TIMES: u64 = (1 << TIME_BITS) - 1;
/// The highest version that fits.
const VERSIONS: u32 = (1 << (64 - TIME_BITS)) - 1;

/// The time in nanoseconds, the same for all processes of the machine.
pub(crate) fn now() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // goes on while the machine sleeps and is never set back
        cache_strata::core::Clock::system().now().as_nanos()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// An invalidation that was acknowledged.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ack {
    pub(crate) id: u32,
    pub(crate) version: u32,
    /// When the call was made: the new version was committed before.
    pub(crate) called: u64,
    /// When it returned.
    pub(crate) returned: u64,
}

/// The last read that got this version.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sighting {
    pub(crate) id: u32,
    pub(crate) version: u32,
    /// When it began.
    pub(crate) began: u64,
}

/// What was known when a read began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    /// When.
    pub(crate) at: u64,
    acknowledged: u32,
    seen: u32,
}

/// One process's book.
#[derive(Debug)]
pub(crate) struct Ledger {
    start: u64,
    seen: Box<[AtomicU64]>,
    acknowledged: Box<[AtomicU32]>,
    older: Mutex<Vec<Sighting>>,
    acks: Mutex<Vec<Ack>>,
    unwritten: AtomicU64,
    backwards: AtomicU64,
}

impl Ledger {
    /// An empty book that begins at `start`.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            start,
            seen: (0..=PROBE).map(|_| AtomicU64::new(0)).collect(),
            acknowledged: (0..=PROBE).map(|_| AtomicU32::new(0)).collect(),
            older: Mutex::default(),
            acks: Mutex::default(),
            unwritten: AtomicU64::new(0),
            backwards: AtomicU64::new(0),
        }
    }

    /// A read of product `id` begins.
    #[inline]
    pub(crate) fn begin(&self, id: u32) -> Began {
        // the floors first, the clock last: what is known here happened before the read
        let acknowledged = self.acknowledged[id as usize].load(Ordering::Acquire);
        let seen = version(self.seen[id as usize].load(Ordering::Acquire));
        Began { at: now(), acknowledged, seen }
    }

    /// It got `got`. One that said itself that it may be stale (`marked`) is held to what this process wrote alone.
    #[inline]
    pub(crate) fn end(&self, id: u32, began: Began, got: u32, marked: bool) {
        if got < began.acknowledged {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        if marked {
            return;
        }
        if got < began.seen {
            self.backwards.fetch_add(1, Ordering::Relaxed);
        }
        let mine = u64::from(got) << TIME_BITS | (began.at.saturating_sub(self.start)).min(TIMES);
        let before = self.seen[id as usize].fetch_max(mine, Ordering::AcqRel);
        // what the slot can't hold any more, or never held
        let lost = if version(before) < got { before } else { mine };
        if version(before) != got && version(lost) != 0 {
            self.older.lock().unwrap_or_else(PoisonError::into_inner).push(self.sighting(id, lost));
        }
    }

    /// The invalidation after the commit of `version` was acknowledged.
    pub(crate) fn acknowledge(&self, ack: Ack) -> Result<()> {
        ensure!(ack.version < VERSIONS, "a product has had too many versions; remove the catalogue and start again");
        self.acknowledged[ack.id as usize].fetch_max(ack.version, Ordering::AcqRel);
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
        Ok(())
    }

    fn sighting(&self, id: u32, slot: u64) -> Sighting {
        Sighting { id, version: version(slot), began: self.start + (slot & TIMES) }
    }

    /// The book as others can read it.
    pub(crate) fn page(&self) -> Page {
        let mut sightings = self.older.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (id, slot) in (0u32..).zip(&self.seen) {
            let slot = slot.load(Ordering::Acquire);
            if version(slot) != 0 {
                sightings.push(self.sighting(id, slot));
            }
        }
        Page {
            acks: self.acks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            sightings,
            unwritten: self.unwritten.load(Ordering::Relaxed),
            backwards: self.backwards.load(Ordering::Relaxed),
        }
    }
}

fn version(slot: u64) -> u32 {
    u32::try_from(slot >> TIME_BITS).unwrap_or(u32::MAX)
}

/// What a process's book says in the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) acks: Vec<Ack>,
    pub(crate) sightings: Vec<Sighting>,
    /// Reads that got less than this process had acknowledged before they began.
    pub(crate) unwritten: u64,
    /// Reads that got less than this process had read before they began.
    pub(crate) backwards: u64,
}

/// What all books together say about the bound between processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Versions that were read longer than the bound after another process had acknowledged a newer one.
    pub(crate) beyond: u64,
    /// The longest time after an acknowledgement that another process began a read that still got the old version.
    pub(crate) longest: Duration,
}

/// Judges the books of all processes.
pub(crate) fn judge(pages: &[&Page], bound: Duration) -> Verdict {
    let mut verdict = Verdict::default();
    for (reader, page) in pages.iter().enumerate() {
        let mut foreign: HashMap<u32, Vec<Ack>> = HashMap::new();
        for (_, other) in pages.iter().enumerate().filter(|(writer, _)| *writer != reader) {
            for ack in &other.acks {
                foreign.entry(ack.id).or_default().push(*ack);
            }
        }
        for sighting in &page.sightings {
            let newer = foreign.get(&sighting.id).into_iter().flatten().filter(|ack| ack.version > sighting.version);
            let Some(first) = newer.map(|ack| ack.returned).min() else { continue };
            let late = Duration::from_nanos(sighting.began.saturating_sub(first));
            verdict.longest = verdict.longest.max(late);
            verdict.beyond += u64::from(late > bound);
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_nanos(100);

    fn ack(id: u32, version: u32, returned: u64) -> Ack {
        Ack { id, version, called: returned - 1, returned }
    }

    fn page(acks: &[Ack], sightings: &[(u32, u32, u64)]) -> Page {
        let sightings = sightings.iter().map(|&(id, version, began)| Sighting { id, version, began }).collect();
        Page { acks: acks.to_vec(), sightings, ..Page::default() }
    }

    #[test]
    fn an_old_version_past_the_bound_is_found() {
        let writer = page(&[ack(1, 5, 1000), ack(1, 6, 2000)], &[]);
        for (sighting, beyond) in [((1, 4, 1100), 0), ((1, 4, 1101), 1), ((1, 5, 1500), 0), ((2, 1, 9999), 0)] {
            let verdict = judge(&[&writer, &page(&[], &[sighting])], BOUND);
            assert_eq!(verdict.beyond, beyond, "{sighting:?}");
        }
        let late = judge(&[&writer, &page(&[], &[(1, 5, 2150)])], BOUND);
        assert_eq!(late, Verdict { beyond: 1, longest: Duration::from_nanos(150) });
    }

    #[test]
    fn the_last_read_of_each_version_is_kept() {
        let ledger = Ledger::new(0);
        let read = |at, version, marked| {
            let began = Began { at, acknowledged: 0, seen: 0 };
            ledger.end(7, began, version, marked);
        };
        // as they end, not as they began; the last one said that it may be stale
        for (at, version, marked) in
            [(10, 1, false), (30, 1, false), (20, 1, false), (40, 3, false), (50, 1, false), (90, 1, true)]
        {
            read(at, version, marked);
        }
        let mut kept: Vec<_> = ledger.page().sightings.iter().map(|s| (s.version, s.began)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [(1, 30), (1, 50), (3, 40)]);
    }

    #[test]
    fn reads_below_what_was_written_or_read_are_counted() {
        let ledger = Ledger::new(now());
        ledger.end(7, ledger.begin(7), 3, false);
        ledger.end(7, ledger.begin(7), 2, false);
        let before = ledger.begin(7);
        ledger.acknowledge(ack(7, 4, now())).unwrap();
        ledger.end(7, before, 3, false);
        assert_eq!((ledger.page().unwritten, ledger.page().backwards), (0, 1));
        ledger.end(7, ledger.begin(7), 3, true);
        assert_eq!((ledger.page().unwritten, ledger.page().backwards), (1, 1));
    }
}
