use std::time::Duration;

use super::{Findings, check};
use crate::excuse::Takeover;
use crate::record::{Op, Record, Source};

const D: Duration = Duration::from_millis(600);
const MS: u64 = 1_000_000;

/// The old server was stopped at 10 s, the new one was there at 13 s, and all had met it at 13.2 s: what was lost counts
/// again from 14.2 s.
const TAKEOVER: Takeover = Takeover { begun: 10_000 * MS, done: 13_000 * MS, met: 13_200 * MS, stale: 0, last: 0 };

fn record(op: Op, key: u16, invoked: u64, returned: u64, version: u64) -> Record {
    Record { op, source: Source::Near, key, version, invoked: invoked * MS, returned: returned * MS }
}

fn write(key: u16, invoked: u64, returned: u64, version: u64) -> Record {
    record(Op::Write, key, invoked, returned, version)
}

fn read(key: u16, at: u64, version: u64) -> Record {
    record(Op::Read, key, at, at + 1, version)
}

fn found(writer: &[Record], reader: &[Record]) -> Findings {
    check(&[writer.to_vec(), reader.to_vec()], D, Duration::ZERO, vec![TAKEOVER])
}

/// Unexcused and excused reads.
fn counts(writer: &[Record], reader: &[Record]) -> (u64, u64) {
    let findings = found(writer, reader);
    (findings.unexcused, findings.lost())
}

#[test]
fn a_read_that_misses_what_the_failover_can_have_lost_is_excused_until_it_was_repeated() {
    let lost = [write(1, 9_980, 9_990, 1)];
    assert_eq!(counts(&lost, &[read(1, 12_000, 0)]), (0, 1));
    assert_eq!(counts(&lost, &[read(1, 14_799, 0)]), (0, 1), "it is repeated by 14.2 s, and heard of D later");
    assert_eq!(counts(&lost, &[read(1, 14_800, 0)]), (1, 0));
    let by_the_old_server = [write(1, 13_100, 13_150, 1)];
    assert_eq!(counts(&by_the_old_server, &[read(1, 14_000, 0)]), (0, 1));
}

#[test]
fn a_read_that_misses_anything_else_is_a_violation_in_the_same_time() {
    let lost = write(1, 9_980, 9_990, 1);
    let (replicated, of_the_new) = (write(2, 9_800, 9_890, 1), write(3, 13_201, 13_210, 1));
    assert_eq!(counts(&[lost, replicated], &[read(2, 12_000, 0)]), (1, 0), "another key's was replicated");
    assert_eq!(counts(&[lost, of_the_new], &[read(3, 13_900, 0)]), (1, 0), "the new server had taken it");
    let twice = [write(1, 9_000, 9_100, 1), write(1, 9_980, 9_990, 2)];
    assert_eq!(counts(&twice, &[read(1, 12_000, 1)]), (0, 1), "the second was lost");
    assert_eq!(counts(&twice, &[read(1, 12_000, 0)]), (1, 0), "the first can't have been");
}

#[test]
fn own_writes_are_held_in_a_failover_unless_they_can_have_been_lost() {
    let own = |written: Record, at: u64| counts(&[written, read(1, at, 0)], &[]);
    assert_eq!(own(write(1, 9_980, 9_990, 1), 10_100), (0, 1));
    assert_eq!(own(write(1, 9_980, 9_990, 1), 14_199), (0, 2), "the bound is broken too");
    assert_eq!(
        own(write(1, 9_980, 9_990, 1), 14_200),
        (1, 1),
        "it has repeated it itself; others may hear of it later"
    );
    assert_eq!(own(write(1, 9_800, 9_890, 1), 10_100), (1, 0));
    assert_eq!(own(write(1, 13_300, 13_301, 1), 13_400), (1, 0));
}

#[test]
fn values_go_backwards_over_lost_versions_only() {
    let lost = [write(1, 9_700, 9_800, 1), write(1, 9_980, 9_990, 2), write(1, 13_000, 13_010, 3)];
    let back = |to: u64, at: u64| counts(&lost, &[read(1, 9_995, 3), read(1, at, to)]);
    assert_eq!(back(1, 10_200), (0, 1));
    assert_eq!(back(0, 10_100), (1, 0), "the first version was replicated");
    // the bound is broken too
    assert_eq!(back(1, 14_800), (2, 0), "too late");
    let other = [lost[0], lost[1], lost[2], write(2, 9_000, 9_100, 1)];
    assert_eq!(counts(&other, &[read(2, 9_300, 1), read(2, 9_600, 0)]), (1, 0), "before the failover");
    assert_eq!(counts(&other, &[read(2, 9_990, 1), read(2, 9_995, 0)]).0, 2, "another key, bound and order");
    // not acknowledged: it may be repeated at any time, so also lost
    let tried = [record(Op::Tried, 1, 9_000, 9_300, 1)];
    assert_eq!(counts(&tried, &[read(1, 9_400, 1), read(1, 12_000, 0)]), (0, 1));
    assert_eq!(counts(&[], &[read(1, 9_400, 1), read(1, 12_000, 0)]), (1, 0), "nobody wrote it in that time");
}

#[test]
fn what_could_not_be_excused_is_counted() {
    let writes = [write(1, 9_980, 9_990, 1), write(2, 9_000, 9_100, 1)];
    let reads = [read(1, 0, 0), read(1, 12_000, 1), read(2, 12_000, 1), read(1, 14_800, 1), read(1, 29_999, 1)];
    let findings = found(&writes, &reads);
    assert_eq!((findings.unexcused, findings.report.reads, findings.excusable), (0, 5, 1));
    // from 9.9 s to 14.8 s
    assert_eq!(findings.lasted - findings.judged, Duration::from_millis(4_900));
    assert_eq!(findings.lasted, Duration::from_secs(30));
}

#[test]
fn a_value_whose_put_failed_is_not_judged_and_every_other_is() {
    let writes = [record(Op::Loose, 6, 1_000, 1_100, 1), write(6, 1_200, 1_300, 2)];
    assert_eq!(counts(&writes, &[read(6, 3_000, 1)]), (0, 0), "it may have been carried out late");
    assert_eq!(counts(&writes, &[read(6, 3_000, 0)]), (1, 0));
    let end = |version| [record(Op::Last, 6, 29_000, 29_001, version), record(Op::Truth, 6, 29_002, 29_002, 3)];
    let tried = [writes[0], writes[1], record(Op::Tried, 6, 1_400, 1_500, 3)];
    let unequal = |version| found(&tried, &end(version)).unequal;
    assert_eq!([unequal(1), unequal(2), unequal(3)], [0, 1, 0]);
}

#[test]
fn loads_are_counted_for_each_first_read_and_write() {
    let load = |key, at| record(Op::Load, key, at, at + 5, 0);
    let many = |key: u16, n: u64| (0..n).map(move |at| load(key, at)).collect::<Vec<_>>();
    let of = |records: &[Record]| found(records, &[]).loads;
    let two = of(&[write(4, 1_000, 1_100, 1), load(4, 0), load(4, 1_100), load(4, 1_101)]);
    assert_eq!((two.loads, two.causes, two.beyond), (3, 2, 0));
    assert!((two.most - 1.5).abs() < 0.01, "{two:?}");
    assert_eq!(of(&many(4, 3)).beyond, 1, "nobody wrote it");
    assert_eq!(of(&many(0, 30)).loads, 0, "what is loaded under a guard is not kept");
}
