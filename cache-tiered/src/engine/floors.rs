//! What this process returned, or changed, without the far store's word, so that values don't go backwards when it comes
//! back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{Header, Tick};

/// Longer than any read is under way.
const LINGERS: Duration = Duration::from_secs(60);

/// The most keys remembered one by one; past it one floor holds for all.
const MOST: usize = 10_000;

/// For keys that were loaded while the far store could not be asked: the server's time at the end of the load. For keys
/// whose change it did not acknowledge: the time at which that was known. A frame whose own load began before that may be
/// older than what callers were given, or gave, and is not served.
///
/// This is the one place where moments of two processes are compared. Both are estimates of the server's clock, each
/// off by at most half of a beat's longest round trip, which the caller adds. An error costs a load, never a value.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    any: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: HashMap<Arc<str>, Floor>,
    all: u64,
    swept: Tick,
}

#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    until_ms: u64,
    /// It holds on for reads that were sent before.
    lifted: Option<Tick>,
}

impl Floors {
    /// Remembers that `key` was loaded or changed by `until_ms`.
    pub(crate) fn raise(&self, key: &Arc<str>, until_ms: u64) {
        let mut kept = self.lock();
        if kept.keys.len() >= MOST && !kept.keys.contains_key(key) {
            kept.all = kept.keys.drain().map(|(_, floor)| floor.until_ms).max().unwrap_or(0).max(kept.all);
        }
        let floor = kept.keys.entry(Arc::clone(key)).or_default();
        *floor = Floor { until_ms: until_ms.max(floor.until_ms), lifted: None };
        self.any.store(true, Ordering::Release);
    }

    /// Whether a floor stands for any key.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The server's clock was set: frames of before can't be compared with floors any more. None that was loaded by
    /// `until_ms`, by either clock, is admitted under a floor that stands.
    pub(crate) fn raise_all(&self, until_ms: u64) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut kept = self.lock();
        kept.keys.values_mut().for_each(|floor| floor.until_ms = until_ms.max(floor.until_ms));
        if kept.all > 0 {
            kept.all = until_ms.max(kept.all);
        }
    }

    /// Whether a frame that a read sent at `sent` found may be served: its load began at or after the key's floor.
    pub(crate) fn admits(&self, key: &str, header: &Header, sent: Tick) -> bool {
        if !self.any() {
            return true;
        }
        let mut kept = self.lock();
        self.sweep(&mut kept, sent);
        let floor = kept.keys.get(key).filter(|floor| floor.lifted.is_none_or(|lifted| sent <= lifted));
        let floor = floor.map_or(0, |floor| floor.until_ms).max(kept.all);
        header.created.saturating_sub(u64::from(header.load_ms)) >= floor
    }

    /// The floor of a key that has one of its own.
    pub(crate) fn of(&self, key: &str) -> Option<u64> {
        if !self.any() {
            return None;
        }
        self.lock().keys.get(key).filter(|floor| floor.lifted.is_none()).map(|floor| floor.until_ms)
    }

    /// Forgets the floor that a key had when a load or a change began that the far store took. One that was raised since
    /// speaks of what may be newer, and stays. Reads that were sent before `now` may bring what stood before, and meet it
    /// yet.
    pub(crate) fn lift(&self, key: &str, had: Option<u64>, now: Tick) {
        let Some(had) = had else { return };
        let mut kept = self.lock();
        if let Some(floor) = kept.keys.get_mut(key).filter(|floor| floor.until_ms == had) {
            floor.lifted.get_or_insert(now);
        }
        self.sweep(&mut kept, now);
    }

    /// Forgets, now and then, what was lifted so long ago that no read under way can tell.
    fn sweep(&self, kept: &mut Kept, now: Tick) {
        if now.since(kept.swept) < LINGERS {
            return;
        }
        kept.swept = now;
        kept.keys.retain(|_, floor| floor.lifted.is_none_or(|lifted| now.since(lifted) < LINGERS));
        if kept.keys.is_empty() && kept.all == 0 {
            self.any.store(false, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::ZERO + Duration::from_millis(ms)
    }

    fn loaded(from: u64, to: u64) -> Header {
        Header { created: to, load_ms: u32::try_from(to - from).unwrap(), ..Header::value() }
    }

    #[test]
    fn a_frame_loaded_before_the_floor_is_refused_until_a_newer_one_was_taken() {
        let floors = Floors::default();
        let key: Arc<str> = "k".into();
        assert!(floors.admits("k", &loaded(0, 1), at(5)));
        floors.raise(&key, 100);
        floors.raise(&key, 50);
        assert!(!floors.admits("k", &loaded(90, 120), at(5)), "its load began before");
        assert!(floors.admits("k", &loaded(100, 120), at(5)));
        assert!(floors.admits("other", &loaded(0, 1), at(5)));
        floors.lift("k", floors.of("k"), at(4));
        assert!(floors.admits("k", &loaded(0, 1), at(5)));
        assert!(!floors.admits("k", &loaded(0, 1), at(3)), "the read was under way as the floor was lifted");
        assert!(floors.any());
        assert!(floors.admits("k", &loaded(0, 1), at(4) + LINGERS * 2));
        assert!(!floors.any(), "nobody is under way that long");
    }

    #[test]
    fn what_began_before_a_floor_was_raised_does_not_lift_it() {
        let floors = Floors::default();
        let none = floors.of("k");
        floors.raise(&"k".into(), 100);
        let first = floors.of("k");
        floors.raise(&"k".into(), 120);
        for had in [none, first] {
            floors.lift("k", had, at(1));
            assert_eq!(floors.of("k"), Some(120));
        }
        floors.lift("k", Some(120), at(1));
        assert_eq!(floors.of("k"), None);
    }

    #[test]
    fn a_clock_that_was_set_raises_the_floors_that_stand_and_no_other() {
        let floors = Floors::default();
        floors.raise_all(900);
        assert!(floors.admits("k", &loaded(0, 1), at(5)));
        floors.raise(&"k".into(), 100);
        floors.raise_all(900);
        assert!(!floors.admits("k", &loaded(200, 210), at(5)), "by which clock?");
        assert!(floors.admits("k", &loaded(900, 910), at(5)));
        assert!(floors.admits("other", &loaded(0, 1), at(5)));
        floors.raise_all(50);
        assert!(!floors.admits("k", &loaded(200, 210), at(5)), "a floor never sinks");
    }

    #[test]
    fn too_many_keys_share_one_floor() {
        let floors = Floors::default();
        for n in 0..=MOST as u64 {
            floors.raise(&n.to_string().into(), n);
        }
        assert!(!floors.admits("never seen", &loaded(0, MOST as u64 - 2), at(5)));
        assert!(floors.admits("never seen", &loaded(MOST as u64, MOST as u64), at(5)));
    }
}
