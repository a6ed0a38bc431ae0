//! Where the server is: the one place that a topology changes.

use cache_core::Result;

use crate::config::Endpoint;

/// The decision which server a connection goes to, asked anew before every attempt.
///
/// A single server answers always the same; a sentinel's answer is the current primary, a cluster's the owner of
/// slots.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Fixed(Endpoint),
}

impl Target {
    /// The address to connect to now.
    #[expect(clippy::unused_async, reason = "other targets ask a server")]
    pub(crate) async fn resolve(&self) -> Result<Endpoint> {
        match self {
            Self::Fixed(endpoint) => Ok(endpoint.clone()),
        }
    }
}
