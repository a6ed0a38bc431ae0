//! Which loads are in flight, and which of them may install what they bring.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use cache_core::Stamp;

use super::mutate::{Mutation, broken};

/// A flight's identity in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlightId(pub u64);

/// The flights of some keys, one a key. `T` is what a flight shares with its callers.
///
/// A flight is *current* while it stands here. An invalidation detaches it: it ends for its own callers, nobody joins
/// it any more, and it never installs.
///
/// What a detached flight tells its callers may be newer than what the current flight brings. Its end leaves its stamp
/// on the current flight and so *contests* it: that one then installs nothing but the same stamp, and callers that joined it
/// then take its value only if it was installed, else they board again.
#[derive(Clone, Debug)]
pub struct Fence<K, T, S = std::collections::hash_map::RandomState> {
    flights: HashMap<K, Slot<T>, S>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot<T> {
    id: FlightId,
    epoch: u64,
    shared: T,
    /// What callers of detached flights were told since this one began; `NONE` matches nothing.
    contest: Option<Stamp>,
}

/// A caller's place in a flight that it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Joined<T> {
    /// What the flight shares.
    pub shared: T,
    /// Whether its value may only be taken if the flight [settled](Fence::settle).
    pub contested: bool,
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
    pub fn join<Q>(&self, key: &Q, epoch: u64, joinable: impl FnOnce(&T) -> bool) -> Option<Joined<&T>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let slot = self.flights.get(key)?;
        let fresh = slot.epoch == epoch || broken(Mutation::NoFlightEpoch);
        let contested = slot.contest.is_some() && !broken(Mutation::JoinContested);
        (fresh && (joinable(&slot.shared) || broken(Mutation::JoinUntrusted)))
            .then_some(Joined { shared: &slot.shared, contested })
    }

    /// Begins the flight `id` of `key`; returns the one that it detaches, if any.
    pub fn begin(&mut self, key: K, id: FlightId, epoch: u64, shared: T) -> Option<T> {
        self.flights.insert(key, Slot { id, epoch, shared, contest: None }).map(|slot| slot.shared)
    }

    /// The current flight of `key`.
    pub fn current<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.flights.get(key).map(|slot| &slot.shared)
    }

    /// The stamp that others were told since the current flight of `key` began.
    pub fn contest<Q>(&self, key: &Q) -> Option<Stamp>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.flights.get(key)?.contest
    }

    /// Detaches the flight of `key`.
    pub fn detach<Q>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.flights.remove(key).map(|slot| slot.shared)
    }

    /// Ends the flight `id`, whose callers are told the value with stamp `told`, or nothing: unlinks it, and says
    /// whether it may install, that is, was current, of `epoch`, and not contested. One that was detached contests the
    /// current flight.
    pub fn settle<Q>(&mut self, key: &Q, id: FlightId, epoch: u64, told: Option<Stamp>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // taken out at once, for it is seldom another flight's
        let Some((key, mut slot)) = self.flights.remove_entry(key) else { return broken(Mutation::DetachedInstalls) };
        if slot.id != id {
            if let Some(told) = told
                && !broken(Mutation::NoContest)
            {
                slot.contest =
                    Some(slot.contest.map_or(told, |contest| if contest == told { told } else { Stamp::NONE }));
            }
            self.flights.insert(key, slot);
            return broken(Mutation::DetachedInstalls);
        }
        let fresh = slot.epoch == epoch || broken(Mutation::NoFlightEpoch);
        let same = slot.contest.is_none_or(|contest| contest != Stamp::NONE && told == Some(contest));
        fresh && same
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
        assert!(fence.settle("k", FlightId(1), 5, None));
        assert!(!fence.settle("k", FlightId(1), 5, None));
        assert!(fence.is_empty());
    }

    #[test]
    fn a_flight_older_than_the_epoch_ends_without_installing_and_is_not_joined() {
        let mut fence = fence();
        assert_eq!(fence.join("k", 6, |_| true), None);
        assert!(!fence.settle("k", FlightId(1), 6, None));
        assert!(fence.is_empty());
    }

    #[test]
    fn a_detached_flight_never_installs_and_is_not_joined() {
        let mut fence = fence();
        assert_eq!(fence.detach("k"), Some(1));
        assert_eq!(fence.join("k", 5, |_| true), None);
        assert!(!fence.settle("k", FlightId(1), 5, None));
    }

    #[test]
    fn a_newer_flight_detaches_the_older_and_is_not_ended_by_it() {
        let mut fence = fence();
        assert_eq!(fence.begin("k", FlightId(2), 5, 2), Some(1));
        assert!(!fence.settle("k", FlightId(1), 5, None));
        assert_eq!(fence.join("k", 5, |_| true), Some(Joined { shared: &2, contested: false }));
        assert!(fence.settle("k", FlightId(2), 5, None));
    }

    /// The second flight of `k`, after the first was detached and told its callers `told`.
    fn contested(told: &[u64]) -> Fence<&'static str, u8> {
        let mut fence = fence();
        fence.begin("k", FlightId(2), 5, 2);
        for stamp in told {
            assert!(!fence.settle("k", FlightId(1), 5, Some(Stamp(*stamp))));
        }
        assert_eq!(fence.join("k", 5, |_| true), Some(Joined { shared: &2, contested: !told.is_empty() }));
        fence
    }

    #[test]
    fn after_a_detached_flight_told_a_value_the_current_one_installs_only_the_same() {
        let settles = |told: &[u64], stamp: u64| contested(told).settle("k", FlightId(2), 5, Some(Stamp(stamp)));
        assert!(settles(&[], 7));
        assert!(settles(&[7], 7));
        assert!(settles(&[7, 7], 7));
        assert!(!settles(&[8], 7));
        assert!(!settles(&[7, 8], 7));
        assert!(!settles(&[0], 0), "what has no stamp matches nothing");
        assert!(!contested(&[7]).settle("k", FlightId(2), 5, None));
    }

    #[test]
    fn the_next_flight_is_not_contested() {
        let mut fence = contested(&[8]);
        assert!(!fence.settle("k", FlightId(2), 5, Some(Stamp(7))));
        fence.begin("k", FlightId(3), 5, 3);
        assert!(fence.settle("k", FlightId(3), 5, Some(Stamp(9))));
    }

    #[test]
    fn the_callers_condition_decides_about_joining() {
        let fence = fence();
        assert_eq!(fence.join("k", 5, |_| false), None);
        assert_eq!(fence.join("k", 5, |flight| *flight == 1), Some(Joined { shared: &1, contested: false }));
    }
}
