//! The far store's clock, estimated from beats.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{Clock, Tick};

/// The server's wall clock as this process estimates it: exact to half a round trip. Used for ttls, never for order.
#[derive(Debug, Default)]
pub(crate) struct ServerTime {
    /// Server ms minus own ms since boot; 0 before the first estimate.
    offset: AtomicI64,
    /// How far off the estimate may be, in ms.
    error: AtomicU64,
}

impl ServerTime {
    /// Learns from a reply that says `server_ms`, asked for at `sent` and received at `now`. If the server's clock was set
    /// since the last one: what time it is now, by the clock before or after, whichever is later.
    pub(crate) fn learn(&self, server_ms: u64, sent: Tick, now: Tick) -> Option<u64> {
        let middle = sent.as_nanos() / 2 + now.as_nanos() / 2;
        let offset = i64::try_from(server_ms).unwrap_or(i64::MAX) - i64::try_from(middle / 1_000_000).unwrap_or(0);
        let before = self.offset.swap(offset, Ordering::Relaxed);
        // half the round trip, and the rounding of both clocks to whole ms
        let half = now.since(sent).as_micros().div_ceil(2000);
        let error = u64::try_from(half).unwrap_or(u64::MAX).saturating_add(2);
        let errors = self.error.swap(error, Ordering::Relaxed).saturating_add(error);
        let set = before != 0 && before.abs_diff(offset) > errors;
        set.then(|| (now.as_nanos() / 1_000_000).saturating_add_signed(before.max(offset)))
    }

    /// The server's time in ms at `now`; the process's own wall clock before the first estimate.
    pub(crate) fn ms(&self, clock: &Clock, now: Tick) -> u64 {
        match self.offset.load(Ordering::Relaxed) {
            0 => clock.unix_ms(),
            offset => (now.as_nanos() / 1_000_000).saturating_add_signed(offset),
        }
    }

    /// The time that is left at `now` until the server's clock surely says `at_ms`: too long by at most the estimate's
    /// error, never too short, so that a value is not gone before its time.
    pub(crate) fn left(&self, clock: &Clock, now: Tick, at_ms: u64) -> Duration {
        let latest = at_ms.saturating_add(self.error.load(Ordering::Relaxed));
        Duration::from_millis(latest.saturating_sub(self.ms(clock, now)))
    }

    /// The latest end that has surely come at `now`: what [`left`](Self::left) is zero for.
    pub(crate) fn surely_past(&self, clock: &Clock, now: Tick) -> u64 {
        self.ms(clock, now).saturating_sub(self.error.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_clock_that_was_set_is_told_from_a_reply_that_was_slow() {
        let time = ServerTime::default();
        assert_eq!(time.learn(1_000_000, at(0), at(10)), None, "the first");
        assert_eq!(time.learn(1_000_100, at(100), at(110)), None);
        assert_eq!(time.learn(1_000_290, at(200), at(300)), None, "its answer was nearly all the way");
        assert_eq!(time.learn(4_600_400, at(400), at(410)), Some(4_600_405), "forward");
        assert_eq!(time.learn(1_000_500, at(500), at(510)), Some(4_600_505), "and back");
        assert_eq!(time.learn(1_000_600, at(600), at(610)), None);
    }
}
