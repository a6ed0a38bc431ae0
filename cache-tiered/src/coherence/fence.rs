//! Which loads are in flight, and which of them may install what they bring.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use super::mutate::{Mutation, broken};

/// A flight's identity in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlightId(pub u64);

/// The flights of some keys, one a key. `T` is what a flight shares with its callers.
///
/// A flight is *current* while it stands here. An invalidation detaches it: it ends for its own callers, nobody joins
/// it any more, and it never installs.
#[derive(Clone, Debug)]
pub struct Fence<K, T, S = std::collections::hash_map::RandomState> {
    flights: HashMap<K, Slot<T>, S>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot<T> {
    id: FlightId,
    epoch: u64,
    shared: T,
}

impl<K: Hash + Eq, T: PartialEq, S: BuildHasher> PartialEq for Fence<K, T, S> {
    fn eq(&self, other: &Self) -> bool {
        self.flights == other.flights
    }
}

impl<K: Hash + Eq, T: Eq, S: BuildHasher> Eq for Fence<K, T, S> {}

impl<K: Hash + Eq, T, S: BuildHasher + Default> Default for Fence<K, T, S> {
    fn default() -> Self {
        Self { flights: HashMap::default() }
    }
}

impl<K: Hash + Eq, T, S: BuildHasher> Fence<K, T, S> {
    /// The current flight of `key`, if a caller may join it: it began in `epoch`, and `joinable` holds for it.
    pub fn join<Q>(&self, key: &Q, epoch: u64, joinable: impl FnOnce(&T) -> bool) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let slot = self.flights.get(key)?;
        let fresh = slot.epoch == epoch || broken(Mutation::NoFlightEpoch);
        (fresh && (joinable(&slot.shared) || broken(Mutation::JoinUntrusted))).then_some(&slot.shared)
    }

    /// Begins the flight `id` of `key`; returns the one that it detaches, if any.
    pub fn begin(&mut self, key: K, id: FlightId, epoch: u64, shared: T) -> Option<T> {
        self.flights.insert(key, Slot { id, epoch, shared }).map(|slot| slot.shared)
    }

    /// The current flight of `key`.
    pub fn current<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.flights.get(key).map(|slot| &slot.shared)
    }

    /// Detaches the flight of `key`.
    pub fn detach<Q>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.flights.remove(key).map(|slot| slot.shared)
    }

    /// Ends the flight `id`: unlinks it, and says whether it may install, that is, was current and of `epoch`.
    pub fn settle<Q>(&mut self, key: &Q, id: FlightId, epoch: u64) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(slot) = self.flights.get(key).filter(|slot| slot.id == id) else {
            return broken(Mutation::DetachedInstalls);
        };
        let fresh = slot.epoch == epoch || broken(Mutation::NoFlightEpoch);
        self.flights.remove(key);
        fresh
    }

    /// How many flights are current.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence() -> Fence<&'static str, u8> {
        let mut fence = Fence::default();
        assert_eq!(fence.begin("k", FlightId(1), 5, 1), None);
        fence
    }

    #[test]
    fn a_current_flight_of_the_epoch_installs_once() {
        let mut fence = fence();
        assert!(fence.settle("k", FlightId(1), 5));
        assert!(!fence.settle("k", FlightId(1), 5));
        assert!(fence.is_empty());
    }

    #[test]
    fn a_flight_older_than_the_epoch_ends_without_installing_and_is_not_joined() {
        let mut fence = fence();
        assert_eq!(fence.join("k", 6, |_| true), None);
        assert!(!fence.settle("k", FlightId(1), 6));
        assert!(fence.is_empty());
    }

    #[test]
    fn a_detached_flight_never_installs_and_is_not_joined() {
        let mut fence = fence();
        assert_eq!(fence.detach("k"), Some(1));
        assert_eq!(fence.join("k", 5, |_| true), None);
        assert!(!fence.settle("k", FlightId(1), 5));
    }

    #[test]
    fn a_newer_flight_detaches_the_older_and_is_not_ended_by_it() {
        let mut fence = fence();
        assert_eq!(fence.begin("k", FlightId(2), 5, 2), Some(1));
        assert!(!fence.settle("k", FlightId(1), 5));
        assert_eq!(fence.join("k", 5, |_| true), Some(&2));
        assert!(fence.settle("k", FlightId(2), 5));
    }

    #[test]
    fn the_callers_condition_decides_about_joining() {
        let fence = fence();
        assert_eq!(fence.join("k", 5, |_| false), None);
        assert_eq!(fence.join("k", 5, |flight| *flight == 1), Some(&1));
    }
}
