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
}

impl Findings {
    pub(crate) fn violations(&self) -> u64 {
        self.report.violations() + self.unequal + self.leftovers.len() as u64
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
