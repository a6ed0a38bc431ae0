//! Checks a recorded history of reads and acknowledged changes against the staleness bound.
//!
//! The origin of the histories is a counter per key, so every value *is* a version and checking is exact: no search for
//! a linearization, O(n log n). All times are of one clock, for example [`Clock::system`](crate::Clock::system) in
//! processes of one machine.
//!
//! A read of key k by process p that began at t must return at least
//!
//! * what any process had acknowledged by t - D (*bound*, G3);
//! * what p itself had acknowledged by t (*own write*, G2);
//! * what any earlier read of k by p had returned (*monotonic*, G4).
//!
//! ```
//! use std::time::Duration;
//! use cache_core::testkit::history::{Bounds, Op, Record, Tier, check};
//!
//! let ms = 1_000_000;
//! let record = |process, op, start: u64, end: u64, version| Record {
//!     process, op, key: 1, start: start * ms, end: end * ms, version,
//! };
//! let history = [
//!     record(0, Op::Acknowledged, 0, 10, 2),
//!     record(1, Op::Read(Tier::Near), 1000, 1001, 1), // one second old: within the bound
//!     record(1, Op::Read(Tier::Near), 2500, 2501, 1), // not any more
//! ];
//! let report = check(&history, Bounds::new(Duration::from_secs(2)));
//! assert_eq!((report.reads, report.bound.count), (2, 1));
//! assert_eq!(report.bound.worst, Duration::from_millis(2490));
//! ```

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Where a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The near store.
    Near,
    /// The far store.
    Far,
    /// The origin, joined loads included.
    Origin,
    /// Any store, with a value that was marked unconfirmed: the bound for an outage applies.
    Unconfirmed,
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// The origin held this version, and its invalidation was acknowledged at the record's end.
    Acknowledged,
    /// A read returned this version.
    Read(Tier),
}

/// One operation that ended without error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The process.
    pub process: u32,
    /// What it did.
    pub op: Op,
    /// The key.
    pub key: u64,
    /// The moment before it was invoked, in ns.
    pub start: u64,
    /// The moment after it had returned, in ns.
    pub end: u64,
    /// The version acknowledged or read; 0 is the one before any change.
    pub version: u64,
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// D: after this time no process is answered with an older value.
    pub bound: Duration,
    /// D_out: this much longer, answers that are marked unconfirmed.
    pub outage: Duration,
}

impl Bounds {
    /// The bound alone; unconfirmed answers get no longer.
    #[must_use]
    pub const fn new(bound: Duration) -> Self {
        Self { bound, outage: Duration::ZERO }
    }
}

/// A rule that reads have to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing older than the bound (G3).
    Bound,
    /// Nothing older than what the same process had acknowledged (G2).
    OwnWrite,
    /// Nothing older than an earlier read of the same process (G4).
    Monotonic,
}

/// The reads that broke one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// How many.
    pub count: u64,
    /// The greatest age: the time between the moment from which a newer version was known and the read's start.
    pub worst: Duration,
    /// The first of them in time, to look at.
    pub first: Option<Record>,
}

impl Violations {
    fn add(&mut self, read: &Record, known_since: u64) {
        self.count += 1;
        self.worst = self.worst.max(Duration::from_nanos(read.start.saturating_sub(known_since)));
        if self.first.is_none_or(|first| read.start < first.start) {
            self.first = Some(*read);
        }
    }
}

/// What a history showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many reads were checked.
    pub reads: u64,
    /// How many of them were answered near, far, by the origin, and unconfirmed.
    pub tiers: [u64; 4],
    /// How many acknowledgements there were.
    pub acknowledged: u64,
    /// Reads that were older than the bound allows.
    pub bound: Violations,
    /// Reads that were older than what the same process had acknowledged.
    pub own_write: Violations,
    /// Reads that were older than an earlier read of the same process.
    pub monotonic: Violations,
    /// The greatest age of any answer, allowed ones included.
    pub oldest: Duration,
}

