//! A number of its own for each thread, given back when the thread ends.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many numbers there are.
pub(super) const COUNT: usize = 32;
/// The number that threads share which found none free.
pub(super) const SHARED: usize = 0;

/// A bit for each number that is taken.
static TAKEN: AtomicU64 = AtomicU64::new(1);

struct Slot(Cell<usize>);

impl Drop for Slot {
    fn drop(&mut self) {
        let mine = self.0.get();
        if mine != SHARED && mine != NONE {
            // what this thread counted is seen by the one that takes the number next
            TAKEN.fetch_and(!(1 << mine), Ordering::Release);
        }
    }
}

const NONE: usize = usize::MAX;

thread_local! {
    static MINE: Slot = const { Slot(Cell::new(NONE)) };
}

/// This thread's number.
#[inline]
pub(super) fn mine() -> usize {
    // a thread that is ending counts with those that share
    MINE.try_with(|slot| if slot.0.get() == NONE { take(slot) } else { slot.0.get() }).unwrap_or(SHARED)
}

#[cold]
fn take(slot: &Slot) -> usize {
    let mut taken = TAKEN.load(Ordering::Relaxed);
    loop {
        let free = (!taken).trailing_zeros() as usize;
        if free >= COUNT {
            slot.0.set(SHARED);
            return SHARED;
        }
        match TAKEN.compare_exchange_weak(taken, taken | 1 << free, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                slot.0.set(free);
                return free;
            }
            Err(now) => taken = now,
        }
    }
}
