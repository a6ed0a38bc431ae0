//! What a history shows: the published checker, and what must hold in the end.

use std::collections::HashMap;
use std::time::Duration;

use cache_core::testkit::history::{self, Bounds, Report, Rule, Tier};

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
    /// The failovers. Replication is asynchronous, so they may lose what was acknowledged, and the promise is weaker:
    /// nothing older is served once the invalidating processes have met the new server and repeated what they had been
    /// told was done.
    pub(crate) takeovers: Vec<Takeover>,
    /// Reads that broke a rule and that no failover excuses.
    pub(crate) unexcused: u64,
}

/// A moment at which another server may have taken over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Takeover {
    /// When it began and when the new server was there, in nanoseconds on the machine's one clock.
    pub(crate) begun: u64,
    pub(crate) done: u64,
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
}

/// The longest that a lost invalidation may show once the new server is there: until all have met it and repeated.
const REPLAYED: Duration = Duration::from_secs(5);

impl Findings {
    /// What breaks the promise that holds.
    pub(crate) const fn violations(&self) -> u64 {
        self.unexcused + self.unequal + self.leftovers.len() as u64
    }

    /// Reads that were older than without a failover.
    pub(crate) fn lost(&self) -> u64 {
        self.takeovers.iter().map(|takeover| takeover.stale).sum()
    }
}

/// Checks the records of some processes.
pub(crate) fn check(
    processes: &[Vec<Record>],
    bound: Duration,
    outage: Duration,
    takeovers: Vec<Takeover>,
) -> Findings {
    let bounds = Bounds { bound, outage };
    let mut findings = Findings { takeovers, ..Findings::default() };
    let history: Vec<_> = (0..).zip(processes).flat_map(|(process, records)| convert(process, records)).collect();
    findings.report = history::check_each(&history, bounds, |rule, read, _| {
        if outage.is_zero() || rule != Rule::Monotonic {
            blame(&mut findings.takeovers, &mut findings.unexcused, read.start);
        }
    });
    if !outage.is_zero() {
        // values may go backwards where they were marked unconfirmed, as documented
        let confirmed: Vec<_> =
            history.into_iter().filter(|record| record.op != history::Op::Read(Tier::Unconfirmed)).collect();
        let again = history::check_each(&confirmed, bounds, |rule, read, _| {
            if rule == Rule::Monotonic {
                blame(&mut findings.takeovers, &mut findings.unexcused, read.start);
            }
        });
        findings.report.monotonic = again.monotonic;
    }
    findings.unequal = processes.iter().map(|records| unequal(records)).sum();
    findings
}

/// Lays a stale read on the failover before it, if that excuses it.
fn blame(takeovers: &mut [Takeover], unexcused: &mut u64, start: u64) {
    let replayed = u64::try_from(REPLAYED.as_nanos()).unwrap_or(u64::MAX);
    let before = takeovers.iter_mut().rfind(|takeover| takeover.begun <= start);
    match before.filter(|takeover| start <= takeover.done.saturating_add(replayed)) {
        Some(takeover) => {
            takeover.stale += 1;
            takeover.last = takeover.last.max(start);
        }
        None => *unexcused += 1,
    }
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
