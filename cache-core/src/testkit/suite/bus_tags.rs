//! The bus: tag generations.
//!
//! A reader judges an entry that was loaded at number `s0` and carries a tag by [`valid`]. The cases ask for the two
//! halves of what that is for: an entry from before a bump is never valid, and one from after it is not lost.

use std::time::Duration;

use crate::envelope::ALL;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::{LONG, ME};
use crate::{Change, Generations};

cases! { "bus", [Service, Bus]:
    "The generation of a bumped tag is the bump's number, that of another tag is 0." => a_generation_is_the_bumps_number,
    "Generations answer in the order of the tags asked for." => generations_keep_the_order,
    "An entry from before a bump is invalid, in the bump's period and in every later one." =>
        an_entry_from_before_a_bump_is_invalid,
    "An entry loaded after the line was looked at is valid until its tag is bumped." => an_entry_from_after_stays_valid,
    "Looking again does not move the floor." => looking_again_does_not_move_the_floor,
    "Processes that disagree on the period by one see each other's bumps." => neighbouring_periods_see_each_other,
    "When the generations are lost, every entry from before the loss that a bump ended is invalid." =>
        lost_generations_are_noticed,
    "When the sequence is lost, no entry from before the loss is valid." => a_lost_sequence_is_noticed,
    "Bumps race without losing one." => concurrent_bumps_are_all_known,
}

const TAG: u64 = 0xa11ce;
const BOB: u64 = 0xb0b;
const PERIOD: u64 = 100;

impl Context {
    async fn bump(&self, tag: u64, period: u64) -> u64 {
        self.bus().bump(&self.line(), ME, tag, period, LONG).await.expect("bump")
    }

    async fn generations(&self, tags: &[u64], period: u64) -> Generations {
        let generations = self.bus().generations(&self.line(), tags, period, LONG).await.expect("generations");
        assert_eq!(generations.bumps.len(), tags.len());
        generations
    }
}

/// Whether an entry with these tags that was loaded at `s0` is valid.
fn valid(s0: u64, generations: &Generations) -> bool {
    s0 >= generations.floor && generations.bumps.iter().all(|bump| *bump <= s0)
}

async fn a_generation_is_the_bumps_number(t: Context) {
    let first = t.bump(TAG, PERIOD).await;
    let second = t.bump(TAG, PERIOD).await;
    let all = t.bump(ALL, PERIOD).await;
    assert_eq!((second, all), (first + 1, first + 2));
    assert_eq!(t.generations(&[TAG], PERIOD).await.bumps, [second]);
    assert_eq!(t.generations(&[BOB], PERIOD).await.bumps, [0]);
    assert_eq!(t.generations(&[ALL], PERIOD).await.bumps, [all]);
    assert!(t.generations(&[], PERIOD).await.bumps.is_empty());
}

async fn generations_keep_the_order(t: Context) {
    let tags = [3, u64::MAX, 1, ALL, 2];
    let mut bumps = Vec::new();
    for tag in tags {
        bumps.push(t.bump(tag, PERIOD).await);
    }
    assert_eq!(t.generations(&tags, PERIOD).await.bumps, bumps);
    let some = t.generations(&[2, 77, 3, 3], PERIOD).await.bumps;
    assert_eq!(some, [bumps[4], 0, bumps[0], bumps[0]]);
}

async fn an_entry_from_before_a_bump_is_invalid(t: Context) {
    let before = t.last().await;
    assert!(valid(before, &t.generations(&[TAG, ALL], PERIOD).await));
    let n = t.bump(TAG, PERIOD).await;
    for later in [0, 1, 2, 3, 4, 10] {
        let generations = t.generations(&[TAG, ALL], PERIOD + later).await;
        for s0 in [0, before, n - 1] {
            assert!(!valid(s0, &generations), "s0 {s0} passes bump {n}, {later} periods later: {generations:?}");
        }
        assert!(valid(t.last().await, &generations), "nothing is valid {later} periods later: {generations:?}");
    }
}