impl Report {
    /// How many rules were broken, over all reads.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.bound.count + self.own_write.count + self.monotonic.count
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [near, far, origin, unconfirmed] = self.tiers;
        write!(
            f,
            "reads={} near={near} far={far} origin={origin} unconfirmed={unconfirmed} acknowledged={} oldest={:?}",
            self.reads, self.acknowledged, self.oldest
        )?;
        for (rule, broken) in [("bound", &self.bound), ("own_write", &self.own_write), ("monotonic", &self.monotonic)] {
            write!(f, " {rule}={}", broken.count)?;
            if let Some(first) = &broken.first {
                write!(f, " (worst {:?}, first {first:?})", broken.worst)?;
            }
        }
        Ok(())
    }
}

/// What is known from some moment on: versions only grow.
#[derive(Default)]
struct Known {
    /// Moment and version, both growing.
    steps: Vec<(u64, u64)>,
}

impl Known {
    /// From moments in any order.
    fn from(mut moments: Vec<(u64, u64)>) -> Self {
        moments.sort_unstable();
        let mut steps: Vec<(u64, u64)> = Vec::new();
        for (at, version) in moments {
            if steps.last().is_none_or(|(_, known)| version > *known) {
                steps.push((at, version));
            }
        }
        Self { steps }
    }

    /// The version known at `moment` or before.
    fn at(&self, moment: u64) -> u64 {
        let after = self.steps.partition_point(|(at, _)| *at <= moment);
        after.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }

    /// The moment from which a version beyond `version` was known.
    fn beyond(&self, version: u64) -> Option<u64> {
        let first = self.steps.partition_point(|(_, known)| *known <= version);
        self.steps.get(first).map(|(at, _)| *at)
    }
}

/// Checks `history`, in any order, against `bounds`.
#[must_use]
pub fn check(history: &[Record], bounds: Bounds) -> Report {
    check_each(history, bounds, |_, _, _| ())
}

/// As [`check`], and hands each read that broke a rule to `broken`, with the rule and the moment from which a newer
/// version was known.
pub fn check_each(history: &[Record], bounds: Bounds, mut broken: impl FnMut(Rule, &Record, u64)) -> Report {
    let mut report = Report::default();
    let mut by_all: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
    let mut by_one: HashMap<(u32, u64), Vec<(u64, u64)>> = HashMap::new();
    let mut returned: HashMap<(u32, u64), Vec<(u64, u64)>> = HashMap::new();
    for record in history {
        let Record { process, key, end, version, .. } = *record;
        match record.op {
            Op::Acknowledged => {
                report.acknowledged += 1;
                by_all.entry(key).or_default().push((end, version));
                by_one.entry((process, key)).or_default().push((end, version));
            }
            // a read that ended when another began is before it only if it ended earlier
            Op::Read(_) => returned.entry((process, key)).or_default().push((end + 1, version)),
        }
    }
    let by_all = known(by_all);
    let by_one = known(by_one);
    let returned = known(returned);
    let nothing = Known::default();
    for read in history {
        let Op::Read(tier) = read.op else { continue };
        report.reads += 1;
        report.tiers[tier as usize] += 1;
        let own = (read.process, read.key);
        let all = by_all.get(&read.key).unwrap_or(&nothing);
        let mine = by_one.get(&own).unwrap_or(&nothing);
        let seen = returned.get(&own).unwrap_or(&nothing);
        let allowed = if tier == Tier::Unconfirmed { bounds.bound + bounds.outage } else { bounds.bound };
        let allowed = u64::try_from(allowed.as_nanos()).unwrap_or(u64::MAX);
        if let Some(since) = all.beyond(read.version) {
            report.oldest = report.oldest.max(Duration::from_nanos(read.start.saturating_sub(since)));
            if read.start.checked_sub(allowed).is_some_and(|known_by| since <= known_by) {
                report.bound.add(read, since);
                broken(Rule::Bound, read, since);
            }
        }
        let rules = [(Rule::OwnWrite, mine, &mut report.own_write), (Rule::Monotonic, seen, &mut report.monotonic)];
        for (rule, known, violations) in rules {
            if known.at(read.start) > read.version {
                let since = known.beyond(read.version).unwrap_or(read.start);
                violations.add(read, since);
                broken(rule, read, since);
            }
        }
    }
    report
}

fn known<K: Eq + std::hash::Hash>(moments: HashMap<K, Vec<(u64, u64)>>) -> HashMap<K, Known> {
    moments.into_iter().map(|(key, moments)| (key, Known::from(moments))).collect()
}

#[cfg(test)]
mod tests;
