//! The breaker in front of an origin, as a pure state machine: an error rate over a window of time, then one probe.

use std::time::Duration;

use cache_core::Tick;

use crate::origin::OriginBreaker;

/// The window moves in steps of a tenth.
const STEPS: u64 = 10;

/// How a load that was let through ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The origin answered.
    Success,
    /// It failed, panicked or was late.
    Failure,
    /// Nobody waited for the end.
    Abandoned,
}

/// The right to run one load, to be reported back. One from before the breaker last changed says nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    turn: u64,
}

/// Keeps loads from an origin that fails.
#[derive(Clone, Debug)]
pub(crate) struct RateBreaker {
    options: OriginBreaker,
    state: State,
    /// Grows with every change of state.
    turn: u64,
    steps: [Step; STEPS as usize],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Tick },
    Probing,
}

/// What happened within a tenth of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// Counted from the clock's beginning.
    number: u64,
    loads: u32,
    failures: u32,
}

impl RateBreaker {
    /// A closed breaker.
    pub(crate) fn new(options: OriginBreaker) -> Self {
        Self { options, state: State::Closed, turn: 0, steps: [Step::default(); STEPS as usize] }
    }

    /// Whether a load would be refused at `now`, and for how long.
    pub(crate) fn refuses(&self, now: Tick) -> Option<Duration> {
        match self.state {
            State::Open { until } if now < until => Some(until.since(now)),
            // the probe is under way
            State::Probing => Some(self.options.pause),
            State::Closed | State::Open { .. } => None,
        }
    }

    /// Lets a load through at `now`; once open and past the pause, one as the probe. Else the time until it may.
    pub(crate) fn admit(&mut self, now: Tick) -> Result<Pass, Duration> {
        if let Some(left) = self.refuses(now) {
            return Err(left);
        }
        if self.state != State::Closed {
            self.enter(State::Probing);
        }
        Ok(Pass { turn: self.turn })
    }

    /// Notes how a load ended; whether that opened the breaker.
    pub(crate) fn report(&mut self, now: Tick, pass: Pass, fate: Fate) -> bool {
        if pass.turn != self.turn {
            return false;
        }
        match (self.state, fate) {
            (State::Closed, Fate::Abandoned) | (State::Open { .. }, _) => false,
            (State::Closed, Fate::Success | Fate::Failure) => {
                let opens = self.count(now, fate);
                if opens {
                    self.open(now);
                }
                opens
            }
            (State::Probing, Fate::Success) => {
                self.steps = [Step::default(); STEPS as usize];
                self.enter(State::Closed);
                false
            }
            (State::Probing, Fate::Failure) => {
                self.open(now);
                true
            }
            // the next load is the probe
            (State::Probing, Fate::Abandoned) => {
                self.enter(State::Open { until: now });
                false
            }
        }
    }

    fn open(&mut self, now: Tick) {
        self.enter(State::Open { until: now + self.options.pause });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.turn += 1;
    }

    /// Counts a load; whether too many of the window's failed.
    fn count(&mut self, now: Tick, fate: Fate) -> bool {
        let step = u64::try_from(self.options.window.as_nanos()).unwrap_or(u64::MAX) / STEPS;
        let number = now.as_nanos() / step.max(1);
        if let Some(current) = usize::try_from(number % STEPS).ok().and_then(|at| self.steps.get_mut(at)) {
            if current.number != number {
                *current = Step { number, ..Step::default() };
            }
            current.loads = current.loads.saturating_add(1);
            current.failures = current.failures.saturating_add(u32::from(fate == Fate::Failure));
        }
        let recent = self.steps.iter().filter(|step| step.number + STEPS > number);
        let (loads, failures) =
            recent.fold((0_u64, 0_u64), |(l, f), step| (l + u64::from(step.loads), f + u64::from(step.failures)));
        #[expect(clippy::cast_precision_loss, reason = "a share of loads needs no more than 52 bits")]
        let share = failures as f64 / loads.max(1) as f64;
        fate == Fate::Failure && loads >= u64::from(self.options.fewest) && share >= self.options.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::from_nanos(1_000_000_000) + Duration::from_millis(ms)
    }