async fn an_entry_from_after_stays_valid(t: Context) {
    t.bump(TAG, PERIOD).await;
    t.generations(&[TAG], PERIOD).await;
    let s0 = t.last().await;
    for i in 0..3 {
        t.change(&[&t.key("k")], Change::Delete).await;
        t.bump(BOB, PERIOD).await;
        assert!(valid(s0, &t.generations(&[TAG, ALL], PERIOD).await), "another tag's bump ended it, round {i}");
    }
    assert!(valid(s0, &t.generations(&[TAG, ALL], PERIOD + 1).await), "the next period ended it");
    let n = t.bump(TAG, PERIOD + 1).await;
    let generations = t.generations(&[TAG, ALL], PERIOD + 1).await;
    assert!(!valid(s0, &generations) && valid(n, &generations), "{generations:?}");
}

async fn looking_again_does_not_move_the_floor(t: Context) {
    let first = t.generations(&[TAG], PERIOD).await;
    assert!(first.floor <= t.last().await, "on a fresh line an entry loaded now must be valid: {first:?}");
    for _ in 0..3 {
        t.change(&[&t.key("k")], Change::Delete).await;
        assert_eq!(t.generations(&[TAG], PERIOD).await, first);
    }
}

async fn neighbouring_periods_see_each_other(t: Context) {
    for (bumped, read) in [(PERIOD, PERIOD + 1), (PERIOD + 1, PERIOD), (PERIOD, PERIOD)] {
        let before = t.last().await;
        let n = t.bump(TAG, bumped).await;
        let generations = t.generations(&[TAG], read).await;
        assert!(!valid(before, &generations), "bumped in {bumped}, not seen in {read}: {generations:?}");
        assert!(valid(n, &generations), "an entry from after the bump: {generations:?}");
    }
}

async fn lost_generations_are_noticed(t: Context) {
    let bus = t.bus();
    // which of the bump's period and its neighbours are lost, where the bump was, and where it is looked for
    for (i, lost) in [&[-1][..], &[0], &[1], &[-1, 0], &[0, 1], &[-1, 0, 1]].into_iter().enumerate() {
        for bumped in [0, 1] {
            for read in [0, 1, 2] {
                let line = t.line_called(&format!("{i}{bumped}{read}"));
                let at = format!("lost {lost:?} after a bump in {bumped}, read in {read}");
                // a line with a past: both periods are known, and another tag was bumped in each
                for period in [PERIOD, PERIOD + 1] {
                    bus.bump(&line, ME, BOB, period, LONG).await.unwrap();
                    bus.generations(&line, &[TAG], period, LONG).await.unwrap();
                }
                let before = bus.beat(&line).await.unwrap().seq.unwrap();
                let n = bus.bump(&line, ME, TAG, PERIOD + bumped, LONG).await.unwrap();
                for offset in lost {
                    let period = PERIOD.strict_add_signed(*offset);
                    t.store().delete(&format!("{}{period}", line.tags)).await.unwrap();
                }
                let generations = bus.generations(&line, &[TAG], PERIOD + read, LONG).await.unwrap();
                assert_eq!(n, before + 1);
                assert!(!valid(before, &generations), "s0 {before} passes bump {n}: {at}: {generations:?}");
                assert!(valid(n, &generations), "an entry from after bump {n}: {at}: {generations:?}");
            }
        }
    }
}

async fn a_lost_sequence_is_noticed(t: Context) {
    let n = t.bump(TAG, PERIOD).await;
    assert!(t.store().delete(&t.line().seq).await.unwrap(), "the sequence stands under its key");
    let beat = t.bus().beat(&t.line()).await.unwrap();
    assert!(beat.created, "{beat:?}");
    assert!(beat.seq.unwrap() > n, "a number was used twice: {beat:?} after {n}");
    assert!(!valid(n - 1, &t.generations(&[TAG], PERIOD).await));
}

async fn concurrent_bumps_are_all_known(t: Context) {
    t.generations(&[ALL], PERIOD).await;
    let mut tasks = tokio::task::JoinSet::new();
    for tag in 1..=20 {
        let t = t.clone();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_micros(fastrand::u64(0..500))).await;
            (tag, t.bump(tag, PERIOD + tag % 2).await)
        });
    }
    let mut bumps = tasks.join_all().await;
    bumps.sort_unstable();
    let tags: Vec<u64> = bumps.iter().map(|(tag, _)| *tag).collect();
    let generations = t.generations(&tags, PERIOD + 1).await;
    for ((tag, n), known) in bumps.iter().zip(&generations.bumps) {
        assert!(known == n || generations.floor >= *n, "bump {n} of tag {tag} is not known: {generations:?}");
    }
}
