use std::time::Duration;

use super::{Bounds, Op, Record, Report, Tier, check};

const D: Duration = Duration::from_millis(2000);

fn read(process: u32, start: u64, end: u64, version: u64) -> Record {
    from(Tier::Near, process, start, end, version)
}

fn from(tier: Tier, process: u32, start: u64, end: u64, version: u64) -> Record {
    Record { process, op: Op::Read(tier), key: 7, start: start * 1_000_000, end: end * 1_000_000, version }
}

fn ack(process: u32, start: u64, end: u64, version: u64) -> Record {
    Record { op: Op::Acknowledged, ..read(process, start, end, version) }
}

fn counts(history: &[Record]) -> (u64, u64, u64) {
    let Report { bound, own_write, monotonic, .. } = check(history, Bounds::new(D));
    (bound.count, own_write.count, monotonic.count)
}

#[test]
fn an_empty_history_and_one_without_changes_are_clean() {
    assert_eq!(check(&[], Bounds::new(D)), Report::default());
    let report = check(&[read(0, 0, 1, 0), from(Tier::Origin, 1, 5, 9, 0)], Bounds::new(D));
    assert_eq!((report.reads, report.tiers, report.violations()), (2, [1, 0, 1, 0], 0));
}

#[test]
fn an_old_value_is_allowed_until_the_bound_and_not_after() {
    assert_eq!(counts(&[ack(0, 0, 10, 1), read(1, 2009, 2010, 0)]), (0, 0, 0));
    assert_eq!(counts(&[ack(0, 0, 10, 1), read(1, 2010, 2011, 0)]), (1, 0, 0));
    assert_eq!(counts(&[ack(0, 0, 10, 1), read(1, 2010, 2011, 1)]), (0, 0, 0));
    assert_eq!(counts(&[ack(0, 0, 10, 1), read(1, 2000, 9000, 0)]), (0, 0, 0), "the read's start counts");
}

#[test]
fn the_age_counts_from_the_first_newer_version() {
    let history = [ack(0, 0, 100, 1), ack(0, 200, 300, 2), ack(2, 2900, 3000, 3), read(1, 3500, 3501, 0)];
    let report = check(&history, Bounds::new(D));
    assert_eq!((report.bound.count, report.bound.worst), (1, Duration::from_millis(3400)));
    assert_eq!(report.oldest, Duration::from_millis(3400));
    assert_eq!(report.bound.first, Some(history[3]));
    let middle = [ack(0, 0, 100, 1), ack(0, 200, 300, 2), ack(2, 2900, 3000, 3), read(1, 3500, 3501, 2)];
    let report = check(&middle, Bounds::new(D));
    assert_eq!((report.violations(), report.oldest), (0, Duration::from_millis(500)));
}

#[test]
fn a_process_reads_its_own_writes() {
    assert_eq!(counts(&[ack(1, 0, 10, 1), read(1, 10, 11, 0)]), (0, 1, 0));
    assert_eq!(counts(&[ack(1, 0, 10, 1), read(1, 9, 11, 0)]), (0, 0, 0), "begun before the acknowledgement");
    assert_eq!(counts(&[ack(1, 0, 10, 1), read(2, 10, 11, 0)]), (0, 0, 0), "another process may be behind");
    let report = check(&[ack(1, 0, 10, 1), read(1, 60, 61, 0)], Bounds::new(D));
    assert_eq!(report.own_write.worst, Duration::from_millis(50));
}

#[test]
fn a_process_never_reads_backwards() {
    assert_eq!(counts(&[read(1, 0, 10, 2), read(1, 11, 12, 1)]), (0, 0, 1));
    assert_eq!(counts(&[read(1, 0, 10, 2), read(1, 10, 12, 1)]), (0, 0, 0), "the two overlap");
    assert_eq!(counts(&[read(1, 0, 10, 2), read(2, 11, 12, 1)]), (0, 0, 0), "another process");
    assert_eq!(counts(&[read(1, 0, 10, 2), read(1, 11, 12, 2), read(1, 13, 14, 3)]), (0, 0, 0));
    let long = [read(1, 0, 100, 1), read(1, 20, 30, 3), read(1, 40, 90, 2), read(1, 150, 151, 3)];
    assert_eq!(counts(&long), (0, 0, 1), "a read within a longer one counts for those that follow it");
}

