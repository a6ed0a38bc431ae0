//! On what footing a request stands: trusted, or cut off.

use std::sync::PoisonError;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Tick};

use super::Engine;
use crate::coherence::{Track, View, settles_after};
use crate::sync::MutexGuard;

/// Whether the far store may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footing {
    /// A beat younger than the bound was answered, or there is nothing to be trusted.
    Trusted,
    /// Beats fail: the outage rule applies.
    CutOff,
}

/// The views of a line and of the control line, which may be the same.
#[derive(Clone, Copy)]
pub(super) struct Views<'a> {
    own: &'a View,
    control: &'a View,
    is_control: bool,
}

impl Views<'_> {
    #[inline]
    pub(super) fn trust_until(self) -> Tick {
        let own = self.own.trust_until();
        if self.is_control { own } else { own.min(self.control.trust_until()) }
    }

    /// The control line's epoch counts too: both only grow, so the sum changes when either does.
    #[inline]
    pub(super) fn epoch(self) -> u64 {
        let own = self.own.epoch();
        if self.is_control { own } else { own + self.control.epoch() }
    }

    /// The number of the last clear.
    #[inline]
    pub(super) fn cleared(self) -> u64 {
        self.control.cleared()
    }
}

impl Engine {
    /// What near hits read of `line`.
    #[inline]
    pub(super) fn views(&self, line: usize) -> Views<'_> {
        Views { own: &self.lines[line].view, control: &self.lines[0].view, is_control: line == 0 }
    }

    /// The moment from which near entries of `line` aren't trusted.
    #[inline]
    pub(crate) fn trust_until(&self, line: usize) -> Tick {
        self.views(line).trust_until()
    }

    /// The epoch of `line`'s entries.
    #[inline]
    pub(crate) fn epoch(&self, line: usize) -> u64 {
        self.views(line).epoch()
    }

    /// Whether trust in `line` has ended and its last beat failed: near entries are served by the outage rule. A beat that
    /// failed before is enough: no hit waits for another one to fail.
    pub(crate) fn cut_off(&self, line: usize) -> bool {
        let now = self.clock.now();
        [line, 0].iter().any(|line| {
            let view = &self.lines[*line].view;
            view.failing() && now >= view.trust_until()
        })
    }

    /// How long after a change was acknowledged any process may serve what was before it, marked answers included, if all
    /// are built alike.
    pub(crate) fn settles_after(&self) -> Duration {
        match self.options.incoherent {
            _ if self.far.is_none() => Duration::ZERO,
            Some(cap) => cap,
            None => settles_after(self.options.bound, self.options.outage),
        }
    }

    /// A line's track.
    pub(crate) fn track(&self, line: usize) -> MutexGuard<'_, Track> {
        self.lines[line].track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a beat is sent, and how long its reply is waited for.
    pub(crate) fn beat_span(&self) -> Duration {
        self.options.bound / 3
    }

    /// Waits until it is known on what footing a request stands; at most two beats long.
    pub(crate) async fn footing(&self, line: usize) -> Footing {
        if self.clock.now() < self.trust_until(line) {
            return Footing::Trusted;
        }
        // on the heap, so that it takes no room in the futures of all who find trust standing
        Box::pin(self.doubtful_footing(line)).await
    }

    async fn doubtful_footing(&self, line: usize) -> Footing {
        if self.work.is_homeless() {
            // no beat will be sent again
            self.lines[line].view.set_failing(true);
            return Footing::CutOff;
        }
        let waiting = async {
            loop {
                let state = &self.lines[line];
                let verdict = state.verdict.notified();
                let control = self.lines[0].verdict.notified();
                tokio::pin!(verdict, control);
                verdict.as_mut().enable();
                control.as_mut().enable();
                if self.clock.now() < self.trust_until(line) {
                    return Footing::Trusted;
                }
                // who has nothing near waits for a beat that was sent since: the one that failed may have been a busy
                // moment's
                if state.view.outage() || self.lines[0].view.outage() {
                    return Footing::CutOff;
                }
                state.beat.notify_one();
                self.lines[0].beat.notify_one();
                tokio::select! {
                    biased;
                    () = verdict => {}
                    () = control => {}
                }
            }
        };
        tokio::time::timeout(self.beat_span() * 2, waiting).await.unwrap_or(Footing::CutOff)
    }

    /// The error of a read that only the far store could answer.
    pub(crate) fn unreachable(&self) -> Error {
        let store = self.far.as_ref().map_or("far", |far| far.store().name());
        if self.work.is_homeless() {
            let text = "the runtime on which the cache was built has ended, and with it the tasks that hear of changes; build \
                        it on a runtime that lives as long";
            return Error::new(ErrorKind::Closed, text).with_store(store);
        }
        Error::new(ErrorKind::Unavailable, "the far store can't be reached, and nothing near may be served")
            .with_store(store)
            .with_retry_after(self.beat_span())
    }
}
