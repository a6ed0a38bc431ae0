//! Leaderboards.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;

use super::value::foreign;
use super::{BAD_TTLS, Context, bad_keys, promises, refused};
use crate::recipe::Leaderboards;
use crate::recipe::leaderboard::{BoardStore, Standing};
use crate::testkit::context::LONG;
use crate::testkit::eventually;
use crate::{ErrorKind, Reply, Result};

promises! { dyn BoardStore:
    "A missing board is empty." => a_missing_board_is_empty,
    "`add` sets a score and returns the one before." => add_sets_a_score,
    "`add_best` takes a better score only." => add_best_takes_a_better_score_only,
    "`increment` returns the sum, and concurrent ones lose nothing." => concurrent_increments_lose_nothing,
    "The highest comes first, ties in descending order of names." => the_highest_comes_first,
    "With `lowest_first` the lowest comes first, ties in ascending order of names." => the_lowest_comes_first,
    "`page`, `around` and `by_score` agree with the whole board." => parts_agree_with_the_whole,
    "Random calls agree with a simple model, in both orders." => random_calls_agree_with_a_model,
    "Scores keep all 64 bits, and there is one zero." => scores_keep_their_bits,
    "A sum that is not finite is `Conflict` and changes nothing." => an_overflow_changes_nothing,
    "A board keeps the ttl that it got when it was made." => a_board_keeps_its_ttl,
    "A renewing board gets the whole ttl with each change." => a_renewing_board_is_prolonged,
    "A board whose last member is removed is gone." => an_empty_board_is_gone,
    "A bad key, member, score, range, count or ttl is refused, and nothing is changed." => bad_arguments_are_refused,
    "A key that holds another kind of value is `Conflict`, and it is untouched." => another_kind_is_untouched,
}

type Store = Context<dyn BoardStore>;

fn boards(t: &Store) -> Leaderboards {
    Leaderboards::new(t.store(), LONG).expect("boards")
}

fn plain(standings: Vec<Standing>) -> Vec<(u64, String, f64)> {
    standings.into_iter().map(|standing| (standing.rank, standing.member, standing.score)).collect()
}

fn rows(rows: &[(u64, &str, f64)]) -> Vec<(u64, String, f64)> {
    rows.iter().map(|(rank, member, score)| (*rank, (*member).to_owned(), *score)).collect()
}

async fn a_missing_board_is_empty(t: Store) {
    let (boards, key) = (boards(&t), t.key("b"));
    assert_eq!(boards.count(&key).await.unwrap(), 0);
    assert!(boards.top(&key, 10).await.unwrap().is_empty());
    assert!(boards.around(&key, "ada", 1, 1).await.unwrap().is_empty());
    assert!(boards.by_score(&key, f64::NEG_INFINITY..=f64::INFINITY, 10).await.unwrap().is_empty());
    assert_eq!(boards.standing(&key, "ada").await.unwrap(), None);
    assert_eq!((boards.rank(&key, "ada").await.unwrap(), boards.score(&key, "ada").await.unwrap()), (None, None));
    assert!(!boards.remove(&key, "ada").await.unwrap());
    assert!(!t.store().exists(&key).await.unwrap());
}

async fn add_sets_a_score(t: Store) {
    let (boards, key) = (boards(&t), t.key("b"));
    assert_eq!(boards.add(&key, "ada", 1.5).await.unwrap(), None);
    assert_eq!(boards.add(&key, "ada", -2.0).await.unwrap(), Some(1.5));
    assert_eq!(boards.score(&key, "ada").await.unwrap(), Some(-2.0));
    assert_eq!(boards.add(&key, "é x:1", 7.0).await.unwrap(), None);
    assert_eq!(plain(boards.top(&key, 9).await.unwrap()), rows(&[(1, "é x:1", 7.0), (2, "ada", -2.0)]));
    assert!(boards.remove(&key, "ada").await.unwrap());
    assert!(!boards.remove(&key, "ada").await.unwrap());
    assert_eq!(boards.count(&key).await.unwrap(), 1);
}

async fn add_best_takes_a_better_score_only(t: Store) {
    let (high, low) = (boards(&t), boards(&t).lowest_first());
    let (points, laps) = (t.key("points"), t.key("laps"));
    for (score, taken) in [(5.0, true), (4.0, false), (5.0, false), (6.0, true), (-1.0, false)] {
        assert_eq!(high.add_best(&points, "ada", score).await.unwrap(), taken, "{score}");
    }
    for (score, taken) in [(5.0, true), (6.0, false), (5.0, false), (4.0, true), (-1.0, true)] {
        assert_eq!(low.add_best(&laps, "ada", score).await.unwrap(), taken, "{score}");
    }
    assert_eq!(high.score(&points, "ada").await.unwrap(), Some(6.0));
    assert_eq!(low.score(&laps, "ada").await.unwrap(), Some(-1.0));
}

