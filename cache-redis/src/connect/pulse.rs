//! Whether a server gives signs of life.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// A server's pulse: it is silent from when a call got no reply in time, and nothing else was heard since that was sent,
/// until anything is heard.
///
/// Shared by all connections to the server. What is heard is bytes: a server that is slow on a large reply is not silent.
/// It has no clock and sends nothing: connections ask a silent server for a sign of life, and keep calls from it.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// How often something was heard.
    heard: AtomicU64,
    /// What `heard` was when the server was last found silent, and one: that it is so still needs no undoing.
    silent: AtomicU64,
    /// Until when calls wait for a sign of life.
    until: Mutex<Option<Instant>>,
    news: Notify,
}

impl Pulse {
    /// What a call takes with it when it is sent, for [`miss`](Self::miss).
    pub(super) fn mark(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Bytes came.
    pub(super) fn hear(&self) {
        let before = self.heard.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) == before + 1 {
            self.news.notify_waiters();
        }
    }

    /// A call that was sent at `mark` got no reply in time. If that makes the server silent, calls wait until `until`.
    pub(super) fn miss(&self, mark: u64, until: Instant) {
        // who is silent already stays so, and nobody waits for longer
        if self.heard.load(Ordering::SeqCst) != mark || self.is_silent() {
            return;
        }
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        // what is heard meanwhile has raised the count already
        self.silent.fetch_max(mark + 1, Ordering::SeqCst);
        self.news.notify_waiters();
    }

    /// Whether nothing was heard since the server was found silent.
    pub(super) fn is_silent(&self) -> bool {
        let silent = self.silent.load(Ordering::Relaxed);
        silent != 0 && silent == self.heard.load(Ordering::Relaxed) + 1
    }

    /// Until when calls wait for a sign of life; `None` if the server is not silent.
    pub(super) fn waits(&self) -> Option<Instant> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|_| self.is_silent())
    }

    /// Ends when the server is silent, or is so no more.
    pub(super) async fn turns(&self, silent: bool) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.is_silent() == silent {
                return;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The call of this number is sent.
        Sent(usize),
        /// It got no reply in time.
        Missed(usize),
        Heard,
    }
    use Step::{Heard, Missed, Sent};

    fn after(steps: &[Step]) -> Pulse {
        let pulse = Pulse::default();
        let mut marks = [0; 4];
        for step in steps {
            match *step {
                Sent(call) => marks[call] = pulse.mark(),
                Missed(call) => pulse.miss(marks[call], Instant::now()),
                Heard => pulse.hear(),
            }
        }
        pulse
    }

    #[test]
    fn a_server_is_silent_after_a_missed_call_until_anything_is_heard() {
        for (steps, silent) in [
            (&[][..], false),
            (&[Sent(0)], false),
            (&[Sent(0), Missed(0)], true),
            // a reply to another call, or a part of one
            (&[Sent(0), Heard, Missed(0)], false),
            (&[Heard, Sent(0), Missed(0)], true),
            (&[Sent(0), Missed(0), Heard], false),
            // those that waited together are one
            (&[Sent(0), Sent(1), Missed(0), Missed(1)], true),
            (&[Sent(0), Sent(1), Missed(0), Missed(1), Heard], false),
            (&[Sent(0), Sent(1), Missed(0), Heard, Missed(1)], false),
            // and one that was sent after the sign of life tells anew
            (&[Sent(0), Missed(0), Heard, Sent(1), Missed(1)], true),
            (&[Sent(0), Missed(0), Heard, Sent(1), Heard, Missed(1)], false),
            (&[Sent(0), Missed(0), Sent(1), Missed(1)], true),
            (&[Sent(0), Missed(0), Sent(1), Missed(1), Heard], false),
        ] {
            let pulse = after(steps);
            assert_eq!(pulse.is_silent(), silent, "{steps:?}");
            assert_eq!(pulse.waits().is_some(), silent, "{steps:?}");
        }
    }

    #[test]
    fn calls_wait_no_longer_for_each_further_miss() {
        let (pulse, now) = (Pulse::default(), Instant::now());
        for late in 1..4 {
            pulse.miss(0, now + Duration::from_secs(late));
            assert_eq!(pulse.waits(), Some(now + Duration::from_secs(1)));
        }
        pulse.hear();
        pulse.miss(1, now + Duration::from_secs(9));
        assert_eq!(pulse.waits(), Some(now + Duration::from_secs(9)), "found silent anew");
    }

    #[test]
    fn who_waits_for_a_sign_of_life_is_woken_by_it() {
        let mut cx = Context::from_waker(Waker::noop());
        let pulse = Pulse::default();
        let silent = pulse.turns(true);
        tokio::pin!(silent);
        assert!(silent.as_mut().poll(&mut cx).is_pending());
        pulse.miss(0, Instant::now());
        assert!(silent.as_mut().poll(&mut cx).is_ready());
        let well = pulse.turns(false);
        tokio::pin!(well);
        assert!(well.as_mut().poll(&mut cx).is_pending());
        pulse.hear();
        assert!(well.as_mut().poll(&mut cx).is_ready());
    }
}
