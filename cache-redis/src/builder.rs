//! Settings from a url, the environment and code; every mistake in one error.

mod options;
mod place;
mod source;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cache_core::Result;

use crate::config::{Config, Endpoint, Knobs, Protocol, Secret};
use crate::tls::{Pem, Settings};
use crate::{Redis, Tracking, error};

/// Settings for a [`Redis`].
///
/// No setter fails; [`build`](Self::build) and [`connect`](Self::connect) report every mistake in one error. A later
/// setting replaces an earlier one, wherever it came from.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `timeout` | the deadline of every call; of each request where a call of many keys takes several | 500 ms |
/// | `connect_timeout` | the deadline of every attempt to connect | 1 s |
/// | `max_value` | the largest value, in bytes | 1 MiB |
/// | `connections` | connections for small commands, used in turn | 1 |
/// | `protocol` | `auto` (RESP3, else RESP2), `resp3` or `resp2` | `auto` |
/// | `tracking` | `bcast` or `reads` to hear of writes by other programs too, see [`Tracking`]; or `off` | `off` |
/// | `client_name` | the connections' name in `CLIENT LIST` | none |
/// | `heartbeat` | the silence after which the server is asked for a sign of life | 1 s |
/// | `rebuild_after` | unanswered calls in a row after which a connection is rebuilt | 3 |
/// | `grace` | how long a call waits for a connection that was just lost | 100 ms |
/// | `backoff_min`, `backoff_max` | the wait between attempts to reconnect, doubled each time, with jitter | 20 ms, 1 s |
/// | `keepalive` | idle time before TCP probes; 0 is off | 10 s |
/// | `user_timeout` | how long sent data may stay unacknowledged (Linux); 0 is off | 5 s |
/// | `sentinels` | the sentinels to ask for the primary, as `host:port,host:port` | none |
/// | `master` | the name that the sentinels know the primary by | none |
/// | `sentinel_username`, `sentinel_password` | the login at the sentinels | none |
/// | `cluster` | whether the server is a node of a cluster; needs Redis 7 or Valkey | `false` |
/// | `ca` | a file of trusted certificates, pem | the system's |
/// | `cert`, `key` | files of the client's certificate and key, pem | none |
/// | `server_name` | the name that the servers' certificates must have | each one's host |
/// | `verify` | whether the server's certificate is checked | `true` |
///
/// The names that other clients have are taken in urls too: `pool_size` or `max_connections` for `connections`,
/// `command_timeout`, `response_timeout`, `socket_timeout` or `read_timeout` for `timeout`, `connection_timeout`,
/// `socket_connect_timeout` or `dial_timeout` for `connect_timeout`, `keep_alive`, `database`, `max_retry_delay` for `backoff_max`.
///
/// Each option is a setter here, a parameter of the url (`redis://host/0?timeout=200ms`) and an environment variable
/// (`REDIS_TIMEOUT=200ms`). Times are written `250ms`, `2s` or `1m`; sizes `4096`, `64k` or `2m`.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until built"]
pub struct RedisBuilder {
    host: Option<String>,
    port: Option<u16>,
    unix: Option<PathBuf>,
    cluster: bool,
    /// The nodes of a cluster that a url named.
    nodes: Vec<Endpoint>,
    sentinels: Vec<Endpoint>,
    master: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    db: Option<u32>,
    tls: Option<bool>,
    settings: Settings,
    knobs: Knobs,
    faults: Vec<String>,
}

impl RedisBuilder {
    /// Takes everything that `url` says; what it doesn't say stays.
    ///
    /// Forms: `redis://[[user]:password@]host[:port][/db][?option=value&...]`, `rediss://` for TLS,
    /// `redis+unix:///path/to/socket[?db=0&...]` or `unix://`,
    /// `redis+sentinel://[[user]:password@]host[:port],host[:port]/master[/db][?...]`, `rediss+sentinel://` for TLS.
    /// `redis+cluster://[[user]:password@]host[:port],host[:port][?...]`, `rediss+cluster://` for TLS.
    /// `valkey` instead of `redis` means the same. The login is the servers'; the sentinels' own is an option.
    /// Special characters in user and password are percent-encoded.
    pub fn url(mut self, url: impl AsRef<str>) -> Self {
        source::url(&mut self, url.as_ref());
        self
    }