    fn breaker() -> RateBreaker {
        RateBreaker::new(
            OriginBreaker::default().fewest(4).window(Duration::from_secs(1)).pause(Duration::from_secs(1)),
        )
    }

    /// Lets a load through at `ms` and ends it at once; whether that opened it.
    fn load(breaker: &mut RateBreaker, ms: u64, fate: Fate) -> bool {
        let pass = breaker.admit(at(ms)).unwrap();
        breaker.report(at(ms), pass, fate)
    }

    fn open() -> RateBreaker {
        let mut breaker = breaker();
        for _ in 0..3 {
            assert!(!load(&mut breaker, 0, Fate::Failure), "too few to say anything");
        }
        assert!(load(&mut breaker, 0, Fate::Failure));
        breaker
    }

    #[test]
    fn it_opens_at_its_rate_and_not_below() {
        let mut breaker = breaker();
        for _ in 0..5 {
            assert!(!load(&mut breaker, 0, Fate::Success));
        }
        for _ in 0..4 {
            assert!(!load(&mut breaker, 0, Fate::Failure), "4 of 9 are below a half");
        }
        assert!(load(&mut breaker, 0, Fate::Failure), "5 of 10 are a half");
        assert_eq!(breaker.admit(at(400)), Err(Duration::from_millis(600)));
    }

    #[test]
    fn failures_older_than_the_window_are_forgotten() {
        let mut breaker = breaker();
        for _ in 0..3 {
            load(&mut breaker, 0, Fate::Failure);
        }
        assert!(!load(&mut breaker, 1100, Fate::Failure), "one of one within the window, and one is too few");
        assert!(breaker.admit(at(1100)).is_ok());
        // a slow trickle never adds up
        for n in 2..50 {
            assert!(!load(&mut breaker, n * 1100, Fate::Failure));
        }
    }

    #[test]
    fn abandoned_loads_say_nothing() {
        let mut breaker = breaker();
        for _ in 0..100 {
            assert!(!load(&mut breaker, 0, Fate::Abandoned));
        }
        assert!(breaker.admit(at(0)).is_ok());
    }

    #[test]
    fn after_the_pause_one_probe_goes_through_and_its_success_closes() {
        let mut breaker = open();
        assert!(breaker.refuses(at(999)).is_some());
        let probe = breaker.admit(at(1000)).unwrap();
        assert!(breaker.admit(at(1000)).is_err(), "one probe at a time");
        assert!(!breaker.report(at(1100), probe, Fate::Success));
        for _ in 0..3 {
            assert!(!load(&mut breaker, 1100, Fate::Failure), "the past is forgotten");
        }
    }

    #[test]
    fn a_failed_probe_opens_it_again() {
        let mut breaker = open();
        let probe = breaker.admit(at(1000)).unwrap();
        assert!(breaker.report(at(1500), probe, Fate::Failure));
        assert_eq!(breaker.admit(at(1600)), Err(Duration::from_millis(900)));
        assert!(breaker.admit(at(2500)).is_ok());
    }

    #[test]
    fn an_abandoned_probe_leaves_its_place_to_the_next() {
        let mut breaker = open();
        let probe = breaker.admit(at(1000)).unwrap();
        assert!(!breaker.report(at(1001), probe, Fate::Abandoned));
        assert!(breaker.admit(at(1001)).is_ok());
    }

    #[test]
    fn loads_from_before_it_opened_neither_close_it_nor_keep_it_open() {
        let mut breaker = breaker();
        let old: Vec<Pass> = (0..3).map(|_| breaker.admit(at(0)).unwrap()).collect();
        for _ in 0..4 {
            load(&mut breaker, 0, Fate::Failure);
        }
        assert!(breaker.refuses(at(1)).is_some());
        breaker.report(at(2), old[0], Fate::Success);
        assert!(breaker.refuses(at(3)).is_some());
        let probe = breaker.admit(at(1000)).unwrap();
        breaker.report(at(1000), old[1], Fate::Failure);
        breaker.report(at(1001), probe, Fate::Success);
        breaker.report(at(1002), old[2], Fate::Failure);
        assert!(breaker.refuses(at(1002)).is_none());
    }
}
