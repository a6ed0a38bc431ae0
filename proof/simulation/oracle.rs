//! The judge of a simulation: what every operation does to what may be read.
//!
//! The database counts a version up for each row, so a value read *is* a version, and the published checker
//! ([`check`]) says exactly whether it was too old. What it is told:
//!
//! * An acknowledged `invalidate`, `invalidate_many`, committed `write_guard`, `set`, `update` that stored, or
//!   `set_versioned`, whether it said yes or no: from its end the far store holds nothing older (G1), nor does its own process (G2);
//!   a bound later no process does (G3).
//! * An acknowledged `invalidate_tag` or `clear`: the same, except that G1 is the bound.
//! * An acknowledged `expire`, where there is a fail-safe: the same for answers that don't say that they are a fallback.
//!   Fallbacks may be older than what was expired, never than what was acknowledged in any other way.
//! * Whatever ended with an error: nothing.
//! * A put that ended with an error, or whose process was killed, may have been carried out, or be carried out later: a
//!   request under way can't be called back. Reads of its version are not judged (`loose` counts them).
//! * A `set` that is written in the background binds its own process when it returns, the others when it has landed.
//! * What was acknowledged between the moment from which a replica lagged and the moment when the last process had left
//!   the old server may be lost. It binds again [`replayed`](Plan::replayed) later, if the process that had it
//!   acknowledged lives until then to repeat it, else never. Values may go backwards once in that time.
//! * Tags and `clear` that the new server numbered in the same time bind nobody: a load that had begun with the numbers
//!   of the old server counts as later.
//! * An `update` of a counter that was acknowledged saw what the one before it made: no two saw the same, unless a
//!   failover brought it back.
//!
//! In the quiet at the end every process answers with what the database holds, rows apart whose last writer was killed
//! before it could tell anybody. A wall clock that was set back makes a rest
//! after a failed load longer by the step: then a fallback is told for so long. It is held to G2 and G3 as any other.
//!
//! G4 holds of answers that are not marked. By a clock that is off by a share, a bound is longer by that share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use cache_core::observe::Snapshot;
use cache_core::testkit::history::{Bounds, Op, Record, Rule, Tier, Violations, check, check_each};
use foldhash::fast::FixedState;

use crate::faults::Fault;
use crate::plan::Plan;
use crate::reader::Unequal;
use crate::verdict::Findings;
use crate::world::{Failover, Note, Noted, Proof, Seen, World};

/// Checks everything that was seen; `unequal` are the rows on which processes and the database disagree in the end.
pub(crate) fn judge(findings: &mut Findings, world: &World, unequal: &[Unequal]) {
    let plan = &world.plan;
    let seen = std::mem::take(&mut *world.seen());
    let (notes, forgotten) = weakened(plan, &seen);
    let judged: Vec<Noted> = notes.into_iter().filter(|noted| !is_loose(&seen, noted)).collect();
    let bounds = Bounds { bound: plan.at_most(plan.bound), outage: plan.at_most(plan.outage) };
    let everybody = |noted: &&Noted| noted.note.proof != Proof::Own;

    let all = records(judged.iter().filter(everybody).filter(|noted| is_ack(noted) || !noted.note.soft));
    findings.report = check(&all, bounds);
    let fallbacks = records(judged.iter().filter(everybody).filter(|noted| is_ack(noted) != noted.note.soft));
    let fallbacks = check(&fallbacks, bounds);
    findings.fallbacks = fallbacks.reads;
    findings.report.reads += fallbacks.reads;
    add(&mut findings.report.bound, &fallbacks.bound);
    add(&mut findings.report.own_write, &fallbacks.own_write);
    add(&mut findings.report.own_write, &own(&judged, bounds));
    findings.report.monotonic = check(&confirmed(plan, &seen.failovers, &judged), bounds).monotonic;

    let now = judged.iter().filter(|noted| noted.note.proof == Proof::Now);
    let now = records(now.filter(|noted| is_ack(noted) || !noted.note.soft));
    findings.fresh = check(&now, Bounds::new(Duration::ZERO)).bound;
    findings.bounded = bounded(plan, &judged);
    // a wall clock that is set ends ttls early or late
    if !plan.faults.contains(&Fault::SetClock) {
        findings.expired = expired(world, &judged);
    }
    findings.lost_updates = lost_updates(&seen);
    let set_clock = plan.faults.contains(&Fault::SetClock);
    let excused = |Unequal { key, version, soft }: &&Unequal| {
        let loose = version.is_some_and(|version| seen.loose.contains(&(*key, version)));
        // its process was killed between the commit and the invalidation: nobody is told, until the ttl
        let untold = seen.untold.get(key).is_some_and(|(_, process)| seen.deaths.contains_key(process));
        forgotten.contains(key) || loose || untold || *soft && set_clock
    };
    findings.unequal = unequal.iter().filter(|row| !excused(row)).count() as u64;
    findings.loose = seen.notes.iter().filter(|noted| is_loose(&seen, noted)).count() as u64;
    findings.replayed = replayed(plan, &seen, bounds);
    findings.origin_reads = world.origin.reads();
    findings.hash = hash(&seen, &findings.metrics);
    if findings.violations() > 0 {
        (findings.notes, findings.failovers) = (seen.notes, seen.failovers);
    }
}

