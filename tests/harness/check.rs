//! What a history shows: the published checker, and what must hold in the end.

use std::collections::HashMap;
use std::time::Duration;

use cache_core::testkit::history::{self, Bounds, Report, Tier};

use crate::record::{Op, Record, Source};

/// What a history shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) report: Report,
    /// Keys on which a process and the origin disagree in the quiet at the end.
    pub(crate) unequal: u64,
    /// Keys without ttl, and leases, that stand in the far store when everything is over.
    pub(crate) leftovers: Vec<String>,
    pub(crate) make: String,
    /// Whether the far store may have lost what it acknowledged: a failover happened, and replication is asynchronous.
    /// Then the promise is weaker: nothing older is served once the invalidating processes have met the new server and
    /// repeated what they had been told was done.
    pub(crate) may_lose: bool,
}

/// The longest that a lost invalidation may show after a failover: until the failover is over and replayed.
const REPLAYED: Duration = Duration::from_secs(15);

impl Findings {
    /// What breaks the promise that holds.
    pub(crate) fn violations(&self) -> u64 {
        let reads = if self.excused() { 0 } else { self.report.violations() };
        reads + self.unequal + self.leftovers.len() as u64
    }

    /// Reads that were older than without a failover.
    pub(crate) fn lost(&self) -> u64 {
        if self.excused() { self.report.violations() } else { 0 }
    }

    fn excused(&self) -> bool {
        let Report { bound, own_write, monotonic, .. } = &self.report;
        self.may_lose && [bound, own_write, monotonic].iter().all(|broken| broken.worst <= REPLAYED)
    }
}

/// Checks the records of some processes.
pub(crate) fn check(processes: &[Vec<Record>], bound: Duration, outage: Duration) -> Findings {
    let bounds = Bounds { bound, outage };
    let history: Vec<_> = (0..).zip(processes).flat_map(|(process, records)| convert(process, records)).collect();
    let mut report = history::check(&history, bounds);
    if !outage.is_zero() {
        // values may go backwards where they were marked unconfirmed, as documented
        let confirmed: Vec<_> =
            history.into_iter().filter(|record| record.op != history::Op::Read(Tier::Unconfirmed)).collect();
        report.monotonic = history::check(&confirmed, bounds).monotonic;
    }
    let unequal = processes.iter().map(|records| unequal(records)).sum();
    Findings { report, unequal, ..Findings::default() }
}

fn convert(process: u32, records: &[Record]) -> impl Iterator<Item = history::Record> {
    records.iter().filter_map(move |record| {
        let op = match (record.op, record.source) {
            (Op::Truth, _) => return None,
            (Op::Write, _) => history::Op::Acknowledged,
            (Op::Read | Op::Last, Source::Near) => history::Op::Read(Tier::Near),
            (Op::Read | Op::Last, Source::Far) => history::Op::Read(Tier::Far),
            (Op::Read | Op::Last, Source::Origin) => history::Op::Read(Tier::Origin),
            (Op::Read | Op::Last, Source::Unconfirmed) => history::Op::Read(Tier::Unconfirmed),
        };
        let Record { key, version, invoked: start, returned: end, .. } = *record;
        Some(history::Record { process, op, key: u64::from(key), start, end, version })
    })
}

/// On how many keys the last read and the origin disagree.
fn unequal(records: &[Record]) -> u64 {
    let of = |op: Op| records.iter().filter(move |r| r.op == op).map(|r| (r.key, r.version));
    let last: HashMap<u16, u64> = of(Op::Last).collect();
    of(Op::Truth).filter(|(key, version)| last.get(key) != Some(version)).count() as u64
}
