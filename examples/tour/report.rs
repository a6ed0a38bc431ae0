//! What the tour says at its end.

use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::Result;

use crate::catalogue::{PROBE, PRODUCTS};
use crate::ledger::{Page, Verdict, judge};
use crate::worker::{Findings, LOOK, Latencies, SAMPLE, latencies};

/// What was run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tasks: usize,
    pub(crate) writers: usize,
    pub(crate) near_bytes: u64,
    /// The far store, for people; `None` if there is none.
    pub(crate) far: Option<String>,
    pub(crate) workload: String,
    pub(crate) bound: Duration,
    pub(crate) took: Duration,
}

/// The findings of all processes together.
#[derive(Debug)]
pub(crate) struct Report {
    run: Run,
    processes: Vec<Findings>,
    latencies: [Latencies; 3],
    verdict: Verdict,
    /// How long the others went on serving each old value of the probe, in ns, in order.
    probes: Vec<u64>,
}

impl Report {
    /// Puts the findings together and judges the books.
    pub(crate) fn new(run: Run, processes: Vec<Findings>) -> Result<Self> {
        let mut merged = [latencies()?, latencies()?, latencies()?];
        for (tier, merged) in merged.iter_mut().enumerate() {
            for (value, count) in processes.iter().flat_map(|found| &found.latencies[tier]) {
                merged.record_n(*value, *count)?;
            }
        }
        let pages: Vec<&Page> = processes.iter().map(|found| &found.page).collect();
        let verdict = judge(&pages, run.bound);
        let mut probes = Vec::new();
        for ack in pages.iter().flat_map(|page| &page.acks).filter(|ack| ack.id == PROBE) {
            for watch in processes.iter().map(|found| &found.probes) {
                let first = watch.iter().find(|(version, _)| *version >= ack.version);
                probes.extend(first.map(|(_, began)| began.saturating_sub(ack.called)));
            }
        }
        probes.sort_unstable();
        Ok(Self { run, processes, latencies: merged, verdict, probes })
    }

    /// Whether every check held.
    pub(crate) fn is_good(&self) -> bool {
        self.checks().iter().all(|(good, _)| *good)
    }

    fn sum(&self, of: impl Fn(&Findings) -> u64) -> u64 {
        self.processes.iter().map(of).sum()
    }

    fn metric(&self, name: &str) -> u64 {
        self.sum(|found| found.metrics.get(name).copied().unwrap_or(0))
    }

    /// How often the probe was changed.
    fn changes(&self) -> u64 {
        self.sum(|found| found.page.acks.iter().filter(|ack| ack.id == PROBE).count() as u64)
    }

