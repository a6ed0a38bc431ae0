//! What a failover excuses: that what it can have lost is missed, for a while, and nothing else.
//!
//! Replication is asynchronous, so a failover may lose what was acknowledged. The promise is then weaker: nothing older
//! is served once the processes have met the new server and repeated what they had been told was done. A write *can have
//! been lost* if it was under way between [`LAG`] before the fault and the moment when every process had met the new
//! server. It counts as acknowledged anew [`REPLAYED`] after that moment. What was written before or later binds all along.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cache_core::testkit::history::{Op, Record};

/// How far a replica may be behind what was acknowledged. A server sends a change to its replicas in the turn of its loop
/// in which it answers, and what a stopped server had sent still arrives, so this is the longest that a turn may last on
/// a crowded machine. Replicas are in step when a server is stopped.
const LAG: Duration = Duration::from_millis(100);
/// How long after the last process met the new server everything lost has been repeated.
const REPLAYED: Duration = Duration::from_secs(1);
/// The longest until all have met a new server that is there. With [`REPLAYED`] and the bound, nothing is excused later
/// than 5 s after it was there.
pub(crate) const MEETS: Duration = Duration::from_secs(3);

/// A failover. Times are in nanoseconds on the machine's one clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Takeover {
    /// When the old server was stopped.
    pub(crate) begun: u64,
    /// When the new one was there.
    pub(crate) done: u64,
    /// When every process had met it and none talked to the old one any more.
    pub(crate) met: u64,
    /// Reads that were older than without it.
    pub(crate) stale: u64,
    /// The beginning of the last of them.
    pub(crate) last: u64,
}

impl Takeover {
    /// How long it took.
    pub(crate) const fn took(&self) -> Duration {
        Duration::from_nanos(self.done.saturating_sub(self.begun))
    }

    /// How long after its beginning the last stale read began.
    pub(crate) const fn window(&self) -> Duration {
        Duration::from_nanos(self.last.saturating_sub(self.begun))
    }

    /// How long reads may be excused by it.
    pub(crate) fn excusing(&self, bound: Duration) -> Duration {
        Duration::from_nanos(self.binds().saturating_sub(self.from())) + bound
    }

    fn from(&self) -> u64 {
        self.begun.saturating_sub(nanos(LAG))
    }

    /// When what it lost counts as acknowledged anew.
    fn binds(&self) -> u64 {
        self.met.saturating_add(nanos(REPLAYED))
    }

    /// Whether it can have lost `write`.
    fn loses(&self, write: &Write) -> bool {
        write.start <= self.met && write.end.is_none_or(|end| end >= self.from())
    }

    /// Whether a read that began at `start` can be excused by it, if the write that it missed is a lost one.
    fn covers(&self, start: u64, bound: Duration) -> bool {
        (self.from()..self.binds().saturating_add(nanos(bound))).contains(&start)
    }

    pub(crate) fn blame(&mut self, start: u64) {
        self.stale += 1;
        self.last = self.last.max(start);
    }
}

/// A write of a version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) start: u64,
    /// `None` if it was not acknowledged: then it may be repeated, and land, at any time.
    pub(crate) end: Option<u64>,
}

/// The writes of each key, by version.
pub(crate) type Writes = HashMap<u64, HashMap<u64, Write>>;

/// The history in which what a failover can have lost is acknowledged when it was repeated.
pub(crate) fn weakened(history: &[Record], takeovers: &[Takeover]) -> Vec<Record> {
    let weaken = |record: &Record| {
        let mut record = *record;
        if record.op == Op::Acknowledged {
            let write = Write { start: record.start, end: Some(record.end) };
            let lost = takeovers.iter().filter(|takeover| takeover.loses(&write));
            record.end = lost.map(Takeover::binds).fold(record.end, u64::max);
        }
        record
    };
    history.iter().map(weaken).collect()
}

/// The failover that may have taken a key back from version `seen` to that of `read`, if there is one: it covers the read,
/// and can have lost every version between.
pub(crate) fn went_back(
    takeovers: &[Takeover],
    read: &Record,
    seen: u64,
    writes: &Writes,
    bound: Duration,
) -> Option<usize> {
    let of_key = writes.get(&read.key)?;
    takeovers.iter().rposition(|takeover| {
        let lost = |version| of_key.get(&version).is_some_and(|write| takeover.loses(write));
        takeover.covers(read.start, bound) && (read.version + 1..=seen).all(lost)
    })
}

/// The failover that a read which only the weaker promise allows is laid upon.
pub(crate) fn behind(takeovers: &mut [Takeover], start: u64) -> Option<&mut Takeover> {
    takeovers.iter_mut().rfind(|takeover| takeover.from() <= start)
}

/// How many reads might have been excused at all: of keys of which a failover can have lost a write, in its time.
pub(crate) fn excusable(history: &[Record], takeovers: &[Takeover], writes: &Writes, allowed: Duration) -> u64 {
    let keys: Vec<HashSet<u64>> = takeovers
        .iter()
        .map(|takeover| {
            let loses = |(_, of_key): &(&u64, &HashMap<u64, Write>)| of_key.values().any(|write| takeover.loses(write));
            writes.iter().filter(loses).map(|(key, _)| *key).collect()
        })
        .collect();
    let excused = |read: &&Record| {
        let mut both = takeovers.iter().zip(&keys);
        both.any(|(takeover, keys)| takeover.covers(read.start, allowed) && keys.contains(&read.key))
    };
    history.iter().filter(|record| record.op != Op::Acknowledged).filter(excused).count() as u64
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
