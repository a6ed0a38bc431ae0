//! A map with a byte budget and second-chance eviction.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::Tick;

/// What a [`Ring`] asks the values that it holds.
pub(super) trait Resident {
    /// Whether the value may be dropped at once.
    fn is_dead(&self, _now: Tick) -> bool {
        false
    }

    /// Whether the value is never evicted.
    fn is_pinned(&self) -> bool {
        false
    }
}

/// A map whose values have weights, kept within a budget.
///
/// A hand walks over the entries in the order in which they came. An insert moves it by two, which drops dead entries
/// and leftovers sooner than they come; an insert that needs room moves it until it has evicted enough entries that
/// were not read since the hand last passed.
pub(super) struct Ring<V> {
    slots: HashMap<Arc<str>, Slot<V>>,
    /// The way of the hand. A place whose id isn't its slot's any more is a leftover of a removed entry.
    hand: VecDeque<(u64, Arc<str>)>,
    next_id: u64,
    weight: u64,
    budget: u64,
}

struct Slot<V> {
    value: V,
    id: u64,
    weight: u64,
    read: bool,
}

impl<V: Resident> Ring<V> {
    pub(super) fn new(budget: u64) -> Self {
        Self { slots: HashMap::new(), hand: VecDeque::new(), next_id: 0, weight: 0, budget }
    }

    pub(super) fn get(&mut self, key: &str) -> Option<&mut V> {
        let slot = self.slots.get_mut(key)?;
        slot.read = true;
        Some(&mut slot.value)
    }

    /// Stores `value`, replacing the one under `key`. A value heavier than the whole budget is not kept, and nothing
    /// is kept in its place.
    pub(super) fn insert(&mut self, key: &str, value: V, weight: u64, now: Tick) -> bool {
        self.remove(key);
        if weight > self.budget {
            return false;
        }
        // Without pressure the hand looks for dead entries only. Never both for one insert: the two would fall into
        // step, and some entries would only ever be passed by the hand that spares them.
        if self.weight <= self.budget - weight {
            self.step(false, now);
            self.step(false, now);
        }
        // Twice around: the first round takes the second chances away, so only pinned entries remain after it.
        let mut steps = 2 * self.hand.len();
        while self.weight > self.budget - weight && steps > 0 {
            self.step(true, now);
            steps -= 1;
        }
        let key: Arc<str> = key.into();
        self.hand.push_back((self.next_id, Arc::clone(&key)));
        self.slots.insert(key, Slot { value, id: self.next_id, weight, read: false });
        self.next_id += 1;
        self.weight += weight;
        true
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<V> {
        let slot = self.slots.remove(key)?;
        self.weight -= slot.weight;
        Some(slot.value)
    }

    /// Corrects the weight of the value under `key` after it was changed in place.
    pub(super) fn reweigh(&mut self, key: &str, weight: u64) {
        if let Some(slot) = self.slots.get_mut(key) {
            self.weight = self.weight - slot.weight + weight;
            slot.weight = weight;
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.hand.clear();
        self.weight = 0;
    }

    /// Moves the hand by one place.
    fn step(&mut self, evict: bool, now: Tick) {
        let Some((id, key)) = self.hand.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.id == id) else { return };
        let spared = slot.value.is_pinned() || slot.read || !evict;
        if slot.value.is_dead(now) || !spared {
            self.remove(&key);
            return;
        }
        if evict {
            slot.read = false;
        }
        self.hand.push_back((id, key));
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.slots.iter().map(|(key, slot)| (key, &slot.value))
    }
}