async fn concurrent_increments_lose_nothing(t: Store) {
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (boards, key) = (boards(&t), t.key("b"));
        tasks.spawn(async move {
            for i in 0..10 {
                let sum = boards.increment(&key, "ada", 0.5).await.unwrap();
                assert!(sum >= 0.5 * f64::from(i + 1));
            }
        });
    }
    while let Some(end) = tasks.join_next().await {
        end.unwrap();
    }
    assert_eq!(boards(&t).increment(&t.key("b"), "ada", -1.0).await.unwrap(), 39.0);
}

const SCORES: [(&str, f64); 6] = [("ada", 3.0), ("bob", 7.0), ("cyd", 3.0), ("dee", 3.0), ("A", 3.0), ("eve", -1.0)];

async fn filled(t: &Store) -> String {
    for (member, score) in SCORES {
        boards(t).add(&t.key("b"), member, score).await.unwrap();
    }
    t.key("b")
}

async fn the_highest_comes_first(t: Store) {
    let (boards, key) = (boards(&t), filled(&t).await);
    let all = [(1, "bob", 7.0), (2, "dee", 3.0), (3, "cyd", 3.0), (4, "ada", 3.0), (5, "A", 3.0), (6, "eve", -1.0)];
    assert_eq!(plain(boards.top(&key, 10).await.unwrap()), rows(&all));
    assert_eq!(plain(boards.top(&key, 2).await.unwrap()), rows(&all[..2]));
    assert_eq!(plain(boards.around(&key, "ada", 1, 1).await.unwrap()), rows(&all[2..5]));
    assert_eq!(plain(boards.by_score(&key, 3.0..=7.0, 3).await.unwrap()), rows(&all[..3]));
    assert_eq!(boards.rank(&key, "ada").await.unwrap(), Some(4));
}

async fn the_lowest_comes_first(t: Store) {
    let (boards, key) = (boards(&t).lowest_first(), filled(&t).await);
    let all = [(1, "eve", -1.0), (2, "A", 3.0), (3, "ada", 3.0), (4, "cyd", 3.0), (5, "dee", 3.0), (6, "bob", 7.0)];
    assert_eq!(plain(boards.top(&key, 10).await.unwrap()), rows(&all));
    assert_eq!(plain(boards.around(&key, "eve", 5, 1).await.unwrap()), rows(&all[..2]));
    assert_eq!(plain(boards.by_score(&key, 3.0..=f64::INFINITY, 9).await.unwrap()), rows(&all[1..]));
    assert_eq!(boards.rank(&key, "bob").await.unwrap(), Some(6));
}

async fn parts_agree_with_the_whole(t: Store) {
    let key = filled(&t).await;
    for boards in [boards(&t), boards(&t).lowest_first()] {
        let all = boards.top(&key, u32::MAX).await.unwrap();
        assert_eq!(all.len(), 6);
        for skip in 0..8_usize {
            for n in [1, 2, 9, u32::MAX] {
                let expected: Vec<_> = all.iter().skip(skip).take(n as usize).cloned().collect();
                let page = boards.page(&key, u32::try_from(skip).unwrap(), n).await.unwrap();
                assert_eq!(plain(page), plain(expected), "skip {skip}, n {n}");
            }
        }
        assert!(boards.page(&key, u32::MAX, u32::MAX).await.unwrap().is_empty());
        for (i, standing) in all.iter().enumerate() {
            assert_eq!(boards.standing(&key, &standing.member).await.unwrap().as_ref(), Some(standing));
            for (before, after) in [(0, 0), (1, 2), (9, 0), (u32::MAX, u32::MAX)] {
                let expected = &all[i.saturating_sub(before as usize)..6.min(i.saturating_add(after as usize + 1))];
                let around = boards.around(&key, &standing.member, before, after).await.unwrap();
                assert_eq!(plain(around), plain(expected.to_vec()), "{i} {before} {after}");
            }
        }
        for (low, high) in [(3.0, 3.0), (-1.0, 3.0), (3.5, 6.5), (f64::NEG_INFINITY, 0.0), (7.0, f64::INFINITY)] {
            for n in [1, 3, 9] {
                let within = all.iter().filter(|standing| (low..=high).contains(&standing.score)).take(n as usize);
                let found = boards.by_score(&key, low..=high, n).await.unwrap();
                assert_eq!(plain(found), plain(within.cloned().collect()), "{low} {high} {n}");
            }
        }
    }
}

