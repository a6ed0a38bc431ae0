//! Background writes of a process, in order for each key.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cache_core::Tick;

use super::mutate::{Mutation, broken};

/// Writes on their way, at most one waiting and one flying a key: so a key's writes keep their order, and of those that
/// wait only the newest is sent.
///
/// A write flies from its departure until the far store has answered; its process reads it until then. A change in the
/// foreground that makes a write void flies in its place, so that in between nobody is served what the far store still
/// holds.
///
/// It is read for the bound at most. What others changed while it flew may be newer, and nobody knows before it is
/// answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue<K, W> {
    order: VecDeque<K>,
    waiting: BTreeMap<K, W>,
    flying: BTreeMap<K, Flying<W>>,
}

/// A write that flies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flying<W> {
    write: W,
    /// When it departed; `None` once its process reads it no more.
    since: Option<Tick>,
}

/// What a process has of a key that is newer than what it was told by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest<W> {
    /// It reads this.
    Read(W),
    /// This has flown for the bound: it is to be [given up](Queue::give_up), and until its fate is known nothing that was
    /// loaded before it may be served in its place.
    Overdue(W),
}

impl<K, W> Default for Queue<K, W> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: BTreeMap::new(), flying: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, W: Clone> Queue<K, W> {
    /// How many keys wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many keys fly.
    #[must_use]
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    /// Whether nothing of `key` is on its way.
    #[must_use]
    pub fn is_settled<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        !self.waiting.contains_key(key) && !self.flying.contains_key(key)
    }

    /// What the process reads of `key` at `now`: the newest write on its way, if it does not fly for `bound` already.
    #[must_use]
    pub fn newest<Q: Ord + ?Sized>(&self, key: &Q, now: Tick, bound: Duration) -> Option<Newest<&W>>
    where
        K: Borrow<Q>,
    {
        let flying = || {
            let Flying { write, since } = self.flying.get(key)?;
            let late = now >= (*since)? + bound && !broken(Mutation::BehindOverstays);
            Some(if late { Newest::Overdue(write) } else { Newest::Read(write) })
        };
        let newest = self.waiting.get(key).map(Newest::Read).or_else(flying);
        newest.filter(|_| !broken(Mutation::WrittenUnread))
    }

    /// The process reads what flies of `key` no more.
    pub fn give_up<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(flying) = self.flying.get_mut(key) {
            flying.since = None;
        }
    }

    /// Queues a write, in place of one that waits; `false` if `most` keys wait already.
    pub fn offer(&mut self, key: K, write: W, most: usize) -> bool {
        if let Some(older) = self.waiting.get_mut(&key) {
            *older = write;
            return true;
        }
        if self.waiting.len() >= most {
            return false;
        }
        self.order.push_back(key.clone());
        self.waiting.insert(key, write);
        true
    }

    /// The next write, which flies from `now` on: none of a key that has one flying.
    pub fn depart(&mut self, now: Tick) -> Option<W> {
        let ready = |key: &K| !self.flying.contains_key(key) || broken(Mutation::BehindReorders);
        let place = self.order.iter().position(ready)?;
        let key = self.order.remove(place)?;
        let write = self.waiting.remove(&key)?;
        self.flying.insert(key, Flying { write: write.clone(), since: Some(now) });
        Some(write)
    }

    /// Before a change that makes the write of `key` void: if one waits, it is not sent any more, and the change flies in
    /// its place from `now` on and [lands](Self::land). Whether one waited; `None`, and nothing is done, while one flies.
    pub fn take_over(&mut self, key: &K, now: Tick) -> Option<bool> {
        if self.flying.contains_key(key) {
            return None;
        }
        if broken(Mutation::BehindSurvives) {
            return Some(false);
        }
        let waited = self.waiting.remove(key);
        let taken = waited.is_some();
        if let Some(write) = waited {
            self.order.retain(|other| other != key);
            if !broken(Mutation::BehindWithdrawn) {
                self.flying.insert(key.clone(), Flying { write, since: Some(now) });
            }
        }
        Some(taken)
    }

    /// What flew of `key` was answered.
    pub fn land<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.flying.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick::ZERO;
    const BOUND: Duration = Duration::from_secs(2);

    fn read(queue: &Queue<&'static str, u8>, key: &str) -> Option<u8> {
        match queue.newest(key, NOW, BOUND)? {
            Newest::Read(write) => Some(*write),
            Newest::Overdue(_) => panic!("nothing is late"),
        }
    }

    #[test]
    fn what_flies_is_read_for_the_bound_and_what_waits_for_as_long_as_it_waits() {
        let mut queue = Queue::default();
        queue.offer("a", 1, 9);
        assert_eq!(queue.depart(NOW), Some(1));
        let last = NOW + (BOUND - Duration::from_nanos(1));
        assert_eq!(queue.newest("a", last, BOUND), Some(Newest::Read(&1)));
        assert_eq!(queue.newest("a", NOW + BOUND, BOUND), Some(Newest::Overdue(&1)));
        queue.give_up("a");
        assert_eq!(queue.newest("a", NOW, BOUND), None);
        assert!(!queue.is_settled("a") && queue.take_over(&"a", NOW).is_none(), "it still flies");
        queue.offer("a", 2, 9);
        assert_eq!(queue.newest("a", NOW + BOUND * 9, BOUND), Some(Newest::Read(&2)));
        queue.land("a");
        assert_eq!(queue.take_over(&"a", NOW + BOUND), Some(true));
        assert_eq!(queue.newest("a", last + BOUND, BOUND), Some(Newest::Read(&2)));
        assert_eq!(queue.newest("a", NOW + BOUND * 2, BOUND), Some(Newest::Overdue(&2)));
    }

    #[test]
    fn a_keys_writes_fly_one_by_one_and_only_the_newest_waits() {
        let mut queue = Queue::default();
        assert!(queue.offer("a", 1, 2) && queue.offer("b", 2, 2) && !queue.offer("c", 3, 2));
        assert_eq!(queue.depart(NOW), Some(1));
        assert!(queue.offer("a", 4, 2) && queue.offer("a", 5, 2));
        assert_eq!((queue.depart(NOW), queue.depart(NOW)), (Some(2), None));
        assert_eq!((read(&queue, "a"), read(&queue, "b"), read(&queue, "c")), (Some(5), Some(2), None));
        queue.land("a");
        assert_eq!(queue.depart(NOW), Some(5));
        queue.land("a");
        queue.land("b");
        assert!(queue.is_settled("a") && queue.flying() == 0 && queue.waiting() == 0);
    }

    #[test]
    fn a_change_flies_in_the_place_of_what_waits() {
        let mut queue = Queue::default();
        assert!(queue.offer("a", 1, 9) && queue.offer("b", 2, 9));
        assert_eq!((queue.take_over(&"a", NOW), queue.take_over(&"c", NOW)), (Some(true), Some(false)));
        assert_eq!(read(&queue, "a"), Some(1), "it is read until the change is done");
        assert!(queue.offer("a", 3, 9));
        assert_eq!((queue.depart(NOW), queue.depart(NOW)), (Some(2), None), "what comes later waits for the change");
        assert_eq!((queue.take_over(&"a", NOW), queue.take_over(&"b", NOW)), (None, None));
        queue.land("a");
        assert_eq!(queue.depart(NOW), Some(3));
    }
}