#[test]
fn keys_are_checked_apart() {
    let other = |record: Record| Record { key: 8, ..record };
    assert_eq!(counts(&[ack(1, 0, 10, 1), other(read(1, 5000, 5001, 0))]), (0, 0, 0));
    assert_eq!(counts(&[other(read(1, 0, 10, 2)), read(1, 11, 12, 1)]), (0, 0, 0));
}

#[test]
fn unconfirmed_answers_have_the_bound_of_an_outage() {
    let bounds = Bounds { bound: D, outage: Duration::from_secs(30) };
    let at = |start| check(&[ack(0, 0, 0, 1), from(Tier::Unconfirmed, 1, start, start, 0)], bounds).bound.count;
    assert_eq!((at(31_999), at(32_000)), (0, 1));
    let near = check(&[ack(0, 0, 0, 1), read(1, 3000, 3000, 0)], bounds);
    assert_eq!(near.bound.count, 1, "an answer without the mark has no longer bound");
    let own = check(&[ack(1, 0, 0, 1), from(Tier::Unconfirmed, 1, 10, 11, 0)], bounds);
    assert_eq!(own.own_write.count, 1, "the mark excuses nothing else");
}

#[test]
fn the_order_of_the_records_does_not_matter() {
    let mut history = vec![
        ack(1, 0, 10, 1),
        read(1, 20, 21, 0),
        read(2, 2500, 2501, 0),
        read(2, 30, 40, 1),
        ack(2, 50, 60, 3),
        ack(1, 55, 70, 2),
        read(1, 75, 80, 3),
        read(1, 90, 91, 2),
    ];
    let expected = check(&history, Bounds::new(D));
    assert_eq!((expected.bound.count, expected.own_write.count, expected.monotonic.count), (1, 2, 2));
    for _ in 0..20 {
        fastrand::shuffle(&mut history);
        assert_eq!(check(&history, Bounds::new(D)), expected);
    }
}

/// The rules of the module's text, word by word, in O(n²).
fn slow(history: &[Record]) -> (u64, u64, u64) {
    let mut counts = (0, 0, 0);
    for r in history.iter().filter(|r| matches!(r.op, Op::Read(_))) {
        let newer = |record: &&Record| record.key == r.key && record.version > r.version;
        let bound = u64::try_from(D.as_nanos()).unwrap();
        let acks = || history.iter().filter(newer).filter(|a| a.op == Op::Acknowledged);
        counts.0 += u64::from(acks().any(|a| a.end + bound <= r.start));
        counts.1 += u64::from(acks().any(|a| a.process == r.process && a.end <= r.start));
        let mut reads = history.iter().filter(newer).filter(|a| matches!(a.op, Op::Read(_)));
        counts.2 += u64::from(reads.any(|a| a.process == r.process && a.end < r.start));
    }
    counts
}

#[test]
fn it_agrees_with_the_rules_word_by_word() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut broken = 0;
    for _ in 0..300 {
        let history: Vec<Record> = (0..random.usize(0..60))
            .map(|_| {
                let start = random.u64(0..6000);
                let end = start + random.u64(0..300);
                let record = read(random.u32(0..3), start, end, start / 500 + random.u64(0..4));
                let op = if random.u8(0..3) == 0 { Op::Acknowledged } else { record.op };
                Record { op, key: random.u64(0..2), ..record }
            })
            .collect();
        let expected = slow(&history);
        broken += u64::from(expected.0 > 0) + u64::from(expected.1 > 0) + u64::from(expected.2 > 0);
        assert_eq!(counts(&history), expected);
    }
    assert!(broken > 300, "the random histories break too few rules to say much: {broken}");
}

#[test]
fn a_long_history_is_checked_quickly() {
    let mut random = fastrand::Rng::with_seed(9);
    let history: Vec<Record> = (0..200_000)
        .map(|i| {
            let record = read(random.u32(0..4), i, i + random.u64(0..5), i / 10);
            let op = if i % 10 == 0 { Op::Acknowledged } else { record.op };
            Record { op, key: random.u64(0..50), ..record }
        })
        .collect();
    let start = std::time::Instant::now();
    assert_eq!(check(&history, Bounds::new(D)).reads, 180_000);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}: not O(n log n)", start.elapsed());
}
