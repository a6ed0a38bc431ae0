//! What has to be done about an entry while it is served.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{Entry, Tick};

use super::Engine;
use crate::loaded::Loader;
use crate::policy::{Life, Verdict};
use crate::space::Space;

impl Engine {
    /// Does what is due about a near entry that was hit. Says whether the caller is to refresh it: the one of all hits
    /// that `loads`.
    #[cold]
    pub(crate) fn due(self: &Arc<Self>, _near_key: &str, entry: &Arc<Entry>, space: &Arc<Space>, loads: bool) -> bool {
        let now = self.clock.now();
        let verdict = space.policy.decide(&self.life(entry, now), now, 1.0 - fastrand::f64());
        verdict == Verdict::Refresh && loads
    }

    /// Loads an entry again in the background.
    pub(crate) fn refresh(
        self: &Arc<Self>,
        _near_key: String,
        _entry: Arc<Entry>,
        _space: &Arc<Space>,
        _loader: Loader,
    ) {
    }

    /// The times of an entry.
    pub(crate) fn life(&self, entry: &Entry, now: Tick) -> Life {
        let header = entry.header();
        Life {
            ttl: Duration::from_millis(header.soft_exp.saturating_sub(header.created)),
            ends: now + self.time.left(&self.clock, now, header.soft_exp),
            deadline: entry.deadline(),
            kept: entry.kept(),
            load: Duration::from_millis(header.load_ms.into()),
        }
    }
}
