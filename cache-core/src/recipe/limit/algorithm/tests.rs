use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A step: the time that passes before it in µs, and its cost.
fn steps() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let pause = prop_oneof![3 => Just(0), 3 => 0..300_u64, 2 => 0..5_000_u64, 1 => 0..40_000_u64];
    vec((pause, 0..4_u32), 1..400)
}

fn limits() -> impl Strategy<Value = (u32, u64)> {
    (1..12_u32, 1..10_u64).prop_map(|(limit, ms)| (limit, ms * 1000))
}

/// When, and at what cost.
type Take = (u64, u32);

/// Runs `steps`; what was taken, and each answer beside what was asked.
fn run(limit: &Limit, steps: &[Take]) -> (Vec<Take>, Vec<(u64, u32, Outcome)>) {
    let (mut held, mut now) = (None, 1_795_183_709_141_191);
    let (mut taken, mut answers) = (Vec::new(), Vec::new());
    for (pause, cost) in steps {
        now += pause;
        let cost = (*cost).min(limit.most());
        let before = held.clone();
        let outcome = Taken::take(&mut held, limit, now, cost).unwrap();
        if outcome.allowed && cost > 0 {
            taken.push((now, cost));
        } else if before.is_some() {
            // what is denied or only looked at counts for nothing
            for cost in 0..=limit.most() {
                let (mut a, mut b) = (before.clone(), held.clone());
                assert_eq!(Taken::take(&mut a, limit, now, cost), Taken::take(&mut b, limit, now, cost));
            }
        }
        answers.push((now, cost, outcome));
    }
    (taken, answers)
}

/// The most that any window of `span` µs saw.
fn busiest(taken: &[(u64, u32)], span: u64) -> u64 {
    let windows = taken.iter().enumerate().map(|(i, (start, _))| {
        taken[i..].iter().take_while(|(at, _)| *at < start + span).map(|(_, cost)| u64::from(*cost)).sum()
    });
    windows.max().unwrap_or(0)
}

/// After a denial exactly the time that it told must pass, if nothing else is taken.
fn retries_are_exact(limit: &Limit, held: &Option<Taken>, now: u64, cost: u32, outcome: Outcome, slack: u64) {
    let after = |wait: u64| Taken::take(&mut held.clone(), limit, now + wait, cost).unwrap().allowed;
    assert!(after(outcome.retry_us + slack), "still denied after {}", outcome.retry_us);
    if outcome.retry_us > slack + 1 {
        assert!(!after(outcome.retry_us - 1 - slack), "allowed before {}", outcome.retry_us);
    }
}

