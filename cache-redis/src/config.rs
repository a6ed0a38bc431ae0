//! What a connection needs to know, checked and complete.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{DEFAULT_MAX_VALUE, Result};
use tokio_rustls::TlsConnector;

use crate::{Redis, RedisBuilder, Tracking};

/// A complete, checked configuration; what [`RedisBuilder::build`] returns.
///
/// Its `Debug` shows every setting except secrets, which read `set` or `not set`.
#[derive(Clone)]
pub struct Config {
    /// The server, or the first sentinel or node that is asked where the servers are.
    pub(crate) endpoint: Endpoint,
    pub(crate) topology: Topology,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) db: u32,
    pub(crate) tls: Option<Tls>,
    pub(crate) knobs: Knobs,
}

impl Config {
    /// The same for a single server at `endpoint`.
    pub(crate) fn at(&self, endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone(), topology: Topology::Single, ..self.clone() }
    }

    /// The server's name in errors.
    pub(crate) fn place(&self) -> String {
        match &self.topology {
            Topology::Single | Topology::Cluster(_) => self.endpoint.to_string(),
            Topology::Sentinel(_) => "the primary that the sentinels name".to_owned(),
        }
    }

    /// Connects; as [`RedisBuilder::connect`].
    ///
    /// # Errors
    /// `Unavailable` if nothing answers, `Denied` if the credentials are wrong, `Config` if the server is not fit.
    pub async fn connect(&self) -> Result<Redis> {
        Redis::open(self.clone()).await
    }

    /// A builder without any setting.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One server at the endpoint.
    Single,
    /// The primary that sentinels name.
    Sentinel(Sentinels),
    /// The nodes of the cluster that these are of.
    Cluster(Vec<Endpoint>),
}

/// Whom to ask for which primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentinels {
    pub(crate) endpoints: Vec<Endpoint>,
    /// The name that the sentinels know the primary by.
    pub(crate) master: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

/// TLS, ready to connect.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    /// The name that certificates must have; the host's of each server if not set.
    pub(crate) server_name: Option<rustls_pki_types::ServerName<'static>>,
    pub(crate) verified: bool,
    pub(crate) client_cert: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connector: _, server_name, verified, client_cert } = self;
        f.debug_struct("Tls")
            .field("server_name", server_name)
            .field("verified", verified)
            .field("client_cert", client_cert)
            .finish()
    }
}

/// The wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// RESP3, and RESP2 if the server refuses it.
    Auto,
    Resp2,
    Resp3,
}

/// The numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Knobs {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) rebuild_after: u32,
    pub(crate) keepalive: Duration,
    pub(crate) user_timeout: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) connections: usize,
    pub(crate) max_value: usize,
    pub(crate) protocol: Protocol,
    pub(crate) tracking: Tracking,
    pub(crate) client_name: Option<Arc<str>>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            grace: Duration::from_millis(100),
            heartbeat: Duration::from_secs(1),
            rebuild_after: 3,
            keepalive: Duration::from_secs(10),
            user_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            connections: 1,
            max_value: DEFAULT_MAX_VALUE,
            protocol: Protocol::Auto,
            tracking: Tracking::Off,
            client_name: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, topology, username, password, db, tls, knobs } = self;
        f.debug_struct("Config")
            .field("endpoint", &endpoint.to_string())
            .field("topology", topology)
            .field("username", username)
            .field("password", if password.is_some() { &"set" } else { &"not set" })
            .field("db", db)
            .field("tls", tls)
            .field("knobs", knobs)
            .finish()
    }
}
