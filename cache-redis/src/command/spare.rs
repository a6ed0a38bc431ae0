//! Connections that one user has for itself, kept for the next.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use cache_core::Result;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::config::Endpoint;
use crate::connect::{Connector, Failure, Fresh};

/// The most connections that wait for a user: more transactions at once than this connect anew each time.
const IDLE: usize = 32;

/// Idle connections.
#[derive(Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Fresh>>>);

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spare")
    }
}

impl Spare {
    /// A connection to the connector's server; made if none is idle.
    pub(super) async fn take(&self, connector: &Connector, endpoint: Option<&Endpoint>) -> Result<Own> {
        let idle = {
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|fresh| !fresh.driver.is_finished());
            let fits = |fresh: &Fresh| endpoint.is_none_or(|endpoint| fresh.place.endpoint == *endpoint);
            idle.iter().position(fits).map(|at| idle.swap_remove(at))
        };
        let fresh = match idle {
            Some(fresh) => fresh,
            None => connector.connect(&Arc::new(AtomicUsize::new(0)), None).await?,
        };
        Ok(Own { fresh: Some(fresh), home: Arc::clone(&self.0) })
    }

    /// Closes every idle connection: the server may have changed its mind about who it is.
    pub(super) fn clear(&self) {
        for fresh in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            fresh.driver.abort();
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A connection for one user. Dropped, it is closed, and the server forgets what it watched.
pub(super) struct Own {
    fresh: Option<Fresh>,
    home: Arc<Mutex<Vec<Fresh>>>,
}

impl Own {
    /// The connection, to send on.
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        self.fresh.as_ref().map(|fresh| fresh.connection.clone())
    }

    /// Keeps it for the next: nothing is watched and nothing is under way.
    pub(super) fn give_back(mut self) {
        let Some(fresh) = self.fresh.take() else { return };
        let mut idle = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(fresh);
        } else {
            fresh.driver.abort();
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(fresh) = self.fresh.take() {
            fresh.driver.abort();
        }
    }
}

/// Sends on a connection of one's own, within `span`.
pub(super) async fn send(
    connection: Option<MultiplexedConnection>,
    pipe: &redis::Pipeline,
    span: std::time::Duration,
) -> Result<Vec<Value>, Failure> {
    let Some(mut connection) = connection else { return Err(Failure::Late) };
    match timeout(span, pipe.query_async(&mut connection)).await {
        Ok(Ok(Value::Array(replies))) => Ok(replies),
        Ok(Ok(reply)) => Ok(vec![reply]),
        Ok(Err(cause)) => Err(Failure::Driver(cause)),
        Err(_) => Err(Failure::Late),
    }
}