async fn random_calls_agree_with_a_model(t: Store) {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let (high, low, key) = (boards(&t), boards(&t).lowest_first(), t.key("b"));
    let mut model: BTreeMap<String, f64> = BTreeMap::new();
    for step in 0..250 {
        let told = format!("seed {seed}, step {step}");
        let member = format!("m{}", random.u8(..12));
        let score = match random.u8(..5) {
            0 => random.f64() * 10.0 - 5.0,
            1 => 1e300 * (random.f64() - 0.5),
            _ => f64::from(random.i8(-3..=3)),
        };
        let held = model.get(&member).copied();
        match random.u8(..6) {
            0 | 1 => {
                assert_eq!(high.add(&key, &member, score).await.unwrap(), held, "{told}");
                model.insert(member, score);
            }
            2 => {
                let sum = held.unwrap_or(0.0) + score;
                assert_eq!(high.increment(&key, &member, score).await.unwrap(), sum, "{told}");
                model.insert(member, sum);
            }
            3 => {
                assert_eq!(high.remove(&key, &member).await.unwrap(), model.remove(&member).is_some(), "{told}");
            }
            4 => {
                let better = held.is_none_or(|held| score > held);
                assert_eq!(high.add_best(&key, &member, score).await.unwrap(), better, "{told}");
                if better {
                    model.insert(member, score);
                }
            }
            _ => {
                let better = held.is_none_or(|held| score < held);
                assert_eq!(low.add_best(&key, &member, score).await.unwrap(), better, "{told}");
                if better {
                    model.insert(member, score);
                }
            }
        }
        let mut all: Vec<(String, f64)> = model.clone().into_iter().collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        let ranked = |all: &[(String, f64)]| -> Vec<(u64, String, f64)> {
            (1..).zip(all).map(|(rank, (member, score))| (rank, member.clone(), *score)).collect()
        };
        assert_eq!(plain(low.top(&key, 99).await.unwrap()), ranked(&all), "{told}");
        all.reverse();
        assert_eq!(plain(high.top(&key, 99).await.unwrap()), ranked(&all), "{told}");
        assert_eq!(high.count(&key).await.unwrap(), all.len() as u64, "{told}");
    }
}

async fn scores_keep_their_bits(t: Store) {
    let (boards, key) = (boards(&t), t.key("b"));
    for score in [0.1, 1.0 / 3.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 9_007_199_254_740_991.0, 1e21, -1e-7] {
        boards.add(&key, "ada", score).await.unwrap();
        assert_eq!(boards.score(&key, "ada").await.unwrap().map(f64::to_bits), Some(score.to_bits()), "{score}");
        let found = boards.by_score(&key, score..=score, 9).await.unwrap();
        assert_eq!(plain(found), rows(&[(1, "ada", score)]));
    }
    boards.add(&key, "ada", -0.0).await.unwrap();
    assert_eq!(boards.score(&key, "ada").await.unwrap().map(f64::to_bits), Some(0));
    boards.add(&key, "ada", 0.1).await.unwrap();
    assert_eq!(boards.increment(&key, "ada", 0.2).await.unwrap().to_bits(), (0.1_f64 + 0.2).to_bits());
}

async fn an_overflow_changes_nothing(t: Store) {
    let (boards, key) = (boards(&t), t.key("b"));
    for score in [f64::MAX, f64::MIN] {
        boards.add(&key, "ada", score).await.unwrap();
        refused("an overflow", ErrorKind::Conflict, boards.increment(&key, "ada", score).await);
        assert_eq!(boards.score(&key, "ada").await.unwrap(), Some(score));
    }
}

async fn a_board_keeps_its_ttl(t: Store) {
    let brief = Leaderboards::new(t.store(), Duration::from_millis(150)).unwrap();
    let (long, key, kept) = (boards(&t), t.key("b"), t.key("kept"));
    long.add(&kept, "ada", 1.0).await.unwrap();
    brief.add(&kept, "bob", 1.0).await.unwrap();
    brief.increment(&kept, "bob", 1.0).await.unwrap();
    brief.increment(&key, "ada", 1.0).await.unwrap();
    eventually("a board with a brief ttl is gone", || async { long.count(&key).await.unwrap() == 0 }).await;
    assert_eq!(long.count(&kept).await.unwrap(), 2, "a change shortened the ttl");
    assert_eq!(long.add(&key, "bob", 2.0).await.unwrap(), None);
    assert_eq!(plain(long.top(&key, 9).await.unwrap()), rows(&[(1, "bob", 2.0)]), "an old member came back");
}

