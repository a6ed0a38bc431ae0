//! Time, on a server that counts in seconds.
//!
//! An item carries its deadline in milliseconds in its client flags, and lives on the server a little longer. The
//! milliseconds are those of the clients' clocks; a clock that is off from the server's by more than the server's
//! seconds can hide is corrected.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cache_core::Clock;

/// The bit of the client flags that says that the others are a deadline.
const OURS: u32 = 1 << 31;
/// What the deadline is told modulo.
const SPAN: u64 = 1 << 31;
/// The longest ttl that is kept to the millisecond: half of what can be told apart, over 12 days.
const PRECISE_MS: u64 = SPAN / 2;
/// Longer ttls than this are absolute times to the server.
const RELATIVE_S: u64 = 30 * 24 * 3600;
/// What a relative ttl may end early by, in seconds: the server rounds down, and its second is a timer's.
const SLACK_S: u64 = 2;
/// How far a clock may be off before it is corrected.
const TOLERATED_MS: i64 = 2000;

/// The server's clock as this process knows it.
#[derive(Debug)]
pub(crate) struct Time {
    clock: Clock,
    /// What is added to the own clock.
    correction: AtomicI64,
}

/// When an item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// At this moment, in ms since 1970.
    At(u64),
    /// After so many seconds by the server's count.
    In(u64),
    /// Never; another program stored it.
    Never,
}

/// How a ttl is told to the server: the argument of `T` and the client flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) seconds: i64,
    pub(crate) flags: u32,
}

impl Time {
    pub(crate) const fn new(clock: Clock) -> Self {
        Self { clock, correction: AtomicI64::new(0) }
    }

    /// Milliseconds since 1970, as all clients of the server agree on within two seconds, mostly far better.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.unix_ms().saturating_add_signed(self.correction.load(Ordering::Relaxed))
    }

    /// Compares the own clock with what the server said: the second that it counts.
    pub(crate) fn learn(&self, server_s: u64) {
        let server = i64::try_from(server_s.saturating_mul(1000)).unwrap_or(i64::MAX).saturating_add(500);
        let own = i64::try_from(self.clock.unix_ms()).unwrap_or(i64::MAX);
        let off = server.saturating_sub(own);
        self.correction.store(if off.abs() <= TOLERATED_MS { 0 } else { off }, Ordering::Relaxed);
    }

    /// The expiry of an item that is to live for `ttl_ms` from now.
    pub(crate) fn expiry(&self, ttl_ms: u64) -> Expiry {
        self.until(Deadline::At(self.now_ms().saturating_add(ttl_ms)))
    }

    /// The expiry of an item that is to live until `deadline`.
    pub(crate) fn until(&self, deadline: Deadline) -> Expiry {
        match deadline {
            Deadline::At(at) => {
                let now = self.now_ms();
                let left = at.saturating_sub(now);
                let seconds = left.div_ceil(1000) + SLACK_S;
                let flags = if left <= PRECISE_MS { OURS | u32::try_from(at % SPAN).unwrap_or(0) } else { 0 };
                Expiry { seconds: told(seconds, now), flags }
            }
            Deadline::In(seconds) => Expiry { seconds: told(seconds.max(1), self.now_ms()), flags: 0 },
            Deadline::Never => Expiry { seconds: 0, flags: 0 },
        }
    }

    /// When an item with these flags ends, and the seconds that the server says it has left (-1 for ever).
    pub(crate) fn deadline(&self, flags: u32, left_s: i64) -> Deadline {
        if flags & OURS != 0 {
            let (now, at) = (self.now_ms(), u64::from(flags & !OURS));
            // the moment with these low bits that is nearest to now
            let ahead = at.wrapping_sub(now) % SPAN;
            return Deadline::At(if ahead <= SPAN / 2 { now + ahead } else { (now + ahead).saturating_sub(SPAN) });
        }
        u64::try_from(left_s).map_or(Deadline::Never, Deadline::In)
    }

    /// The time until `deadline`; `None` if that is for ever.
    pub(crate) fn left(&self, deadline: Deadline) -> Option<Duration> {
        match deadline {
            Deadline::At(at) => Some(Duration::from_millis(at.saturating_sub(self.now_ms()))),
            Deadline::In(seconds) => Some(Duration::from_secs(seconds)),
            Deadline::Never => None,
        }
    }

    /// Whether the time of an item with these flags has passed, though the server still has it. The clock is cut to the
    /// millisecond, so the one that the deadline names has to be over.
    pub(crate) fn is_over(&self, flags: u32) -> bool {
        flags & OURS != 0 && matches!(self.deadline(flags, -1), Deadline::At(at) if at < self.now_ms())
    }
}

/// Seconds from now as the server takes them: relative up to 30 days, else a moment, which it keeps in 32 bits.
fn told(seconds: u64, now_ms: u64) -> i64 {
    let told = if seconds < RELATIVE_S { seconds } else { now_ms / 1000 + seconds };
    i64::from(i32::try_from(told).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> (Time, cache_core::ManualClock) {
        let (clock, hand) = Clock::manual();
        (Time::new(clock), hand)
    }

    #[test]
    fn a_short_ttl_is_kept_to_the_millisecond() {
        let (time, hand) = time();
        for ttl in [1, 999, 1000, 3_600_000, PRECISE_MS] {
            let expiry = time.expiry(ttl);
            assert_eq!(time.deadline(expiry.flags, 0), Deadline::At(time.now_ms() + ttl));
            assert!(expiry.seconds as u64 * 1000 > ttl + 1000, "the server must not end it first");
            assert!(!time.is_over(expiry.flags));
        }
        let expiry = time.expiry(250);
        hand.advance(Duration::from_millis(250));
        assert!(!time.is_over(expiry.flags));
        hand.advance(Duration::from_millis(1));
        assert!(time.is_over(expiry.flags));
        hand.advance(Duration::from_secs(3));
        assert!(time.is_over(expiry.flags));
    }

    #[test]
    fn a_long_ttl_is_the_servers_alone() {
        let (time, _hand) = time();
        let days = |n: u64| n * 24 * 3600;
        assert_eq!(time.expiry(days(20) * 1000), Expiry { seconds: days(20) as i64 + 2, flags: 0 });
        let year = time.expiry(days(365) * 1000);
        assert_eq!(year.seconds, (time.now_ms() / 1000 + days(365) + 2) as i64);
        assert!(time.expiry(days(3650) * 1000).seconds <= i64::from(i32::MAX));
        assert!(!time.is_over(0));
    }

    #[test]
    fn flags_of_other_programs_are_no_deadline() {
        let (time, _hand) = time();
        for flags in [0, 1, 2, 16, 0xfa52] {
            assert!(!time.is_over(flags));
            assert_eq!(time.deadline(flags, -1), Deadline::Never);
            assert_eq!(time.deadline(flags, 7), Deadline::In(7));
        }
    }

    #[test]
    fn a_clock_that_is_far_off_is_corrected() {
        let (time, _hand) = time();
        let own = time.now_ms();
        time.learn(own / 1000);
        assert_eq!(time.now_ms(), own);
        time.learn(own / 1000 + 3600);
        assert!(time.now_ms().abs_diff(own + 3_600_000) <= 1000);
    }
}