fn record(noted: &Noted) -> Record {
    let Note { process, op, key, version, begun, .. } = noted.note;
    Record { process, op, key: u64::from(key), start: begun, end: noted.ended, version }
}

fn records<'a>(notes: impl Iterator<Item = &'a Noted>) -> Vec<Record> {
    notes.map(record).collect()
}

fn is_ack(noted: &Noted) -> bool {
    noted.note.op == Op::Acknowledged
}

fn is_loose(seen: &Seen, noted: &Noted) -> bool {
    !is_ack(noted) && seen.loose.contains(&(noted.note.key, noted.note.version))
}

fn add(to: &mut Violations, more: &Violations) {
    to.count += more.count;
    to.worst = to.worst.max(more.worst);
    to.first = to.first.or(more.first);
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The notes, with what a failover may have lost acknowledged when it was repeated; and the rows of what nobody was
/// left to repeat.
fn weakened(plan: &Plan, seen: &Seen) -> (Vec<Noted>, BTreeSet<u16>) {
    let mut forgotten = BTreeSet::new();
    let mut notes = Vec::with_capacity(seen.notes.len());
    // a put in the background is lost if the failover comes before it has landed, or just then
    let landed: HashMap<(u16, u64), u64> = seen
        .notes
        .iter()
        .filter(|noted| is_ack(noted) && noted.note.proof == Proof::Now)
        .map(|noted| ((noted.note.key, noted.note.version), noted.ended))
        .collect();
    for noted in &seen.notes {
        let mut noted = *noted;
        let mut voided = false;
        let ended = match noted.note.proof {
            Proof::Own => landed.get(&(noted.note.key, noted.note.version)).copied().unwrap_or(noted.ended),
            _ => noted.ended,
        };
        for Failover { from, until } in &seen.failovers {
            if is_ack(&noted) && noted.note.begun <= *until && ended > *from {
                noted.ended = noted.ended.max(until + nanos(plan.replayed()));
            }
            let late = noted.ended > *until && noted.note.begun < until + nanos(plan.replayed());
            voided |= is_ack(&noted) && noted.note.proof == Proof::Bound && late;
        }
        let death = seen.deaths.get(&noted.note.process);
        if voided || is_ack(&noted) && death.is_some_and(|death| *death < noted.ended) {
            forgotten.insert(noted.note.key);
        } else {
            notes.push(noted);
        }
    }
    (notes, forgotten)
}

/// What is held against G4: no marked answers, and those around a failover each alone.
fn confirmed(plan: &Plan, failovers: &[Failover], notes: &[Noted]) -> Vec<Record> {
    let marked = |noted: &&Noted| noted.note.op != Op::Read(Tier::Unconfirmed) && !is_ack(noted);
    let mut alone = u32::MAX;
    let mut records = records(notes.iter().filter(marked));
    for read in &mut records {
        let around =
            |failover: &Failover| read.end > failover.from && read.start < failover.until + nanos(plan.replayed());
        if failovers.iter().any(around) {
            read.process = alone;
            alone -= 1;
        }
    }
    records
}

/// Reads older than what binds their own process alone.
fn own(notes: &[Noted], bounds: Bounds) -> Violations {
    let rows: BTreeSet<(u32, u16)> = notes
        .iter()
        .filter(|noted| noted.note.proof == Proof::Own)
        .map(|noted| (noted.note.process, noted.note.key))
        .collect();
    let mine = notes.iter().filter(|noted| rows.contains(&(noted.note.process, noted.note.key)));
    let mine = records(mine.filter(|noted| !noted.note.soft && (!is_ack(noted) || noted.note.proof == Proof::Own)));
    check(&mine, bounds).own_write
}

/// Reads under a bound of their own that were older than it.
fn bounded(plan: &Plan, notes: &[Noted]) -> Violations {
    let mut broken = Violations::default();
    let mut acknowledged: BTreeMap<u16, Vec<&Noted>> = BTreeMap::new();
    // what tags promise is the process's own bound, which is checked elsewhere
    for noted in notes.iter().filter(|noted| is_ack(noted) && noted.note.proof == Proof::Now) {
        acknowledged.entry(noted.note.key).or_default().push(noted);
    }
    for noted in notes {
        let Proof::Within(bound) = noted.note.proof else { continue };
        let soft = noted.note.soft;
        let about = acknowledged.get(&noted.note.key).into_iter().flatten();
        let mut one = records(about.filter(|other| !(soft && other.note.soft)).copied());
        one.push(record(noted));
        add(&mut broken, &check(&one, Bounds::new(plan.at_most(bound))).bound);
    }
    broken
}

/// Reads of versions that nobody loaded, put or, where ttls slide, read within a ttl, and what travels with it, before
/// the read began.
fn expired(world: &World, notes: &[Noted]) -> Violations {
    let plan = &world.plan;
    let slack = plan.deadline + plan.bound;
    let mut last: HashMap<(u16, u64), u64> = HashMap::new();
    let mut broken = Violations::default();
    for noted in notes {
        let Note { op: Op::Read(_), key, version, begun, soft, .. } = noted.note else { continue };
        let grace = plan.fail_safe.filter(|_| soft).unwrap_or_default();
        let most = nanos(plan.at_most(plan.ttl + grace) + slack);
        let touched = if plan.sliding { last.insert((key, version), noted.ended) } else { None };
        let age = world.origin.last_loaded(key, version).max(touched).map(|loaded| begun.saturating_sub(loaded));
        if let Some(age) = age.filter(|age| *age > most) {
            broken.count += 1;
            broken.worst = broken.worst.max(Duration::from_nanos(age));
            broken.first = broken.first.or(Some(record(noted)));
        }
    }
    broken
}

/// Acknowledged updates that saw what another one had seen.
fn lost_updates(seen: &Seen) -> u64 {
    let mut first = HashMap::new();
    let mut lost = 0;
    for swap in &seen.swaps {
        let Some(value) = swap.seen else { continue };
        let Some(before) = first.insert((swap.key, value), swap.ended) else { continue };
        let undone = |failover: &Failover| before > failover.from && before <= failover.until;
        lost += u64::from(!seen.failovers.iter().any(undone));
    }
    lost
}

/// How long after a failover something that it had lost was still served.
fn replayed(plan: &Plan, seen: &Seen, bounds: Bounds) -> Duration {
    let mut longest = Duration::ZERO;
    if seen.failovers.is_empty() {
        return longest;
    }
    let notes = seen.notes.iter().filter(|noted| !is_loose(seen, noted) && noted.note.proof != Proof::Own);
    let all = records(notes.filter(|noted| is_ack(noted) || !noted.note.soft));
    check_each(&all, bounds, |rule, read, since| {
        let before = |failover: &&Failover| since > failover.from && since <= failover.until;
        let lost = seen.failovers.iter().rfind(before).filter(|_| rule != Rule::Monotonic);
        let after = lost.map_or(0, |failover| read.start.saturating_sub(failover.until));
        if after <= nanos(plan.replayed()) {
            longest = longest.max(Duration::from_nanos(after));
        }
    });
    longest
}

fn hash(seen: &Seen, metrics: &[Snapshot]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for Noted { note, ended } in &seen.notes {
        (note.process, note.op, note.key, note.version, note.begun, note.soft, ended).hash(&mut hasher);
    }
    for swap in &seen.swaps {
        (swap.key, swap.seen, swap.ended).hash(&mut hasher);
    }
    for snapshot in metrics {
        snapshot.iter().for_each(|(_, count)| count.hash(&mut hasher));
    }
    hasher.finish()
}
