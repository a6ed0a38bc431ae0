//! What a simulation showed: the published checker over the whole history, and what must hold in the end.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use cache_core::observe::Snapshot;
use cache_core::testkit::history::{Bounds, Op, Record, Report, Tier, Violations, check};
use foldhash::fast::FixedState;

use crate::faults::Fault;
use crate::scene::{Note, Noted, Proof, World};

/// What a simulation showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Bound, own writes and order (G3, G2, G4).
    pub(crate) report: Report,
    /// Reads that asked the far store and were older than what had been acknowledged (G1).
    pub(crate) fresh: Violations,
    /// Reads under a bound of their own that were older than it.
    pub(crate) bounded: Violations,
    /// Reads of values past their ttl (G5).
    pub(crate) expired: Violations,
    /// Rows on which a process and the database disagree in the quiet at the end.
    pub(crate) unequal: u64,
    /// Flights and invalidations that are not done in the end.
    pub(crate) undone: u64,
    /// Leases that stand in the end.
    pub(crate) leases: u64,
    /// The sum of the lives of all processes.
    pub(crate) lived: Duration,
    pub(crate) origin_reads: u64,
    pub(crate) metrics: Vec<Snapshot>,
    /// Everything that was seen, kept only if a promise was broken.
    pub(crate) notes: Vec<Noted>,
    /// Of everything that was seen, in its order: equal in every replay.
    pub(crate) hash: u64,
}

impl Findings {
    /// The notes about the key of the first violation, up to it.
    pub(crate) fn led_to(&self) -> Vec<Noted> {
        let Report { bound, own_write, monotonic, .. } = &self.report;
        let all = [&self.fresh, own_write, bound, &self.bounded, monotonic, &self.expired];
        let Some(first) = all.iter().filter_map(|broken| broken.first).min_by_key(|record| record.start) else {
            return Vec::new();
        };
        let about = self.notes.iter().filter(|noted| u64::from(noted.note.key) == first.key);
        about.filter(|noted| noted.note.begun <= first.start).copied().collect()
    }

    pub(crate) fn violations(&self) -> u64 {
        let reads = [&self.fresh, &self.bounded, &self.expired].iter().map(|broken| broken.count).sum::<u64>();
        self.report.violations() + reads + self.unequal + self.undone + self.leases
    }

    /// The promise that was broken first, by the order of the promises.
    pub(crate) fn broken(&self) -> &'static str {
        let promises = [
            (self.fresh.count, "G1 far"),
            (self.report.own_write.count, "G2 own write"),
            (self.report.bound.count, "G3 bound"),
            (self.bounded.count, "G3 bound of a call"),
            (self.report.monotonic.count, "G4 order"),
            (self.expired.count, "G5 ttl"),
            (self.unequal, "rest"),
            (self.undone, "undone"),
            (self.leases, "lease left"),
        ];
        promises.iter().find(|(count, _)| *count > 0).map_or("none", |(_, name)| name)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)?;
        for (rule, broken) in [("fresh", &self.fresh), ("bounded", &self.bounded), ("expired", &self.expired)] {
            if let Some(first) = &broken.first {
                write!(f, " {rule}={} (worst {:?}, first {first:?})", broken.count, broken.worst)?;
            }
        }
        for (what, count) in [("unequal", self.unequal), ("undone", self.undone), ("leases", self.leases)] {
            if count > 0 {
                write!(f, " {what}={count}")?;
            }
        }
        Ok(())
    }
}

/// Checks everything that was noted.
pub(crate) fn judge(findings: &mut Findings, world: &World, notes: &[Noted]) {
    let plan = &world.plan;
    let all: Vec<Record> = notes.iter().map(record).collect();
    let bounds = Bounds { bound: plan.bound, outage: plan.outage };
    findings.report = check(&all, bounds);
    // marked answers may be followed by other marked answers of the same age
    let confirmed: Vec<Record> =
        all.iter().filter(|record| record.op != Op::Read(Tier::Unconfirmed)).copied().collect();
    findings.report.monotonic = check(&confirmed, bounds).monotonic;
    let now = notes.iter().filter(|noted| noted.note.proof == Proof::Now).map(record).collect::<Vec<_>>();
    findings.fresh = check(&now, Bounds::new(Duration::ZERO)).bound;
    for noted in notes {
        if let Proof::Within(bound) = noted.note.proof {
            // what tags promise is the process's own bound, which was checked above
            let acknowledged = |other: &&Noted| other.note.op == Op::Acknowledged && other.note.proof == Proof::Now;
            let note = noted.note;
            let mut one: Vec<Record> =
                notes.iter().filter(acknowledged).filter(|other| other.note.key == note.key).map(record).collect();
            one.push(record(noted));
            let broken = check(&one, Bounds::new(bound)).bound;
            findings.bounded.count += broken.count;
            findings.bounded.worst = findings.bounded.worst.max(broken.worst);
            findings.bounded.first = findings.bounded.first.or(broken.first);
        }
    }
    // a wall clock that is set ends ttls early or late
    if !plan.faults.contains(&Fault::SetClock) {
        findings.expired = expired(world, notes);
    }
    findings.origin_reads = world.origin.reads();
    findings.hash = hash(notes, &findings.metrics);
    if findings.violations() > 0 {
        findings.notes = notes.to_vec();
    }
}

fn record(noted: &Noted) -> Record {
    let Note { process, op, key, version, begun, .. } = noted.note;
    Record { process, op, key: u64::from(key), start: begun, end: noted.ended, version }
}

/// Reads of versions that nobody loaded within a ttl, and what travels with it, before the read began.
fn expired(world: &World, notes: &[Noted]) -> Violations {
    let slack = world.plan.deadline + world.plan.bound;
    let most = u64::try_from((world.plan.ttl + slack).as_nanos()).unwrap_or(u64::MAX);
    let mut broken = Violations::default();
    for noted in notes {
        let Note { op: Op::Read(_), key, version, begun, .. } = noted.note else { continue };
        let age = world.origin.last_loaded(key, version).map(|loaded| begun.saturating_sub(loaded));
        if let Some(age) = age.filter(|age| *age > most) {
            broken.count += 1;
            broken.worst = broken.worst.max(Duration::from_nanos(age));
            broken.first = broken.first.or(Some(record(noted)));
        }
    }
    broken
}

fn hash(notes: &[Noted], metrics: &[Snapshot]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for Noted { note, ended } in notes {
        (note.process, note.op, note.key, note.version, note.begun, ended).hash(&mut hasher);
    }
    for snapshot in metrics {
        snapshot.iter().for_each(|(_, count)| count.hash(&mut hasher));
    }
    hasher.finish()
}
