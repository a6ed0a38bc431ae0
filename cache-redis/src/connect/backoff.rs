//! Waiting longer after each failed attempt, never in step with others.

use std::time::Duration;

/// The wait after `failures` failed attempts in a row: a random time in the upper half of `min * 2^(failures - 1)`,
/// capped at `max`.
pub(crate) fn wait(min: Duration, max: Duration, failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let ceiling = min.saturating_mul(1_u32 << (failures - 1).min(20)).min(max);
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_with_jitter() {
        let (min, max) = (Duration::from_millis(20), Duration::from_secs(2));
        assert_eq!(wait(min, max, 0), Duration::ZERO);
        for (failures, ceiling) in [(1, 20), (2, 40), (5, 320), (8, 2000), (40, 2000), (u32::MAX, 2000)] {
            let ceiling = Duration::from_millis(ceiling);
            for _ in 0..50 {
                let wait = wait(min, max, failures);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{failures}: {wait:?}");
            }
        }
        let all: std::collections::HashSet<_> = (0..20).map(|_| wait(min, max, 8)).collect();
        assert!(all.len() > 10, "no jitter");
    }
}
