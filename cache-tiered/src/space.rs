//! What the engine needs to know of a key space.

use std::fmt;
use std::sync::Arc;

use cache_core::Entry;

use crate::engine::Gate;
use crate::policy::Policy;

/// A key space as the engine sees it: how its entries live, and which entries are its own.
pub(crate) struct Space {
    pub(crate) policy: Policy,
    /// The most keys that one call of a batch loader is asked for.
    pub(crate) max_batch: usize,
    /// What stands before its loaders.
    pub(crate) origin: Option<Arc<Gate>>,
    /// Whether single loads are gathered into calls, which are admitted and counted where they are made.
    pub(crate) gathered: bool,
    /// Whether the space's codec reads the entry; decodes it on the way.
    pub(crate) accepts: Box<dyn Fn(&Entry) -> bool + Send + Sync>,
}

impl Space {
    /// The same space under another policy.
    pub(crate) fn under(self: &Arc<Self>, policy: Policy) -> Arc<Self> {
        let whole = Arc::clone(self);
        Arc::new(Self {
            policy,
            max_batch: self.max_batch,
            origin: self.origin.clone(),
            gathered: self.gathered,
            accepts: Box::new(move |entry| (whole.accepts)(entry)),
        })
    }

    /// The same space for callers whose single loads are gathered.
    pub(crate) fn gathered(self: &Arc<Self>) -> Arc<Self> {
        let whole = Arc::clone(self);
        Arc::new(Self {
            policy: self.policy.clone(),
            max_batch: self.max_batch,
            origin: self.origin.clone(),
            gathered: true,
            accepts: Box::new(move |entry| (whole.accepts)(entry)),
        })
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("policy", &self.policy).finish_non_exhaustive()
    }
}
