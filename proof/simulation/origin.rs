//! The simulated database: a version for each key, so that every value read is exact evidence.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

/// The database.
#[derive(Debug)]
pub(crate) struct Origin {
    state: Mutex<State>,
    /// How long a read takes at most, in microseconds.
    load_us: u64,
}

#[derive(Debug)]
struct State {
    versions: Vec<u64>,
    rng: Rng,
    down: Option<Instant>,
    slow: Option<(Instant, Duration)>,
    /// When each version of a key was last read from here, in the simulation's time.
    read: HashMap<(u16, u64), u64>,
    reads: u64,
}

impl Origin {
    pub(crate) fn new(keys: u16, load_us: u64, rng: Rng) -> Self {
        let versions = vec![0; usize::from(keys)];
        let state = State { versions, rng, down: None, slow: None, read: HashMap::new(), reads: 0 };
        Self { state: Mutex::new(state), load_us }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answers with errors for `span`.
    pub(crate) fn fail(&self, span: Duration) {
        let end = Instant::now() + span;
        let mut state = self.state();
        state.down = state.down.max(Some(end));
    }

    /// It takes `longer` for `span`.
    pub(crate) fn slow(&self, span: Duration, longer: Duration) {
        self.state().slow = Some((Instant::now() + span, longer));
    }

    /// Changes a row; its new version.
    pub(crate) fn commit(&self, key: u16) -> u64 {
        let mut state = self.state();
        let version = &mut state.versions[usize::from(key)];
        *version += 1;
        *version
    }

    /// The version now, without any time passing.
    pub(crate) fn truth(&self, key: u16) -> u64 {
        self.state().versions[usize::from(key)]
    }

    /// Reads a row as a loader does.
    pub(crate) async fn read(&self, key: u16) -> Result<u64> {
        Ok(self.read_many(&[key]).await?.pop().unwrap_or_default())
    }

    /// Reads some rows, all at one moment between two waits.
    pub(crate) async fn read_many(&self, keys: &[u16]) -> Result<Vec<u64>> {
        let (before, after) = self.waits();
        sleep(before).await;
        let versions = {
            let mut state = self.state();
            state.reads += 1;
            if state.down.is_some_and(|end| Instant::now() < end) {
                return Err(Error::new(ErrorKind::Unavailable, "the database is down"));
            }
            keys.iter().map(|key| state.versions[usize::from(*key)]).collect()
        };
        sleep(after).await;
        Ok(versions)
    }

    fn waits(&self) -> (Duration, Duration) {
        let mut state = self.state();
        let longer = state.slow.filter(|(end, _)| Instant::now() < *end).map_or(Duration::ZERO, |(_, longer)| longer);
        let (before, after) = (state.rng.u64(..=self.load_us), state.rng.u64(..=self.load_us / 2));
        (Duration::from_micros(before), Duration::from_micros(after) + longer)
    }

    /// Notes that `version` of `key` was loaded by `now`.
    pub(crate) fn note_loaded(&self, key: u16, version: u64, now: u64) {
        let mut state = self.state();
        let last = state.read.entry((key, version)).or_insert(0);
        *last = now.max(*last);
    }

    /// When `version` of `key` was last loaded, if ever.
    pub(crate) fn last_loaded(&self, key: u16, version: u64) -> Option<u64> {
        self.state().read.get(&(key, version)).copied()
    }

    /// How often a row was asked for.
    pub(crate) fn reads(&self) -> u64 {
        self.state().reads
    }
}
