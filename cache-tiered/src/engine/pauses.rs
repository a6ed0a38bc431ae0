//! Keys whose last load failed or is late, and until when they are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{Error, Tick};

use crate::answer::StaleReason;

/// The most keys remembered; beyond it those are forgotten whose pause ends first, and may be tried again early.
const MOST: usize = 10_000;

/// The loads that failed in this process: one in a pause for each key, its error told to whoever asks meanwhile.
///
/// A pause counts from the failure. It ends early with a load that succeeds and with any change of the key.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    any: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pauses: BTreeMap<Arc<str>, Pause>,
    /// The same keys by the end of their pauses.
    ends: BTreeSet<(Tick, Arc<str>)>,
}

impl Kept {
    fn insert(&mut self, key: &Arc<str>, pause: Pause) {
        self.ends.insert((pause.end(), Arc::clone(key)));
        if let Some(before) = self.pauses.insert(Arc::clone(key), pause) {
            let end = before.end();
            // the same end is the same place
            if self.pauses.get(key).is_some_and(|pause| pause.end() != end) {
                self.ends.remove(&(end, Arc::clone(key)));
            }
        } else if self.pauses.len() > MOST
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.pauses.remove(&first);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, pause)) = self.pauses.remove_entry(key) {
            self.ends.remove(&(pause.end(), key));
        }
    }
}

#[derive(Debug)]
struct Pause {
    until: Tick,
    /// Until when it lasts where there is no fallback any more.
    alone: Tick,
    /// Failures in a row.
    failures: u32,
    why: Why,
}

impl Pause {
    fn end(&self) -> Tick {
        self.until.max(self.alone)
    }
}

/// How long a pause is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Where callers have no fallback.
    pub(crate) alone: Duration,
    /// Where they are served one.
    pub(crate) covered: Duration,
}

/// Why a key is left alone.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// Its load failed.
    Failed(Error),
    /// Its load is late, and goes on.
    Late,
}

impl Why {
    pub(crate) const fn reason(&self) -> StaleReason {
        match self {
            Self::Failed(_) => StaleReason::LoadFailed,
            Self::Late => StaleReason::SoftTimeout,
        }
    }
}

impl Pauses {
    /// Notes at `now` that the load of `key` failed; `span` is told how many failed in a row.
    pub(crate) fn failed(&self, key: &Arc<str>, now: Tick, error: Error, span: impl FnOnce(u32) -> Span) {
        let mut kept = self.lock();
        let before = kept.pauses.get(key).map_or(0, |pause| pause.failures);
        let failures = before.saturating_add(1);
        let Span { alone, covered } = span(failures);
        let pause = Pause { until: now + covered, alone: now + alone, failures, why: Why::Failed(error) };
        self.keep(&mut kept, key, pause);
    }

    /// Notes that `key` is left alone until `until`, unless it is for longer.
    pub(crate) fn rest(&self, key: &Arc<str>, until: Tick, why: Why) {
        let mut kept = self.lock();
        let before = kept.pauses.get(key);
        let (failures, alone, longer) =
            before.map_or((0, Tick::ZERO, false), |pause| (pause.failures, pause.alone, pause.until >= until));
        if !longer {
            self.keep(&mut kept, key, Pause { until, alone, failures, why });
        }
    }

    fn keep(&self, kept: &mut Kept, key: &Arc<str>, pause: Pause) {
        kept.insert(key, pause);
        self.any.store(true, Ordering::Release);
    }

    /// Why `key` is left alone at `now`, and for how long yet; `None` if it isn't.
    pub(crate) fn active(&self, key: &str, now: Tick) -> Option<(Why, Duration)> {
        self.told(key, now, true)
    }

