//! A circuit breaker as a pure state machine: an error-rate window, then one probe at a time.

use std::time::Duration;

use cache_core::Tick;

/// How many of the last calls are judged.
const WINDOW: u32 = 16;
/// The fewest calls that say anything.
const FEWEST: u32 = 2;

/// Keeps callers from a store that fails: opens when half of the recent calls failed, lets one probe through after a
/// pause, closes when it succeeds.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    pause: Duration,
    calls: u32,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Tick },
    Probing { until: Tick },
}

impl Breaker {
    /// A closed breaker that stays open for `pause`.
    pub(crate) const fn new(pause: Duration) -> Self {
        Self { pause, calls: 0, failures: 0, state: State::Closed }
    }

    /// Whether a call may go through at `now`. While open, the first one after the pause is the probe.
    pub(crate) fn admit(&mut self, now: Tick) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } | State::Probing { until } if now < until => false,
            // a probe that never reported counts as lost after another pause
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now + self.pause };
                true
            }
        }
    }

    /// Whether it admits every call, and another success would change nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state == State::Closed && self.failures == 0 && self.calls == WINDOW - 1
    }

    /// Notes a call whose end says nothing about the store: if it was the probe, the next one is.
    pub(crate) fn abstain(&mut self, now: Tick) {
        if matches!(self.state, State::Probing { .. }) {
            self.state = State::Open { until: now };
        }
    }

    /// Notes how a call ended.
    pub(crate) fn report(&mut self, now: Tick, success: bool) {
        if success {
            if self.state == State::Closed {
                self.calls += 1;
                if self.calls >= WINDOW && self.failures == 0 {
                    self.calls = WINDOW - 1;
                } else if self.calls >= WINDOW {
                    self.calls /= 2;
                    self.failures /= 2;
                }
            } else {
                *self = Self::new(self.pause);
            }
            return;
        }
        self.calls += 1;
        self.failures += 1;
        let failing = self.calls >= FEWEST && self.failures * 2 >= self.calls;
        if failing || self.state != State::Closed {
            (self.calls, self.failures) = (0, 0);
            self.state = State::Open { until: now + self.pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Tick {
        Tick::ZERO + Duration::from_millis(ms)
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::new(PAUSE);
        breaker.report(at(0), false);
        breaker.report(at(0), false);
        assert!(!breaker.admit(at(1)));
        breaker
    }

    #[test]
    fn one_failure_among_successes_does_not_open_it() {
        let mut breaker = Breaker::new(PAUSE);
        for _ in 0..8 {
            breaker.report(at(0), true);
        }
        breaker.report(at(0), false);
        assert!(breaker.admit(at(0)));
    }

    #[test]
    fn it_is_quiet_once_nothing_but_successes_were_seen_and_until_one_fails() {
        let mut breaker = Breaker::new(PAUSE);
        for n in 0..WINDOW * 3 {
            assert_eq!(breaker.is_quiet(), n >= WINDOW - 1, "{n}");
            breaker.report(at(0), true);
        }
        breaker.report(at(0), false);
        assert!(!breaker.is_quiet());
        (0..WINDOW).for_each(|_| breaker.report(at(0), false));
        assert!(!breaker.is_quiet() && !breaker.admit(at(1)));
    }

    #[test]
    fn after_the_pause_one_probe_goes_through() {
        let mut breaker = open();
        assert!(breaker.admit(at(1000)));
        assert!(!breaker.admit(at(1001)), "one probe at a time");
    }

    #[test]
    fn a_good_probe_closes_and_a_bad_one_opens_again() {
        let mut breaker = open();
        assert!(breaker.admit(at(1000)));
        breaker.report(at(1100), false);
        assert!(!breaker.admit(at(1500)));
        assert!(breaker.admit(at(2100)));
        breaker.report(at(2100), true);
        assert!(breaker.admit(at(2100)) && breaker.admit(at(2100)));
    }

    #[test]
    fn a_probe_that_says_nothing_leaves_its_place_to_the_next() {
        let mut breaker = open();
        breaker.abstain(at(1));
        assert!(!breaker.admit(at(2)), "a call from before the pause is no probe");
        assert!(breaker.admit(at(1000)));
        breaker.abstain(at(1001));
        assert!(breaker.admit(at(1001)));
        assert!(!breaker.admit(at(1001)), "one probe at a time");
        breaker.report(at(1002), true);
        breaker.abstain(at(1003));
        assert!(breaker.admit(at(1003)), "a closed one stays so");
    }

    #[test]
    fn a_probe_that_never_reports_does_not_close_the_door_for_ever() {
        let mut breaker = open();
        assert!(breaker.admit(at(1000)));
        assert!(breaker.admit(at(2000)));
    }
}