proptest! {
    #[test]
    fn gcra_is_a_token_bucket((limit, window) in limits(), burst in 1..15_u32, steps in steps()) {
        let rule = Limit::new(limit, Duration::from_micros(window)).with_burst(burst);
        let interval = window.div_ceil(limit.into());
        let (taken, answers) = run(&rule, &steps);
        // the bucket in µs of credit
        let (mut credit, mut last) = (interval * u64::from(burst), None);
        for (now, cost, outcome) in answers {
            credit = (credit + last.map_or(0, |last| now - last)).min(interval * u64::from(burst));
            last = Some(now);
            prop_assert_eq!(outcome.allowed, credit >= interval * u64::from(cost.max(1)));
            if outcome.allowed {
                credit -= interval * u64::from(cost);
            }
            prop_assert_eq!(u64::from(outcome.remaining), credit / interval);
            prop_assert_eq!(outcome.reset_us, interval * u64::from(burst) - credit);
            let missing = (interval * u64::from(cost.max(1))).saturating_sub(credit);
            prop_assert_eq!(outcome.retry_us, if outcome.allowed { 0 } else { missing });
        }
        for span in [window / 2, window, window * 3] {
            prop_assert!(busiest(&taken, span) <= u64::from(burst) + span.div_ceil(interval));
        }
    }

    #[test]
    fn a_log_is_exact((limit, window) in limits(), steps in steps()) {
        let rule = Limit::new(limit, Duration::from_micros(window)).by(Algorithm::Log);
        let (taken, answers) = run(&rule, &steps);
        prop_assert!(busiest(&taken, window) <= u64::from(limit));
        for (now, cost, outcome) in answers {
            let sum = |until: u64| {
                let seen = taken.iter().filter(|(at, _)| *at + window > now && *at < until);
                seen.map(|(_, cost)| u64::from(*cost)).sum::<u64>()
            };
            if outcome.allowed {
                continue;
            }
            // denied only if one more would have been too many
            prop_assert!(sum(now + 1) + u64::from(cost.max(1)) > limit.into());
            prop_assert!(outcome.retry_us > 0 && outcome.retry_us <= window);
        }
    }

    #[test]
    fn windows_see_at_most_twice_the_limit((limit, window) in limits(), steps in steps()) {
        for algorithm in [Algorithm::Fixed, Algorithm::Sliding] {
            let rule = Limit::new(limit, Duration::from_micros(window)).by(algorithm);
            let (taken, answers) = run(&rule, &steps);
            prop_assert!(busiest(&taken, window) <= 2 * u64::from(limit), "{:?}", algorithm);
            for (_, _, outcome) in answers {
                prop_assert_eq!(outcome.retry_us == 0, outcome.allowed);
            }
        }
    }

    #[test]
    fn a_fixed_window_counts_from_its_first_take((limit, window) in limits(), steps in steps()) {
        let rule = Limit::new(limit, Duration::from_micros(window)).by(Algorithm::Fixed);
        let (mut end, mut count) = (0, 0);
        for (now, cost, outcome) in run(&rule, &steps).1 {
            if now >= end {
                count = 0;
            }
            prop_assert_eq!(outcome.allowed, count + cost.max(1) <= limit);
            if outcome.allowed && cost > 0 {
                if count == 0 {
                    end = now + window;
                }
                count += cost;
            }
            prop_assert_eq!(outcome.remaining, limit - count);
        }
    }

    #[test]
    fn a_sliding_window_weighs_the_one_before((limit, window) in limits(), steps in steps()) {
        let rule = Limit::new(limit, Duration::from_micros(window)).by(Algorithm::Sliding);
        let mut taken: Vec<(u64, u32)> = Vec::new();
        for (now, cost, outcome) in run(&rule, &steps).1 {
            let start = now - now % window;
            let sum = |from: u64, to: u64| {
                taken.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, cost)| u64::from(*cost)).sum::<u64>()
            };
            // in whole numbers: before * left / window + count + ask <= limit
            let (before, count) = (sum(start - window, start), sum(start, start + window));
            let seen = before * (window - now % window) + (count + u64::from(cost.max(1))) * window;
            prop_assert_eq!(outcome.allowed, seen <= u64::from(limit) * window);
            if outcome.allowed && cost > 0 {
                taken.push((now, cost));
            }
        }
    }

    #[test]
    fn a_denial_tells_when_to_come_back((limit, window) in limits(), steps in steps()) {
        for (algorithm, slack) in
            [(Algorithm::Gcra, 0), (Algorithm::Fixed, 0), (Algorithm::Sliding, 1), (Algorithm::Log, 0)]
        {
            let rule = Limit::new(limit, Duration::from_micros(window)).by(algorithm);
            let (mut held, mut now) = (None, 1_795_183_709_141_191);
            for (pause, cost) in &steps {
                now += pause;
                let cost = (*cost).clamp(1, limit);
                let outcome = Taken::take(&mut held, &rule, now, cost).unwrap();
                if !outcome.allowed {
                    retries_are_exact(&rule, &held, now, cost, outcome, slack);
                }
                let all = Taken::take(&mut held.clone(), &rule, now + outcome.reset_us, limit).unwrap();
                prop_assert!(all.allowed, "{:?}: not all is back after its reset", algorithm);
            }
        }
    }

    /// Whatever a clock or another limit has left behind, nothing overflows and a key is denied for no longer than two
    /// windows after the last take that was allowed.
    #[test]
    fn nothing_left_behind_denies_for_ever(
        (limit, window) in limits(),
        held in prop_oneof![
            any::<u64>().prop_map(|arrival| Taken::Gcra { arrival }),
            any::<(u64, u64)>().prop_map(|(count, end)| Taken::Fixed { count: count >> 12, end }),
            any::<[u64; 3]>().prop_map(|[index, before, count]| Taken::Sliding {
                index: index >> 1, before: before >> 12, count: count >> 12
            }),
            any::<u64>().prop_map(|at| Taken::Log { takes: [(at >> 1, 3)].into(), total: 3 }),
        ],
    ) {
        let algorithm = match held {
            Taken::Gcra { .. } => Algorithm::Gcra,
            Taken::Fixed { .. } => Algorithm::Fixed,
            Taken::Sliding { .. } => Algorithm::Sliding,
            Taken::Log { .. } => Algorithm::Log,
        };
        let rule = Limit::new(limit, Duration::from_micros(window)).by(algorithm);
        let (mut held, mut now) = (Some(held), 1_795_183_709_141_191);
        Taken::take(&mut held, &rule, now, 1).unwrap();
        now += 3 * window.max(rule.interval_us() * u64::from(limit));
        prop_assert!(Taken::take(&mut held, &rule, now, 1).unwrap().allowed);
    }
}

#[test]
fn another_algorithm_is_a_mismatch_and_changes_nothing() {
    let mut held = Some(Taken::Gcra { arrival: 5 });
    let rule = Limit::per_second(1).by(Algorithm::Log);
    assert_eq!(Taken::take(&mut held, &rule, 1, 1), Err(Mismatch));
    assert_eq!(held, Some(Taken::Gcra { arrival: 5 }));
}