    /// Takes `REDIS_URL`, then `REDIS_HOST`, `REDIS_PORT`, `REDIS_SOCKET`, `REDIS_USERNAME`, `REDIS_PASSWORD`,
    /// `REDIS_DB`, `REDIS_TLS` and every option as `REDIS_<OPTION>`; what is not set or empty stays.
    /// A `REDIS_PORT` of the form `tcp://...`, which Kubernetes sets for a service named `redis`, is passed over.
    pub fn env(mut self) -> Self {
        source::env(&mut self, |name| std::env::var_os(name));
        self
    }

    /// The server's host name or address. Default `localhost`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self.unix = None;
        self.nodes.clear();
        self
    }

    /// The server's port. Default 6379.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The path of the server's unix socket, instead of host and port.
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix = Some(path.into());
        self
    }

    /// Takes the server for one node of a cluster; the others are found through it. Needs Redis 7 or Valkey.
    ///
    /// Every key, and every line of changes, goes to the node that owns its slot. Keys of one atomic call must share a
    /// slot, which a hash tag gives them: a tiered cache needs more than one bucket. Batches are parted by slot.
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// The sentinels to ask for the primary, as `host` or `host:port` (default 26379); needs [`master`](Self::master).
    ///
    /// They are asked anew before every attempt to connect, in turn; a server that is no primary is refused.
    pub fn sentinels<S: AsRef<str>>(mut self, sentinels: impl IntoIterator<Item = S>) -> Self {
        let list: Vec<S> = sentinels.into_iter().collect();
        match place::list(list.iter().map(AsRef::as_ref), place::SENTINEL) {
            Ok(list) => self.sentinels = list,
            Err(form) => self.faults.push(format!("sentinels {form}")),
        }
        self
    }

    /// The name that the sentinels know the primary by.
    pub fn master(mut self, name: impl Into<String>) -> Self {
        self.master = Some(name.into());
        self
    }

    /// The user name at the sentinels; needs a password. Default none.
    pub fn sentinel_username(mut self, username: impl Into<String>) -> Self {
        self.sentinel_username = Some(username.into());
        self
    }

    /// The password at the sentinels, which may differ from the servers'. Never shown. Default none.
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.sentinel_password = Some(Secret(password.into()));
        self
    }

    /// The user name of an ACL user; needs a password.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password. Never shown.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret(password.into()));
        self
    }

    /// The database's number. Default 0.
    pub fn db(mut self, db: u32) -> Self {
        self.db = Some(db);
        self
    }

    /// Whether to speak TLS. Default no.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A pem file of the certificates to trust, instead of the system's.
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.ca = Some(Pem::File(path.into()));
        self
    }

    /// The certificates to trust as pem text, instead of the system's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.ca = Some(Pem::Text(pem.into()));
        self
    }

    /// Pem files of the client's certificate chain and private key.
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.settings.cert = Some(Pem::File(cert.into()));
        self.settings.key = Some(Pem::File(key.into()));
        self
    }

    /// The client's certificate chain and private key as pem text.
    pub fn identity_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.settings.cert = Some(Pem::Text(cert.into()));
        self.settings.key = Some(Pem::Text(key.into()));
        self
    }

    /// The name that the server's certificate must have, sent as SNI; the host's if not set.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.settings.server_name = Some(name.into());
        self
    }

    /// Whether the server's certificate is checked. Without the check anybody on the way can read and change
    /// everything, the password included. Default yes.
    pub fn verify(mut self, verify: bool) -> Self {
        self.settings.verify = Some(verify);
        self
    }

    /// The deadline of every call. Default 500 ms. A call of many keys is made of several requests, of which a few are
    /// under way at once; the deadline is each one's own, from when it is sent, and the first that misses it ends the call.
    pub fn timeout(mut self, span: Duration) -> Self {
        self.knobs.timeout = span;
        self
    }

    /// The deadline of every attempt to connect. Default 1 s.
    pub fn connect_timeout(mut self, span: Duration) -> Self {
        self.knobs.connect_timeout = span;
        self
    }

    /// The largest value in bytes. Default 1 MiB.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.knobs.max_value = bytes;
        self
    }

    /// How many connections small commands use in turn. Default 1.
    pub fn connections(mut self, count: usize) -> Self {
        self.knobs.connections = count;
        self
    }

    /// Speaks RESP2 from the start, without trying RESP3.
    pub fn resp2(mut self) -> Self {
        self.knobs.protocol = Protocol::Resp2;
        self
    }

    /// Whether subscriptions hear of writes by programs that publish nothing. Default [`Tracking::Off`].
    ///
    /// Takes RESP3; a server that can't do it is refused at connect with a `Config` error.
    pub fn tracking(mut self, tracking: Tracking) -> Self {
        self.knobs.tracking = tracking;
        self
    }

    /// The connections' name in `CLIENT LIST`. Default none.
    pub fn client_name(mut self, name: impl AsRef<str>) -> Self {
        self.knobs.client_name = Some(name.as_ref().into());
        self
    }

    /// The silence after which the server is asked for a sign of life. Default 1 s. It is asked at once when a call got no
    /// reply in time.
    pub fn heartbeat(mut self, span: Duration) -> Self {
        self.knobs.heartbeat = span;
        self
    }

    /// How many unanswered calls in a row make a connection be rebuilt, those that ask for a sign of life included; calls
    /// that waited at the same time count as one. Default 3.
    pub fn rebuild_after(mut self, count: u32) -> Self {
        self.knobs.rebuild_after = count;
        self
    }

    /// How long a call waits for a connection that was just lost before it fails with `Unavailable`, and for a server that
    /// left a call without a reply, and from which nothing was heard since. Default 100 ms.
    ///
    /// So a server that hangs costs one deadline: until it shows a sign of life no further call is sent to it. In a cluster
    /// the calls of other servers are not held up, and the error is one [of a part](cache_core::Error::is_of_part).
    pub fn grace(mut self, span: Duration) -> Self {
        self.knobs.grace = span;
        self
    }

    /// The shortest and the longest wait between attempts to reconnect. Default 20 ms and 1 s.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.knobs.backoff_min = min;
        self.knobs.backoff_max = max;
        self
    }

    /// The idle time before TCP probes the peer; zero is off. Default 10 s.
    pub fn keepalive(mut self, span: Duration) -> Self {
        self.knobs.keepalive = span;
        self
    }

    /// How long sent data may stay unacknowledged before the connection is given up (Linux); zero is off.
    /// Default 5 s.
    pub fn user_timeout(mut self, span: Duration) -> Self {
        self.knobs.user_timeout = span;
        self
    }

    /// Checks everything and reads the TLS files; no network.
    ///
    /// # Errors
    /// `Config`, naming every mistake.
    pub fn build(&self) -> Result<Config> {
        let mut faults = self.faults.clone();
        options::check(&self.knobs, &mut faults);
        let tls = self.tls.unwrap_or(false);
        let (endpoint, topology) = place::find(self, tls, &mut faults);
        if self.username.is_some() && self.password.is_none() {
            faults.push("username is set without password; set both".to_owned());
        }
        let hosts = place::hosts(&endpoint, &topology);
        let tls = if tls && !hosts.is_empty() {
            self.settings.build(&hosts, &mut faults)
        } else {
            if !self.settings.is_empty() && !tls {
                let text = "ca, cert, key, server_name or verify is set without tls; use rediss:// or set tls";
                faults.push(text.to_owned());
            }
            None
        };
        if !faults.is_empty() {
            return Err(error::config(faults.join("; ")));
        }
        Ok(Config {
            endpoint,
            topology,
            username: self.username.clone(),
            password: self.password.clone(),
            db: self.db.unwrap_or(0),
            tls,
            knobs: self.knobs.clone(),
        })
    }

    /// Checks everything and connects once; after that the connections are kept up in the background for ever.
    ///
    /// # Errors
    /// `Config` for a mistake in the settings, `Unavailable` if nothing answers within `connect_timeout`, `Denied` if
    /// the credentials are wrong.
    pub async fn connect(&self) -> Result<Redis> {
        self.build()?.connect().await
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, unix, cluster, nodes, sentinels, master, sentinel_username, sentinel_password, .. } =
            self;
        let Self { username, password, db, tls, settings, knobs, faults, .. } = self;
        let set = |secret: &Option<Secret>| if secret.is_some() { "set" } else { "not set" };
        f.debug_struct("RedisBuilder")
            .field("host", host)
            .field("port", port)
            .field("unix", unix)
            .field("cluster", cluster)
            .field("nodes", nodes)
            .field("sentinels", sentinels)
            .field("master", master)
            .field("sentinel_username", sentinel_username)
            .field("sentinel_password", &set(sentinel_password))
            .field("username", username)
            .field("password", &set(password))
            .field("db", db)
            .field("tls", tls)
            .field("settings", settings)
            .field("knobs", knobs)
            .field("faults", faults)
            .finish()
    }
}

#[cfg(test)]
mod tests;
