//! Where the server is: the one place that a topology changes.

use std::sync::Arc;

use cache_core::{ErrorKind, Reply, Result};
use tokio::time::Instant;

use super::sentinel::Watchers;
use super::switch::Switches;
use crate::config::{Config, Endpoint, Topology};
use crate::error;

/// The decision which server a connection goes to, asked anew before every attempt.
///
/// A single server answers always the same; a sentinel's answer is the current primary.
#[derive(Debug)]
pub(crate) enum Target {
    Fixed(Endpoint),
    Sentinel(Arc<Watchers>, Switches),
}

impl Target {
    /// Needs a runtime: sentinels are listened to.
    pub(crate) fn of(config: &Config) -> Self {
        match &config.topology {
            Topology::Single | Topology::Cluster(_) => Self::Fixed(config.endpoint.clone()),
            Topology::Sentinel(sentinels) => {
                let watchers = Arc::new(Watchers::new(sentinels.clone()));
                Self::Sentinel(Arc::clone(&watchers), Switches::listen(watchers, config.clone()))
            }
        }
    }

    /// The address to connect to now.
    pub(crate) async fn resolve(&self, config: &Config) -> Result<Endpoint> {
        match self {
            Self::Fixed(endpoint) => Ok(endpoint.clone()),
            Self::Sentinel(watchers, _) => watchers.primary(config).await,
        }
    }

    /// Refuses a server that is not what the target stands for, by its `INFO replication`. A sentinel names the old
    /// primary until it has seen it fail, and a server that was primary may be a replica by now. Without the
    /// permission to ask, the sentinel is believed.
    pub(crate) fn check(&self, replication: &str) -> Result<()> {
        let role = replication.lines().find_map(|line| line.strip_prefix("role:"));
        match (self, role.map(str::trim)) {
            (Self::Sentinel(..), Some(role)) if role != "master" => {
                let text = "the server that the sentinels name as primary is a replica; a failover may be under way";
                Err(error::fault(ErrorKind::Unavailable, text).with_reply(Reply::ReadOnly))
            }
            _ => Ok(()),
        }
    }

    /// Whether [`check`](Self::check) has to be asked at all.
    pub(crate) fn is_checked(&self) -> bool {
        matches!(self, Self::Sentinel(..))
    }

    /// Ends when the target is known to have left the server at `endpoint`, which it named at `since`; pending if not.
    pub(crate) async fn left(&self, endpoint: &Endpoint, since: Instant) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Sentinel(_, switches) => switches.replaced(endpoint, since).await,
        }
    }
}
