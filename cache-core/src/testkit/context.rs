//! What a case works with: the store, and keys of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Subject;
use super::wait::within;
use crate::{Atomic, Bus, BusEvent, CacheService, Leases, Line, Listener, LocalStore, Message, NodeId, Stamp, Sweep};

/// The store under test and a prefix that no other case has, so that cases can share one server.
#[derive(Clone, Debug)]
pub struct Context {
    subject: Subject,
    id: String,
    prefix: String,
}

impl Context {
    /// A context over `subject` with a fresh random prefix.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        let id = format!("{:016x}", Stamp::random().0);
        // the braces make a cluster keep all keys of a case in one slot
        Self { subject, prefix: format!("{{{id}}}:"), id }
    }

    /// 16 hex digits that stand in every key of this case.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What every key of this case begins with, except the [`scattered`](Self::scattered) ones.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The case's key called `name`; in a cluster all of them are in one slot.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The case's `i`-th key of a set that a cluster spreads over its slots.
    #[must_use]
    pub fn scattered(&self, i: usize) -> String {
        format!("{}:{i}", self.id)
    }

    /// The line of this case.
    #[must_use]
    pub fn line(&self) -> Line {
        self.line_called("")
    }

    /// Another line of this case.
    #[must_use]
    pub fn line_called(&self, name: &str) -> Line {
        let name = if name.is_empty() { String::new() } else { format!("{name}:") };
        Line {
            seq: self.key(&format!("{name}seq")),
            channel: self.key(&format!("{name}ch")),
            tags: self.key(&format!("{name}tags:")),
        }
    }

    /// The store under test.
    #[must_use]
    pub fn store(&self) -> &dyn CacheService {
        self.subject.store()
    }

    /// Another handle of the same data.
    #[must_use]
    pub fn second(&self) -> &dyn CacheService {
        self.subject.second()
    }

    /// The store under test, to be moved into a task.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn CacheService> {
        self.subject.shared()
    }

    /// The store's leases.
    ///
    /// # Panics
    /// If it has none: the case must say that it needs them.
    #[must_use]
    pub fn leases(&self) -> &dyn Leases {
        self.store().leases().expect("a case on leases needs them")
    }

    /// The store's bus.
    ///
    /// # Panics
    /// If it has none: the case must say that it needs it.
    #[must_use]
    pub fn bus(&self) -> &dyn Bus {
        self.store().bus().expect("a case on the bus needs it")
    }

    /// The store's atomic values.
    ///
    /// # Panics
    /// If it has none: the case must say that it needs them.
    #[must_use]
    pub fn atomic(&self) -> &dyn Atomic {
        self.store().atomic().expect("a case on atomic values needs them")
    }

    /// The store's sweep.
    ///
    /// # Panics
    /// If it has none: the case must say that it needs it.
    #[must_use]
    pub fn sweep(&self) -> &dyn Sweep {
        self.store().sweep().expect("a case on sweeping needs it")
    }

    /// An empty local store with `budget` bytes.
    ///
    /// # Panics
    /// If the subject makes none: the case must say that it needs it.
    #[must_use]
    pub fn local(&self, budget: u64) -> Arc<dyn LocalStore> {
        self.subject.local(budget)
    }

    pub(super) async fn get(&self, key: &str) -> Option<Bytes> {
        self.store().get(key).await.expect("get")
    }

    pub(super) async fn set(&self, key: &str, value: impl Into<Bytes> + Send, ttl: Duration) {
        self.store().set(key, value.into(), ttl).await.expect("set");
    }

    pub(super) async fn listen(&self, lines: &[Line]) -> Ear {
        Ear(within("subscribe", self.bus().subscribe(lines)).await.expect("subscribe"))
    }
}

/// A ttl that no case outlives.
pub(super) const LONG: Duration = Duration::from_secs(300);

/// The node that the cases speak as, and another.
pub(super) const ME: NodeId = NodeId(0x11);
pub(super) const OTHER: NodeId = NodeId(0x22);

/// A listener that knows what it waits for.
pub(super) struct Ear(pub(super) Box<dyn Listener>);

impl Ear {
    /// The next message, with the index of its line.
    pub(super) async fn message(&mut self) -> (usize, Message) {
        match within("a message on the bus", self.0.next()).await {
            Some(BusEvent::Message { line, payload }) => {
                let message = Message::parse(&payload);
                (line, message.unwrap_or_else(|| panic!("not a message: {:?}", payload.escape_ascii().to_string())))
            }
            other => panic!("expected a message, got {other:?}"),
        }
    }
}
