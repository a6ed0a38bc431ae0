//! What a near hit reads of a track.

use cache_core::Tick;

use super::Track;
use super::mutate::{Mutation, broken};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The atomics of one line that near hits read: trust, epoch, the last clear.
///
/// A hit reads in the order: trust, entry, epoch and clear, clock. Trust read first proves that every change
/// acknowledged `D` before its end was applied before the entry was looked up; the clock read last proves that the
/// caller was not paused past that end. [`publish`](Self::publish) stores in the opposite order.
#[derive(Debug)]
#[repr(align(128))]
pub struct View {
    trust_until: AtomicU64,
    epoch: AtomicU64,
    cleared: AtomicU64,
    stands_from: AtomicU64,
    applied: AtomicU64,
    failing: AtomicBool,
    outage: AtomicBool,
    lapsed: AtomicBool,
    closed: AtomicBool,
}

impl View {
    /// The view of `track`.
    #[must_use]
    pub fn new(track: &Track) -> Self {
        let view = Self {
            trust_until: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            stands_from: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            outage: AtomicBool::new(false),
            lapsed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        view.publish(track);
        view
    }

    /// Shows `track`. Called under the lock that guards it.
    pub fn publish(&self, track: &Track) {
        if broken(Mutation::TrustBeforeEpoch) {
            self.trust_until.store(track.trust_until().as_nanos(), Ordering::Release);
        }
        self.applied.store(track.applied(), Ordering::Release);
        self.cleared.store(track.cleared(), Ordering::Release);
        self.stands_from.store(track.stands_from(), Ordering::Release);
        self.epoch.store(track.epoch(), Ordering::Release);
        if !self.closed.load(Ordering::Acquire) {
            self.trust_until.store(track.trust_until().as_nanos(), Ordering::Release);
        }
    }

    /// Ends trust for good. Called under the lock that guards the track.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.trust_until.store(0, Ordering::Release);
    }

    /// The moment from which near entries aren't trusted.
    #[must_use]
    #[inline]
    pub fn trust_until(&self) -> Tick {
        Tick::from_nanos(self.trust_until.load(Ordering::Acquire))
    }

    /// The epoch.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The number up to which every change was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// The number of the last clear; entries with a lower `s0` are gone.
    #[must_use]
    #[inline]
    pub fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::Acquire)
    }

    /// The lowest `s0` with which what has no tags stands, without asking the far store.
    #[must_use]
    pub fn stands_from(&self) -> u64 {
        self.stands_from.load(Ordering::Acquire)
    }

    /// Whether the last beat failed.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Whether a beat that was sent after trust had ended failed, and none was answered since.
    #[must_use]
    pub fn outage(&self) -> bool {
        self.outage.load(Ordering::Acquire)
    }

    /// Notes that a beat failed; `late` if it was sent after trust had ended.
    pub fn set_failing(&self, late: bool) {
        self.failing.store(true, Ordering::Release);
        self.outage.fetch_or(late, Ordering::AcqRel);
    }

    /// Notes that a beat gave trust.
    pub fn set_heard(&self) {
        self.failing.store(false, Ordering::Release);
        self.outage.store(false, Ordering::Release);
    }

    /// Notes whether trust has run out; says whether that was noted before.
    pub fn set_lapsed(&self, lapsed: bool) -> bool {
        self.lapsed.swap(lapsed, Ordering::AcqRel)
    }
}

/// The epoch of entries that were loaded while cut off: they belong to none.
pub const UNCONFIRMED: u64 = u64::MAX;

/// The epoch of entries that a source without numbers put in doubt: never a line's own, so the far store is asked for
/// their stamp before they are served again.
pub const SUSPECT: u64 = u64::MAX - 1;
