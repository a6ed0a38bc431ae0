use std::time::Duration;

use cache_core::{MAX_TTL, Tick};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Tick {
    Tick::from_nanos(1_000_000_000_000) + Duration::from_millis(ms)
}

/// Fresh for 100 s, near for 60 of them, a fallback for 100 more; its load took a second.
fn life() -> Life {
    Life { ttl: 100 * SECOND, ends: at(100_000), deadline: at(60_000), kept: at(200_000), load: SECOND }
}

#[test]
fn every_verdict_has_its_moment() {
    use Verdict::{Fallback, Fresh, Gone, Refresh as Ahead, Touch};
    let plain = Policy::seconds(100);
    let safe = plain.clone().fail_safe(100 * SECOND);
    let ahead = plain.clone().refresh_ahead(0.5);
    let early = plain.clone().refresh_ahead(Refresh::Early(10.0));
    let sliding = plain.clone().sliding();
    for (what, policy, ms, roll, verdict) in [
        ("fresh at first", &plain, 0, 1.0, Fresh),
        ("fresh to the last", &plain, 59_999, 1.0, Fresh),
        ("gone at the near deadline", &plain, 60_000, 1.0, Gone),
        ("kept, but not for a policy without fail-safe", &plain, 199_999, 1.0, Gone),
        ("a fallback from the deadline on", &safe, 60_000, 1.0, Fallback),
        ("a fallback to the last", &safe, 199_999, 1.0, Fallback),
        ("gone when no longer kept", &safe, 200_000, 1.0, Gone),
        ("before its share of the ttl", &ahead, 49_999, 1.0, Fresh),
        ("at its share of the ttl", &ahead, 50_000, 1.0, Ahead),
        ("no refresh of what is over", &ahead, 60_000, 1.0, Gone),
        ("early by luck", &early, 59_000, 0.01, Ahead),
        ("not early without it", &early, 59_000, 1.0, Fresh),
        ("never earlier than hits ask", &early, 9_000, 0.01, Fresh),
        ("before the share of sliding", &sliding, 24_999, 1.0, Fresh),
        ("at the share of sliding", &sliding, 25_000, 1.0, Touch),
        ("what slid past its deadline", &sliding, 60_000, 1.0, Gone),
    ] {
        assert_eq!(policy.decide(&life(), at(ms), roll), verdict, "{what}");
    }
}

#[test]
fn before_its_attention_every_entry_is_fresh() {
    let policies = [
        Policy::seconds(100),
        Policy::seconds(100).fail_safe(SECOND * 100),
        Policy::seconds(100).refresh_ahead(0.1),
        Policy::seconds(100).refresh_ahead(0.9),
        Policy::seconds(100).refresh_ahead(Refresh::Early(3.0)),
        Policy::seconds(100).sliding(),
    ];
    for policy in policies {
        let attention = policy.attention(&life());
        assert!(attention <= life().deadline);
        for ms in (0..61_000).step_by(250).filter(|&ms| at(ms) < attention) {
            // the likeliest roll of ten thousand
            assert_eq!(policy.decide(&life(), at(ms), 0.0002), Verdict::Fresh, "{policy:?} at {ms} ms");
        }
    }
}

#[test]
fn the_longer_the_load_the_earlier_the_refresh() {
    let policy = Policy::seconds(100).refresh_ahead(Refresh::Early(1.0));
    let slow = Life { load: 10 * SECOND, ..life() };
    assert!(policy.attention(&slow) < policy.attention(&life()));
    assert_eq!(policy.decide(&slow, at(59_000), 0.01), Verdict::Refresh);
    assert_eq!(policy.decide(&life(), at(59_000), 0.01), Verdict::Fresh);
}

#[test]
fn a_pause_doubles_to_its_longest_and_is_never_prolonged_by_chance() {
    let backoff = Backoff::between(Duration::from_millis(100), 5 * SECOND);
    let pauses: Vec<u128> = (1..9).map(|failures| backoff.pause(failures, 0.0).as_millis()).collect();
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(backoff.pause(u32::MAX, 1.0), Duration::from_millis(3750));
}

#[test]
fn jitter_shortens_and_never_lengthens() {
    let policy = Policy::seconds(100).jitter(0.25);
    let ttls: Vec<Duration> = (0..1000).map(|_| policy.jittered(100 * SECOND)).collect();
    assert!(ttls.iter().all(|ttl| *ttl <= 100 * SECOND && *ttl >= 75 * SECOND));
    assert!(ttls.iter().any(|ttl| *ttl < 80 * SECOND) && ttls.iter().any(|ttl| *ttl > 95 * SECOND), "they are spread");
    assert_eq!(Policy::seconds(100).jitter(0.0).jittered(SECOND), SECOND);
    assert_eq!(policy.jittered(Duration::from_nanos(1)), Duration::from_millis(1), "a millisecond is the least");
}