    /// Each promise that was checked, and whether it held.
    fn checks(&self) -> Vec<(bool, String)> {
        let processes = self.processes.len();
        let mut checks = Vec::new();
        let mut check = |good, text: String| checks.push((good, text));

        let loads = self.sum(|found| found.stampede_loads);
        let tasks = count(self.run.tasks as u64 * processes as u64);
        check(loads == 1, format!("one load for all: {tasks} tasks missed one key together; origin queries: {loads}"));
        let failed = self.sum(|found| found.failed);
        let error = self.processes.iter().find_map(|found| found.first_error.as_ref());
        let error = error.map_or_else(String::new, |error| format!(", such as: {error}"));
        check(failed == 0, format!("every read is answered; failed: {}{error}", count(failed)));
        let unwritten = self.sum(|found| found.page.unwritten);
        check(unwritten == 0, format!("own changes are seen at once (G2); reads that got less: {}", count(unwritten)));
        let backwards = self.sum(|found| found.page.backwards);
        check(backwards == 0, format!("versions never go backwards (G4); reads that did: {}", count(backwards)));
        if processes > 1 {
            let bound = self.run.bound;
            let beyond = self.verdict.beyond;
            check(
                beyond == 0,
                format!("others are behind for at most {bound:?} (G3); stale beyond: {}", count(beyond)),
            );
            // the last changes may come when nobody looks any more
            let changes = self.changes() * (processes as u64 - 1);
            let seen = self.probes.len() as u64;
            let text = format!("others notice a change; of {} of the probe, noticed: {}", count(changes), count(seen));
            check(seen > 0 && seen * 2 >= changes, text);
        }
        let (audited, wrong) = (self.sum(|found| found.audit.0), self.sum(|found| found.audit.1));
        let text = format!("in the end the cache has what the database has; of {} looked at, wrong:", count(audited));
        check(wrong == 0 && audited > 0, format!("{text} {}", count(wrong)));
        let drained = self.processes.iter().all(|found| found.drained);
        check(drained, "nothing is left in flight, no invalidation waits".to_owned());
        checks
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { tasks, writers, near_bytes, far, workload, bound: _, took } = &self.run;
        let processes = self.processes.len();
        let s = if processes == 1 { "" } else { "es" };
        let far_name = far.as_deref().unwrap_or("none");
        writeln!(f, "{} products in SQLite, read {workload}", count(PRODUCTS.into()))?;
        writeln!(f, "{processes} process{s}, each with {tasks} tasks that read and {writers} that write")?;
        writeln!(f, "near: moka, {} MiB each; far: {far_name}\n", near_bytes >> 20)?;

        let [near, far_reads, origin] = [0, 1, 2].map(|tier| self.sum(|found| found.reads[tier]));
        let reads = near + far_reads + origin;
        let rate = count((reads as f64 / took.as_secs_f64()) as u64);
        line(f, "reads", reads, &format!("{rate} a second for {:.1} s", took.as_secs_f64()))?;
        for (tier, (name, n)) in [("  near", near), ("  far", far_reads), ("  origin", origin)].into_iter().enumerate()
        {
            if tier == 1 && far.is_none() {
                continue;
            }
            let mut text = percent(n, reads);
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                let latency = span(self.latencies[tier].value_at_quantile(quantile));
                let _ = write!(text, "  {name} {latency:>8}");
            }
            line(f, name, n, &text)?;
        }
        let queries = self.sum(|found| found.queries);
        line(f, "origin queries", queries, &format!("saved: {}", count(reads.saturating_sub(queries))))?;
        writeln!(f, "  {:<22} {:>13}", "hit ratio", percent(near + far_reads, reads).trim())?;
        let acks = self.sum(|found| found.page.acks.len() as u64);
        let mut text = "each after a commit".to_owned();
        if far.is_some() {
            let refused = count(self.metric("strata_fills_rejected_total"));
            let _ = write!(text, "; loads that one overtook, so that they were stored nowhere: {refused}");
        }
        line(f, "invalidations", acks, &text)?;
        if let (Some(max), false) = (self.probes.last(), self.probes.is_empty()) {
            let text = "until the other process served the new value: median";
            let middle = span(self.probes[self.probes.len() / 2]);
            line(f, "probe changes", self.probes.len() as u64, &format!("{text} {middle}, max {}", span(*max)))?;
        }
        if processes > 1 {
            let longest = span(u64::try_from(self.verdict.longest.as_nanos()).unwrap_or(u64::MAX));
            let text = format!("beyond the bound; the oldest was read {longest} after another's acknowledgement");
            line(f, "stale reads", self.verdict.beyond, &text)?;
        } else {
            line(f, "stale reads", self.sum(|found| found.page.unwritten), "after this process's own acknowledgement")?;
        }
        let marked = self.metric("strata_stale_served_total");
        if marked > 0 {
            line(f, "marked stale", marked, "served while the far store could not be heard, and said so")?;
        }
        writeln!(
            f,
            "\n  One near hit in {SAMPLE} is timed, every other read is. A latency contains what checking the read"
        )?;
        writeln!(f, "  costs: a clock read and three atomic steps.")?;
        if processes > 1 {
            writeln!(f, "  The probe is looked at every {LOOK:?}; its time counts from the call of invalidate.")?;
        }
        writeln!(f)?;
        for (good, text) in self.checks() {
            writeln!(f, "  {:<6} {text}", if good { "ok" } else { "FAILED" })?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, n: u64, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<22} {:>13}  {text}", count(n))
}

/// A number with commas.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:>7.3} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn span(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}
