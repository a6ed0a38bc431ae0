//! What a run of histories showed, in sum.

use std::fmt;

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
#[derive(Debug, Serialize)]
struct FaultRow {
    fault: &'static str,
    histories: u32,
    reads: u64,
    /// The longest time after an acknowledgement at which an older value was served.
    worst_ms: u128,
    violations: u64,
    /// Reads that a failover made older than the bound, until what it lost was repeated.
    lost: u64,
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
            self.faults.push(FaultRow { fault: name, histories: 0, reads: 0, worst_ms: 0, violations: 0, lost: 0 });
            self.faults.len() - 1
        });
        let row = &mut self.faults[at];
        row.histories += 1;
        row.reads += findings.report.reads;
        row.worst_ms = row.worst_ms.max(findings.report.oldest.as_millis());
        row.violations += findings.violations();
        row.lost += findings.lost();
    }

    pub(crate) fn mutated(&mut self, rule: &'static str, fault: Fault, histories: u32, caught: u32) {
        self.mutations.push(MutationRow { rule, fault: fault.name(), histories, caught });
    }
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
