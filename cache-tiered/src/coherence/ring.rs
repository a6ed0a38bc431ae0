//! The acknowledged invalidations of the last minute, to be replayed after a failover.

use std::collections::VecDeque;
use std::time::Duration;

use cache_core::Tick;

/// Invalidations that the far store acknowledged and may have lost if it failed over since.
#[derive(Clone, Debug)]
pub struct Ring<C> {
    kept: VecDeque<(Tick, C)>,
    span: Duration,
    most: usize,
    overflowed: bool,
}

impl<C> Ring<C> {
    /// A ring that keeps changes for `span`, at most `most` of them.
    #[must_use]
    pub const fn new(span: Duration, most: usize) -> Self {
        Self { kept: VecDeque::new(), span, most, overflowed: false }
    }

    /// Keeps a change acknowledged at `now`.
    pub fn push(&mut self, now: Tick, change: C) {
        self.forget(now);
        if self.kept.len() >= self.most {
            self.kept.pop_front();
            self.overflowed = true;
        }
        self.kept.push_back((now, change));
    }

    /// Takes what is to be replayed at `now`; `None` if some of it was dropped for lack of room, so that only a clear
    /// of the namespace makes up for it.
    pub fn take(&mut self, now: Tick) -> Option<Vec<C>> {
        self.forget(now);
        let all = self.kept.drain(..).map(|(_, change)| change).collect();
        if std::mem::take(&mut self.overflowed) { None } else { Some(all) }
    }

    fn forget(&mut self, now: Tick) {
        while self.kept.front().is_some_and(|(at, _)| now.since(*at) > self.span) {
            self.kept.pop_front();
        }
        if self.kept.is_empty() {
            self.overflowed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Tick {
        Tick::ZERO + Duration::from_secs(s)
    }

    #[test]
    fn recent_changes_come_back_in_order_and_old_ones_do_not() {
        let mut ring = Ring::new(Duration::from_secs(60), 10);
        for s in [1, 50, 70] {
            ring.push(at(s), s);
        }
        assert_eq!(ring.take(at(100)), Some(vec![50, 70]));
        assert_eq!(ring.take(at(100)), Some(vec![]));
    }

    #[test]
    fn overflow_is_said_once() {
        let mut ring = Ring::new(Duration::from_secs(60), 2);
        for s in [1, 2, 3] {
            ring.push(at(s), s);
        }
        assert_eq!(ring.take(at(4)), None);
        ring.push(at(5), 5);
        assert_eq!(ring.take(at(6)), Some(vec![5]));
    }
}