#[test]
fn every_mistake_of_a_policy_is_told_at_once() {
    let mut bad = Policy::seconds(0)
        .near_ttl(SECOND)
        .soft_timeout(2 * SECOND)
        .hard_timeout(SECOND)
        .refresh_ahead(1.0)
        .jitter(1.0)
        .backoff(Backoff::between(2 * SECOND, SECOND))
        .sliding();
    bad.sliding = Some(Sliding { after: 0.0 });
    let found = bad.mistakes().join("\n");
    for part in [
        "ttl is 0",
        "near_ttl 1s is longer than ttl 0ns",
        "soft_timeout needs fail_safe",
        "soft_timeout 2s is not below hard_timeout 1s",
        "refresh_ahead is 1;",
        "jitter is 1",
        "the shortest backoff 2s is over the longest 1s",
        "sliding and refresh_ahead exclude each other",
        "the share of sliding is 0",
    ] {
        assert!(found.contains(part), "{part} in:\n{found}");
    }
    assert_eq!(bad.mistakes().len(), 9, "{found}");
}

#[test]
fn contradictions_are_refused_one_by_one() {
    let ok = || Policy::seconds(100);
    for (policy, part) in [
        (ok().refresh_ahead(0.0), "refresh_ahead is 0"),
        (ok().refresh_ahead(-0.5), "refresh_ahead is -0.5"),
        (ok().refresh_ahead(f64::NAN), "refresh_ahead is NaN"),
        (ok().refresh_ahead(Refresh::Early(0.0)), "factor of refresh_ahead is 0"),
        (ok().refresh_ahead(Refresh::Early(f64::INFINITY)), "factor of refresh_ahead is inf"),
        (ok().fail_safe(Duration::ZERO), "fail_safe is 0"),
        (ok().fail_safe(FailSafe::from(SECOND).throttle(2 * SECOND)), "the throttle 2s is longer"),
        (ok().fail_safe(SECOND).soft_timeout(Duration::ZERO), "soft_timeout is zero"),
        (ok().near_ttl(Duration::ZERO), "near_ttl is zero"),
        (ok().hard_timeout(Duration::ZERO), "hard_timeout is 0"),
        (ok().ttl(MAX_TTL + SECOND), "at most ten years"),
    ] {
        let found = policy.mistakes().join("\n");
        assert!(found.contains(part), "{part} in:\n{found}");
    }
    assert_eq!(ok().fail_safe(SECOND).mistakes(), Vec::<String>::new(), "a short span cuts the throttle");
    for (policy, part) in [
        (ok().ttl(SECOND / 2000), "ttl is 500µs; it must be at least a millisecond"),
        (ok().negative(SECOND / 2000), "negative_ttl is 500µs"),
        (ok().near_ttl(SECOND / 2000), "near_ttl is 500µs"),
    ] {
        let found = policy.mistakes().join("\n");
        assert!(found.contains(part), "{part} in:\n{found}");
    }
}

/// The tiers that a policy is for.
fn among() -> Around {
    Around { max_ttl: 1000 * SECOND, near_cap: None, near_budget: None }
}

#[test]
fn what_contradicts_the_tiers_is_told_with_the_other_mistakes() {
    let ok = || Policy::seconds(100);
    let long = ok().fail_safe(100 * SECOND);
    assert!(long.mistakes_among(Around { max_ttl: 150 * SECOND, ..among() })[0].contains("ttl and fail_safe together"));
    assert!(long.mistakes_among(Around { max_ttl: 200 * SECOND, ..among() }).is_empty());
    let capped = Around { near_cap: Some(SECOND), ..among() };
    assert!(ok().near_ttl(2 * SECOND).mistakes_among(capped)[0].contains("near_ttl 2s is longer than 1s, the cap"));
    assert!(ok().near_ttl(SECOND).mistakes_among(capped).is_empty());
    assert!(ok().mistakes_among(capped).is_empty(), "the cap is for those that say nothing");
    let small = Around { near_budget: Some(1000), ..among() };
    assert!(ok().near_max(1001).mistakes_among(small)[0].contains("near_max is 1001 bytes"));
    assert!(ok().near_max(1000).mistakes_among(small).is_empty() && ok().mistakes_among(small).is_empty());
    let all = Around { near_cap: Some(SECOND), near_budget: Some(1000), max_ttl: SECOND };
    assert_eq!(ok().near_ttl(2 * SECOND).near_max(1001).jitter(2.0).mistakes_among(all).len(), 4);
}

#[test]
fn the_recipes_have_no_mistakes() {
    let week = Duration::from_secs(7 * 24 * 3600);
    for (name, policy, ttl) in [
        ("sessions", Policy::sessions(), 24 * 3600),
        ("profiles", Policy::profiles(), 300),
        ("lists", Policy::lists(), 60),
        ("search", Policy::search(), 30),
        ("metadata", Policy::metadata(), 3600),
        ("playback", Policy::playback(), 1800),
    ] {
        assert_eq!(policy.mistakes_among(Around { max_ttl: week, ..among() }), Vec::<String>::new(), "{name}");
        assert_eq!(policy.ttl, Duration::from_secs(ttl), "{name}");
    }
}
