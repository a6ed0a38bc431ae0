//! What the controller tells a node.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The environment variable that carries the settings as JSON.
pub(crate) const VARIABLE: &str = "STRATA_NODE";

/// How a node runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) process: u16,
    /// How many there are.
    pub(crate) nodes: u16,
    pub(crate) far: String,
    pub(crate) origin: String,
    pub(crate) buckets: usize,
    pub(crate) bound_ms: u64,
    pub(crate) outage_ms: u64,
    pub(crate) seconds: f64,
    /// The end of the run, in which nobody writes.
    pub(crate) tail: f64,
    pub(crate) hot: u16,
    pub(crate) sparse: u16,
    pub(crate) readers: u32,
    pub(crate) seed: u64,
    /// The longest pause of a loader before and after it reads the origin.
    pub(crate) slow_ms: u64,
    /// The longest time after which an answer of the far store is taken up.
    pub(crate) late_ms: u64,
    /// Whether the controller says what happens to the connection with the far store, because no proxy stands there.
    pub(crate) harmed: bool,
    /// Whether tags are bumped.
    pub(crate) tags: bool,
    pub(crate) mutation: Option<String>,
    pub(crate) records: PathBuf,
}

impl Settings {
    pub(crate) fn bound(&self) -> Duration {
        Duration::from_millis(self.bound_ms)
    }

    pub(crate) fn outage(&self) -> Duration {
        Duration::from_millis(self.outage_ms)
    }

    pub(crate) fn keys(&self) -> u16 {
        self.hot + self.sparse
    }
}
