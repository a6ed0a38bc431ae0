//! The engine: one near store, one far store, or both, and the protocol between them.
//!
//! It moves entries and bytes and knows nothing of value types. A get goes: [`probe`](Engine::probe) the near store
//! (no future, no lock); else board a flight; the flight reads the far store, takes the lease, loads, fills, installs.

mod admit;
mod batch;
mod behind;
mod change;
mod close;
mod driver;
mod due;
mod fallback;
mod far;
mod floors;
mod fresh;
mod guard;
mod heat;
mod install;
#[cfg(all(test, strata_interleave))]
mod interleavings;
mod load;
mod monitor;
mod names;
mod near;
mod origin;
mod pauses;
mod put;
mod read;
mod recovery;
mod setup;
mod time;
mod trust;
mod update;
mod work;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cache_core::observe::Counters;
use cache_core::{Clock, LocalStore, NodeId};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::coherence::{Ring, Track, View};
use crate::flight::Flights;
use crate::policy::Around;
use crate::sync::Mutex;

pub(crate) use self::batch::{Entries, FarNames, Payloads, join_all};
use self::behind::Behind;
pub(crate) use self::far::Far;
use self::floors::Floors;
use self::guard::Holds;
use self::monitor::Monitor;
pub(crate) use self::names::{Names, Where, check_name};
pub(crate) use self::near::{Look, Probe};
pub(crate) use self::origin::Gate;
use self::origin::Gates;
use self::pauses::Pauses;
pub(crate) use self::put::refused;
pub(crate) use self::recovery::Recovery;
pub(crate) use self::setup::Setup;
use self::time::ServerTime;
pub(crate) use self::update::Wish;
use self::work::{Shift, Work};

/// The numbers that steer an engine.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// D: while connected, nothing invalidated longer ago is served.
    pub(crate) bound: Duration,
    /// D_out: how long an unconfirmed entry may be served while cut off.
    pub(crate) outage: Duration,
    /// The longest ttl in the namespace: tag generations are kept for two such periods.
    pub(crate) max_ttl: Duration,
    /// How long a lease lasts; renewed at a third.
    pub(crate) lease: Duration,
    /// The longest near ttl where no invalidation can be heard; `None` with a coherent far store.
    pub(crate) incoherent: Option<Duration>,
    /// Nothing is subscribed to: beats alone tell of changes.
    pub(crate) polling: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bound: Duration::from_secs(2),
            outage: Duration::from_secs(30),
            max_ttl: Duration::from_secs(7 * 24 * 3600),
            lease: Duration::from_secs(5),
            incoherent: None,
            polling: false,
        }
    }
}

/// One line of changes: what near hits read, and the state behind it.
#[derive(Debug)]
pub(crate) struct LineState {
    pub(crate) view: View,
    pub(crate) track: Mutex<Track>,
    pub(crate) names: cache_core::Line,
    /// Rung to ask for a beat now.
    pub(crate) beat: Notify,
    /// Rung when trust was renewed or an outage began.
    pub(crate) verdict: Notify,
    pub(crate) ring: Mutex<Ring<recovery::Told>>,
    pub(crate) recovery: Mutex<Recovery>,
}

/// The state of a tiered cache.
pub(crate) struct Engine {
    pub(crate) near: Option<Arc<dyn LocalStore>>,
    pub(crate) far: Option<Far>,
    pub(crate) names: Names,
    pub(crate) lines: Box<[LineState]>,
    pub(crate) flights: Flights,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) time: ServerTime,
    pub(crate) floors: Floors,
    pub(crate) holds: Holds,
    pub(crate) pauses: Pauses,
    pub(crate) gates: Gates,
    /// Makes compare-and-put one step where there is only a near store.
    pub(crate) near_writes: Mutex<()>,
    pub(crate) counters: Counters,
    pub(crate) monitor: Option<Monitor>,
    /// Writes that nobody waits for, where they are on.
    pub(crate) behind: Option<Behind>,
    pub(crate) node: NodeId,
    pub(crate) tasks: Mutex<JoinSet<()>>,
    pub(crate) work: Arc<Work>,
}

impl Engine {
    pub(crate) fn line(&self, at: &Where) -> &LineState {
        &self.lines[at.line]
    }

    /// What a policy has to agree with.
    pub(crate) fn around(&self) -> Around {
        Around {
            max_ttl: self.options.max_ttl,
            near_cap: self.options.incoherent,
            near_budget: self.near.as_ref().map(|near| near.budget()),
        }
    }

    /// How many invalidations wait to be acknowledged.
    pub(crate) fn pending(&self) -> usize {
        self.lines.iter().map(|line| line.recovery.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("near", &self.near)
            .field("far", &self.far)
            .field("names", &self.names)
            .field("options", &self.options)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
