//! Which keys are asked for most, by sampled near hits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The most keys that are counted.
const MOST: usize = 16_384;

/// Counts of sampled hits. When there is no room for another key, all counts are halved and those that come to nothing
/// forgotten, so that old heat fades.
#[derive(Debug)]
pub(crate) struct Heat {
    one_in: u32,
    counts: Mutex<HashMap<Box<str>, u32>>,
}

impl Heat {
    /// Samples one hit in `one_in`.
    pub(crate) fn new(one_in: u32) -> Self {
        Self { one_in, counts: Mutex::default() }
    }

    /// Maybe counts a hit.
    pub(crate) fn see(&self, near_key: &str) {
        if fastrand::u32(..self.one_in) == 0 {
            self.count(near_key);
        }
    }

    fn count(&self, near_key: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(near_key) {
            *count = count.saturating_add(1);
            return;
        }
        if counts.len() >= MOST {
            counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
        // all may be hot: then a new one has to wait until they have faded
        if counts.len() < MOST {
            counts.insert(near_key.into(), 1);
        }
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> HashMap<Box<str>, u32> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hit_often_is_hot_and_old_heat_fades() {
        let heat = Heat::new(1);
        for _ in 0..100 {
            heat.see("hot");
        }
        for n in 0..3 * MOST {
            heat.see(&n.to_string());
        }
        let counts = heat.counts();
        assert!(counts.len() <= MOST);
        let hot = counts.get("hot").copied().unwrap_or(0);
        assert!(hot > 1 && hot < 100, "{hot}");
        assert_eq!(counts.values().max(), Some(&hot));
    }

    #[test]
    fn hits_are_sampled() {
        let heat = Heat::new(100);
        for _ in 0..10_000 {
            heat.see("k");
        }
        assert!((20..500).contains(&heat.counts()["k"]), "{:?}", heat.counts());
    }
}
