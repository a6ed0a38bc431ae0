//! One of the parts of the flight table, which a lock guards.

use std::hash::BuildHasherDefault;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use super::Flight;
use super::key::{AsKnown, Key};
use crate::coherence::{Fence, FlightId};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// So many counts of current flights: threads that begin and end flights of different keys seldom write the same one.
const COUNTS: usize = 8;

/// How many flights are current.
#[derive(Debug, Default)]
pub(super) struct Current([Count; COUNTS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicUsize);

impl Current {
    /// The sum. A flight that is current the whole time is in it.
    pub(super) fn sum(&self) -> usize {
        self.0.iter().map(|count| count.0.load(Ordering::SeqCst)).sum()
    }

    fn of(&self, shard: usize) -> &AtomicUsize {
        &self.0[shard % COUNTS].0
    }
}

/// The flights of some keys.
// in lines of its own: its neighbours are locked by others
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    flights: Mutex<Slots>,
    index: usize,
    current: Arc<Current>,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    fence: Fence<Key, Arc<Flight>, BuildHasherDefault<AsKnown>>,
    last: u64,
}

impl Slots {
    /// A number that no flight of these keys has had.
    pub(super) fn next_id(&mut self) -> FlightId {
        self.last += 1;
        FlightId(self.last)
    }
}

impl Deref for Slots {
    type Target = Fence<Key, Arc<Flight>, BuildHasherDefault<AsKnown>>;

    fn deref(&self) -> &Self::Target {
        &self.fence
    }
}

impl DerefMut for Slots {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.fence
    }
}

impl Shard {
    /// The shard with this index; what is current is counted in `current`.
    pub(super) fn new(index: usize, current: &Arc<Current>) -> Self {
        Self { flights: Mutex::new(Slots::default()), index, current: Arc::clone(current) }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        let slots = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { before: slots.len(), slots, current: self.current.of(self.index) }
    }
}

/// A locked shard; what its flights became is counted before it is unlocked.
pub(super) struct Locked<'a> {
    slots: MutexGuard<'a, Slots>,
    before: usize,
    current: &'a AtomicUsize,
}

impl Deref for Locked<'_> {
    type Target = Slots;

    fn deref(&self) -> &Slots {
        &self.slots
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Slots {
        &mut self.slots
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let now = self.slots.len();
        if now > self.before {
            self.current.fetch_add(now - self.before, Ordering::SeqCst);
        } else if now < self.before {
            self.current.fetch_sub(self.before - now, Ordering::SeqCst);
        }
    }
}
