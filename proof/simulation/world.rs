//! What all processes share, and what was seen of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::Memory;
use cache_core::testkit::history::Op;
use tokio::sync::OwnedMutexGuard;

use crate::origin::Origin;
use crate::plan::Plan;
use crate::time::{Era, Wall};

/// What holds for a read or an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Proof {
    /// The bound: what was acknowledged that long ago is seen.
    Bound,
    /// No bound: a read that asks the far store, an acknowledgement that holds there at once.
    Now,
    /// A bound of the call's own.
    Within(std::time::Duration),
    /// An acknowledgement that binds its own process alone.
    Own,
}

/// Something that ended without error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) process: u32,
    pub(crate) op: Op,
    pub(crate) key: u16,
    pub(crate) version: u64,
    pub(crate) begun: u64,
    pub(crate) proof: Proof,
    /// A read that was marked as past its time, or an acknowledgement that lets such reads be.
    pub(crate) soft: bool,
}

/// A note and when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) note: Note,
    pub(crate) ended: u64,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { process, op, key, version, begun, proof, soft } = self.note;
        let (begun, ended) = (begun as f64 / 1e6, self.ended as f64 / 1e6);
        let soft = if soft { " soft" } else { "" };
        write!(
            f,
            "{begun:>16.6} {ended:>16.6} ms process {process} key {key} version {version:>6} {op:?} {proof:?}{soft}"
        )
    }
}

/// A read-modify-write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swap {
    pub(crate) key: u16,
    /// What it was given; each value is made once.
    pub(crate) seen: Option<u64>,
    pub(crate) ended: u64,
}

/// A change of servers: from the moment on from which the new one lacks what the old one did, to the moment when the
/// last process had left the old one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failover {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) notes: Vec<Noted>,
    pub(crate) swaps: Vec<Swap>,
    pub(crate) failovers: Vec<Failover>,
    /// When processes were killed.
    pub(crate) deaths: BTreeMap<u32, u64>,
    /// Versions whose put was not acknowledged, or not yet: it may land at any time.
    pub(crate) loose: BTreeSet<(u16, u64)>,
    /// By row, the last version that was committed, and who has not had it acknowledged to have told the others.
    pub(crate) untold: BTreeMap<u16, (u64, u32)>,
}

/// What all processes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) era: Era,
    pub(crate) wall: Wall,
    pub(crate) origin: Origin,
    server: Mutex<Memory>,
    rows: Vec<Arc<tokio::sync::Mutex<()>>>,
    seen: Mutex<Seen>,
    ids: AtomicU32,
    made: AtomicU64,
}

impl World {
    pub(crate) fn new(plan: Plan, server: Memory, wall: Wall, origin: Origin) -> Self {
        Self {
            rows: (0..plan.keys()).map(|_| Arc::default()).collect(),
            era: Era::begin(),
            server: Mutex::new(server),
            wall,
            origin,
            seen: Mutex::default(),
            ids: AtomicU32::new(0),
            made: AtomicU64::new(0),
            plan,
        }
    }

    /// The server that new processes and new faults meet.
    pub(crate) fn server(&self) -> Memory {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn promote(&self, server: Memory) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, note: Note) {
        self.note_at(note, self.era.stamp());
    }

    pub(crate) fn note_at(&self, note: Note, ended: u64) {
        let mut seen = self.seen();
        if note.op == Op::Acknowledged
            && seen.untold.get(&note.key).is_some_and(|(version, _)| *version <= note.version)
        {
            seen.untold.remove(&note.key);
        }
        seen.notes.push(Noted { note, ended });
    }

    /// Commits a change of a row by `process`, which is to tell the others.
    pub(crate) fn commit(&self, key: u16, process: u32) -> u64 {
        let version = self.origin.commit(key);
        self.seen().untold.insert(key, (version, process));
        version
    }

    /// Locks those of the rows that are written by puts, as a transaction does: a put's version is the last one when
    /// it is sent.
    pub(crate) async fn lock(&self, keys: &[u16]) -> Vec<OwnedMutexGuard<()>> {
        let mut held = Vec::new();
        for key in keys.iter().filter(|key| self.plan.is_put(**key)) {
            held.push(Arc::clone(&self.rows[usize::from(*key)]).lock_owned().await);
        }
        held
    }

    /// Changes a row whose new version is about to be put.
    pub(crate) fn commit_loose(&self, key: u16) -> u64 {
        let version = self.origin.commit(key);
        self.seen().loose.insert((key, version));
        version
    }

    /// The put of a version came to its end, or will never be.
    pub(crate) fn tighten(&self, key: u16, version: u64) {
        self.origin.note_loaded(key, version, self.era.stamp());
        self.seen().loose.remove(&(key, version));
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A value that was never made before.
    pub(crate) fn make(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed) + 1
    }
}
