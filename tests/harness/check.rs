//! What a history shows: the published checker, and what must hold in the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cache_core::testkit::history::{self, Bounds, Report, Rule, Tier};

use crate::excuse::{self, Takeover, Write, Writes};
use crate::loads::{self, Loads};
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
    /// Whether servers failed over though nothing was done to them: the machine stood still for longer than they wait.
    pub(crate) disturbed: bool,
    pub(crate) takeovers: Vec<Takeover>,
    /// Reads that broke a rule and that no failover excuses.
    pub(crate) unexcused: u64,
    /// Reads that a failover might have excused, old or not.
    pub(crate) excusable: u64,
    /// How long the history was, and for how much of it no read could have been excused.
    pub(crate) lasted: Duration,
    pub(crate) judged: Duration,
    pub(crate) loads: Loads,
    /// Keys that were loaded more often than is allowed where nothing fails.
    pub(crate) overloaded: u64,
}

impl Findings {
    /// What breaks the promise that holds.
    pub(crate) const fn violations(&self) -> u64 {
        self.incoherent() + self.overloaded
    }

    /// What a broken rule of coherence shows by.
    pub(crate) const fn incoherent(&self) -> u64 {
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
    let loose: Loose = processes.iter().flatten().filter(|r| r.op == Op::Loose).map(|r| (r.key, r.version)).collect();
    let converted = (0..).zip(processes).flat_map(|(process, records)| convert(process, records, &loose));
    let history: Vec<_> = converted.collect();
    let writes = writes(processes);
    let mut broken = HashSet::new();
    let name = |rule: Rule, read: &history::Record| (rule == Rule::Bound, read.process, read.key, read.start, read.end);
    let weakened = excuse::weakened(&history, &findings.takeovers);
    let _ = history::check_each(&weakened, bounds, |rule, read, _| {
        if rule != Rule::Monotonic {
            broken.insert(name(rule, read));
            findings.unexcused += 1;
        }
    });
    findings.report = history::check_each(&history, bounds, |rule, read, _| {
        if rule != Rule::Monotonic && !broken.contains(&name(rule, read)) {
            match excuse::behind(&mut findings.takeovers, read.start) {
                Some(takeover) => takeover.blame(read.start),
                None => findings.unexcused += 1,
            }
        }
    });
    findings.loads = loads::count(processes);
    monotonic(&mut findings, &history, bounds, &writes);
    findings.unequal = processes.iter().map(|records| unequal(records, &loose)).sum();
    findings.excusable = excuse::excusable(&history, &findings.takeovers, &writes, bound + outage);
    let ends = history.iter().map(|record| record.end).max().unwrap_or_default();
    let begins = history.iter().map(|record| record.start).min().unwrap_or_default();
    findings.lasted = Duration::from_nanos(ends - begins);
    let excusing: Duration = findings.takeovers.iter().map(|takeover| takeover.excusing(bound + outage)).sum();
    findings.judged = findings.lasted.saturating_sub(excusing);
    findings
}

/// Checks the order in which each process saw the versions of a key.
fn monotonic(findings: &mut Findings, history: &[history::Record], bounds: Bounds, writes: &Writes) {
    // values may go backwards where they were marked unconfirmed, as documented
    let marked =
        |record: &&history::Record| !bounds.outage.is_zero() && record.op == history::Op::Read(Tier::Unconfirmed);
    let confirmed: Vec<_> = history.iter().filter(|record| !marked(record)).copied().collect();
    let mut back = Vec::new();
    let report = history::check_each(&confirmed, bounds, |rule, read, _| {
        if rule == Rule::Monotonic {
            back.push(*read);
        }
    });
    for read in back {
        let before = |record: &&history::Record| {
            let same = record.process == read.process && record.key == read.key;
            same && record.op != history::Op::Acknowledged && record.end < read.start
        };
        let seen = confirmed.iter().filter(before).map(|record| record.version).max().unwrap_or_default();
        match excuse::went_back(&findings.takeovers, &read, seen, writes, bounds.bound) {
            Some(takeover) => findings.takeovers[takeover].blame(read.start),
            None => findings.unexcused += 1,
        }
    }
    findings.report.monotonic = report.monotonic;
}

/// Versions whose put ended with an error. A request under way can't be called back, so they may stand in the far store
/// over newer ones, until the key is invalidated: reads of them are not judged.
type Loose = HashSet<(u16, u64)>;

fn convert(process: u32, records: &[Record], loose: &Loose) -> impl Iterator<Item = history::Record> {
    records.iter().filter_map(move |record| {
        let op = match (record.op, record.source) {
            (Op::Truth | Op::Tried | Op::Loose | Op::Load, _) => return None,
            (Op::Read | Op::Last, _) if loose.contains(&(record.key, record.version)) => return None,
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

fn writes(processes: &[Vec<Record>]) -> Writes {
    let mut writes = Writes::new();
    for record in processes.iter().flatten().filter(|record| matches!(record.op, Op::Write | Op::Tried | Op::Loose)) {
        let write = Write { start: record.invoked, end: (record.op == Op::Write).then_some(record.returned) };
        writes.entry(u64::from(record.key)).or_default().insert(record.version, write);
    }
    writes
}

/// On how many keys the last read and the origin disagree.
fn unequal(records: &[Record], loose: &Loose) -> u64 {
    let of = |op: Op| records.iter().filter(move |r| r.op == op).map(|r| (r.key, r.version));
    let last: HashMap<u16, u64> = of(Op::Last).collect();
    let differs = |(key, version): &(u16, u64)| match last.get(key) {
        Some(read) => read != version && !loose.contains(&(*key, *read)),
        None => true,
    };
    of(Op::Truth).filter(differs).count() as u64
}

#[cfg(test)]
mod tests;