async fn a_renewing_board_is_prolonged(t: Store) {
    // long enough to be prolonged in time on a busy machine
    let brief = Leaderboards::new(t.store(), Duration::from_secs(2)).unwrap();
    let long = boards(&t).renewing();
    let (a, b, ends) = (t.key("a"), t.key("b"), t.key("ends"));
    for key in [&a, &b, &ends] {
        brief.add(key, "ada", 1.0).await.unwrap();
    }
    long.add(&a, "bob", 1.0).await.unwrap();
    long.increment(&b, "ada", 1.0).await.unwrap();
    boards(&t).add(&ends, "bob", 1.0).await.unwrap();
    eventually("the one that was not renewed is gone", || async { long.count(&ends).await.unwrap() == 0 }).await;
    assert_eq!((long.count(&a).await.unwrap(), long.count(&b).await.unwrap()), (2, 1));
}

async fn an_empty_board_is_gone(t: Store) {
    let (boards, key) = (boards(&t), t.key("b"));
    boards.add(&key, "ada", 1.0).await.unwrap();
    assert!(t.store().exists(&key).await.unwrap());
    assert!(boards.remove(&key, "ada").await.unwrap());
    assert!(!t.store().exists(&key).await.unwrap());
    boards.add(&key, "ada", 1.0).await.unwrap();
    assert!(t.store().delete(&key).await.unwrap(), "a board is deleted as any key");
    assert_eq!(boards.count(&key).await.unwrap(), 0);
}

async fn bad_arguments_are_refused(t: Store) {
    let (boards, key, invalid) = (boards(&t), t.key("b"), ErrorKind::Invalid);
    boards.add(&key, "ada", 1.0).await.unwrap();
    for bad in bad_keys() {
        for (board, member) in [(&*bad, "ada"), (&*key, &*bad)] {
            refused("add", invalid, boards.add(board, member, 1.0).await);
            refused("add_best", invalid, boards.add_best(board, member, 1.0).await);
            refused("increment", invalid, boards.increment(board, member, 1.0).await);
            refused("remove", invalid, boards.remove(board, member).await);
            refused("standing", invalid, boards.standing(board, member).await);
            refused("around", invalid, boards.around(board, member, 1, 1).await);
        }
        refused("top", invalid, boards.top(&bad, 1).await);
        refused("by_score", invalid, boards.by_score(&bad, 0.0..=1.0, 1).await);
        refused("count", invalid, boards.count(&bad).await);
    }
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused("add", invalid, boards.add(&key, "ada", score).await);
        refused("add_best", invalid, boards.add_best(&key, "ada", score).await);
        refused("increment", invalid, boards.increment(&key, "ada", score).await);
    }
    refused("top 0", invalid, boards.top(&key, 0).await);
    refused("page 0", invalid, boards.page(&key, 1, 0).await);
    refused("by_score 0", invalid, boards.by_score(&key, 0.0..=1.0, 0).await);
    for (low, high) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::NAN)] {
        refused("a range", invalid, boards.by_score(&key, low..=high, 1).await);
    }
    for ttl in BAD_TTLS {
        refused("a ttl", invalid, Leaderboards::new(t.store(), ttl));
    }
    assert_eq!(plain(boards.top(&key, 9).await.unwrap()), rows(&[(1, "ada", 1.0)]));
}

async fn another_kind_is_untouched(t: Store) {
    let (boards, store, text) = (boards(&t), t.store(), t.key("text"));
    store.set(&text, "5".into(), LONG).await.unwrap();
    for key in [foreign(&*store, t.key("")).await, text.clone()] {
        let results: [Result<()>; 9] = [
            boards.add(&key, "ada", 1.0).await.map(drop),
            boards.add_best(&key, "ada", 1.0).await.map(drop),
            boards.increment(&key, "ada", 1.0).await.map(drop),
            boards.remove(&key, "ada").await.map(drop),
            boards.standing(&key, "ada").await.map(drop),
            boards.top(&key, 1).await.map(drop),
            boards.around(&key, "ada", 1, 1).await.map(drop),
            boards.by_score(&key, 0.0..=1.0, 1).await.map(drop),
            boards.count(&key).await.map(drop),
        ];
        for result in results {
            assert_eq!(refused("a call", ErrorKind::Conflict, result).reply(), Some(Reply::WrongType));
        }
        assert!(store.exists(&key).await.unwrap(), "the foreign key is gone");
    }
    assert_eq!(store.get(&text).await.unwrap().as_deref(), Some(&b"5"[..]));
    // and the other way round: a board is no value
    let board = filled(&t).await;
    assert_eq!(refused("get", ErrorKind::Conflict, store.get(&board).await).reply(), Some(Reply::WrongType));
    assert_eq!(boards.count(&board).await.unwrap(), 6);
}