    /// As [`active`](Self::active); whether callers are `covered` by a fallback decides how long the pause is.
    pub(crate) fn told(&self, key: &str, now: Tick, covered: bool) -> Option<(Why, Duration)> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let kept = self.lock();
        let pause = kept.pauses.get(key)?;
        let until = if covered { pause.until } else { pause.alone };
        (now < until).then(|| (pause.why.clone(), until.since(now)))
    }

    /// Forgets `key`: it was loaded or changed.
    pub(crate) fn clear(&self, key: &str) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut kept = self.lock();
        kept.remove(key);
        if kept.pauses.is_empty() {
            self.any.store(false, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cache_core::ErrorKind;

    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::ZERO + Duration::from_millis(ms)
    }

    fn fail(pauses: &Pauses, key: &str, now: Tick) {
        let error = Error::new(ErrorKind::Loader, "no");
        let span = |failures| Duration::from_millis(100) * failures;
        pauses.failed(&key.into(), now, error, |failures| Span { alone: span(failures) / 10, covered: span(failures) });
    }

    #[test]
    fn a_pause_counts_from_the_failure_and_grows_with_each_in_a_row() {
        let pauses = Pauses::default();
        assert!(pauses.active("k", at(0)).is_none());
        fail(&pauses, "k", at(1000));
        assert_eq!(pauses.active("k", at(1000)).map(|(_, left)| left.as_millis()), Some(100));
        assert!(pauses.active("k", at(1100)).is_none() && pauses.active("other", at(1000)).is_none());
        fail(&pauses, "k", at(5000));
        assert!(pauses.active("k", at(5199)).is_some() && pauses.active("k", at(5200)).is_none());
        pauses.clear("k");
        fail(&pauses, "k", at(6000));
        assert!(pauses.active("k", at(6100)).is_none(), "a success ends the row");
    }

    #[test]
    fn a_pause_is_shorter_for_those_without_a_fallback() {
        let pauses = Pauses::default();
        fail(&pauses, "k", at(1000));
        assert_eq!(pauses.told("k", at(1000), false).map(|(_, left)| left.as_millis()), Some(10));
        assert!(pauses.told("k", at(1010), false).is_none() && pauses.active("k", at(1010)).is_some());
        pauses.rest(&"other".into(), at(2000), Why::Late);
        assert!(pauses.told("other", at(1000), false).is_none(), "it was said of a fallback");
    }

    #[test]
    fn a_longer_pause_is_not_shortened_by_a_rest() {
        let pauses = Pauses::default();
        pauses.rest(&"k".into(), at(500), Why::Late);
        fail(&pauses, "k", at(0));
        assert!(pauses.active("k", at(99)).is_some_and(|(why, _)| why.reason() == StaleReason::LoadFailed));
        pauses.rest(&"k".into(), at(50), Why::Late);
        assert!(pauses.active("k", at(99)).is_some());
    }

    #[test]
    fn no_more_keys_are_remembered_than_fit() {
        let pauses = Pauses::default();
        for n in 0..=MOST {
            fail(&pauses, &format!("{n:06}"), at(0));
        }
        assert!(pauses.active(&format!("{MOST:06}"), at(1)).is_some());
        let kept = pauses.lock();
        assert_eq!((kept.pauses.len(), kept.ends.len()), (MOST, MOST));
    }

    #[test]
    fn a_pause_that_has_long_to_go_is_not_forgotten_for_one_that_ends() {
        let pauses = Pauses::default();
        // the first by their texts, and the last to end
        for key in ["a", "b", "c"] {
            pauses.rest(&key.into(), at(10), Why::Late);
            pauses.rest(&key.into(), at(60_000), Why::Late);
        }
        pauses.rest(&"d".into(), at(90_000), Why::Late);
        pauses.clear("d");
        for n in 0..2 * MOST as u64 {
            pauses.rest(&format!("k{n:06}").into(), at(1000 + n / 2), Why::Late);
        }
        for key in ["a", "b", "c"] {
            assert!(pauses.active(key, at(0)).is_some(), "{key} was forgotten");
        }
        assert!(pauses.active("k000000", at(0)).is_none(), "what ends first goes first");
        assert!(pauses.active(&format!("k{:06}", 2 * MOST - 1), at(0)).is_some());
        let kept = pauses.lock();
        assert_eq!((kept.pauses.len(), kept.ends.len()), (MOST, MOST));
        assert!(kept.pauses.iter().all(|(key, pause)| kept.ends.contains(&(pause.end(), Arc::clone(key)))));
    }
}
