//! What a simulation showed.

use std::fmt;
use std::time::Duration;

use cache_core::observe::Snapshot;
use cache_core::testkit::history::{Report, Violations};

use crate::world::{Failover, Noted};

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
    /// Acknowledged updates of which another one, also acknowledged, knew nothing.
    pub(crate) lost_updates: u64,
    /// How many reads were told that they are a fallback.
    pub(crate) fallbacks: u64,
    /// How many reads were not judged: their version's put was never acknowledged.
    pub(crate) loose: u64,
    /// When servers were changed.
    pub(crate) failovers: Vec<Failover>,
    /// How long after a failover something that it had lost was still served.
    pub(crate) replayed: Duration,
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
        self.report.violations() + reads + self.lost_updates + self.unequal + self.undone + self.leases
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
            (self.lost_updates, "update lost"),
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
        let counts = [
            ("fallbacks", self.fallbacks),
            ("loose", self.loose),
            ("lost_updates", self.lost_updates),
            ("unequal", self.unequal),
            ("undone", self.undone),
            ("leases", self.leases),
        ];
        for (what, count) in counts.iter().filter(|(_, count)| *count > 0) {
            write!(f, " {what}={count}")?;
        }
        Ok(())
    }
}
