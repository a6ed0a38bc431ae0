//! What a run of histories showed, in sum.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::check::Findings;
use crate::faults::Fault;

/// The sums of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    bound_ms: u64,
    outage_ms: u64,
    server: String,
    histories: u32,
    reads: u64,
    acknowledged: u64,
    pub(crate) violations: u64,
    faults: Vec<FaultRow>,
    pub(crate) mutations: Vec<MutationRow>,
}

/// One kind of fault.
#[derive(Debug, Default, Serialize)]
struct FaultRow {
    fault: &'static str,
    histories: u32,
    reads: u64,
    /// The longest time after an acknowledgement at which an older value was served.
    worst_ms: u128,
    violations: u64,
    /// How often another server took over, and how often that lost an invalidation.
    takeovers: usize,
    lossy: usize,
    /// Reads that such a failover made older than they may be, and the longest time from its beginning to the last one.
    stale: u64,
    window_ms: u128,
    /// The longest time until the new server was there.
    took_ms: u128,
    /// Reads that no failover could have excused, and the seconds in which none could have been.
    judged_reads: u64,
    judged_s: f64,
    lasted_s: f64,
    /// The most loads of a key for its first read and for each of its writes.
    loads_most: f64,
}

/// One broken rule.
#[derive(Debug, Serialize)]
pub(crate) struct MutationRow {
    rule: &'static str,
    fault: &'static str,
    histories: u32,
    caught: u32,
}

impl MutationRow {
    /// Whether at least eight of ten histories showed it.
    pub(crate) const fn is_caught(&self) -> bool {
        self.caught * 10 >= self.histories * 8
    }
}

impl Results {
    pub(crate) const fn new(bound_ms: u64, outage_ms: u64) -> Self {
        Self {
            bound_ms,
            outage_ms,
            server: String::new(),
            histories: 0,
            reads: 0,
            acknowledged: 0,
            violations: 0,
            faults: Vec::new(),
            mutations: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, fault: Fault, findings: &Findings) {
        self.server.clone_from(&findings.make);
        self.histories += 1;
        self.reads += findings.report.reads;
        self.acknowledged += findings.report.acknowledged;
        self.violations += findings.violations();
        let name = fault.name();
        let at = self.faults.iter().position(|row| row.fault == name).unwrap_or_else(|| {
            self.faults.push(FaultRow { fault: name, ..FaultRow::default() });
            self.faults.len() - 1
        });
        let row = &mut self.faults[at];
        row.histories += 1;
        row.reads += findings.report.reads;
        row.worst_ms = row.worst_ms.max(findings.report.oldest.as_millis());
        row.violations += findings.violations();
        row.takeovers += findings.takeovers.len();
        row.stale += findings.lost();
        row.judged_reads += findings.report.reads - findings.excusable;
        row.judged_s += seconds(findings.judged);
        row.lasted_s += seconds(findings.lasted);
        row.loads_most = row.loads_most.max((findings.loads.most * 10.0).round() / 10.0);
        for takeover in &findings.takeovers {
            row.lossy += usize::from(takeover.stale > 0);
            row.window_ms = row.window_ms.max(takeover.window().as_millis());
            row.took_ms = row.took_ms.max(takeover.took().as_millis());
        }
    }

    pub(crate) fn mutated(&mut self, rule: &'static str, fault: Fault, histories: u32, caught: u32) {
        self.mutations.push(MutationRow { rule, fault: fault.name(), histories, caught });
    }
}

/// Seconds with one decimal.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 10.0).round() / 10.0
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caught = self.mutations.iter().filter(|row| row.is_caught()).count();
        write!(
            f,
            "histories={} reads={} violations={} mutations={} caught={caught}",
            self.histories,
            self.reads,
            self.violations,
            self.mutations.len()
        )
    }
}
