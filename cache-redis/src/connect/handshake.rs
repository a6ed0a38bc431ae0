//! From an open stream to a connection that is known to work: protocol, user, database, run, scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Reply, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};

use super::gather::Gather;
use super::heard::{self, Ears};
use super::pulse::Pulse;
use super::stream::{self, Stream};
use super::target::Target;
use crate::config::{Config, Endpoint, Protocol};
use crate::error;
use crate::tracking::{self, NO_RESP3, Tracking};

/// Commands that wait for the driver beyond this many make their callers wait, each under its own deadline.
const QUEUE: usize = 1024;

/// Packed commands beyond this many bytes are written before more are packed.
const BOUNDARY: usize = 64 * 1024;

/// What opens connections: the configuration and what was learnt about the server.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) config: Config,
    pub(crate) target: Target,
    scripts: &'static [&'static str],
    /// Who hears of writes to what was read.
    ears: Arc<Ears>,
    /// Of the server; every connection that is made here hears for it.
    pulse: Arc<Pulse>,
    /// The server refused RESP3 once.
    resp2: AtomicBool,
}

/// A connection fresh from the handshake.
pub(crate) struct Fresh {
    pub(crate) connection: MultiplexedConnection,
    /// Runs the connection; ends when it is lost. Aborting it closes the stream.
    pub(crate) driver: JoinHandle<()>,
    /// Identifies the server's run; 0 if unknown.
    pub(crate) run: u64,
    pub(crate) place: Place,
}

/// A server, and when it was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    pub(crate) since: Instant,
}

impl Connector {
    /// What is read is tracked for `ears`, if the configuration says so.
    pub(crate) fn new(config: Config, scripts: &'static [&'static str], ears: Arc<Ears>) -> Self {
        let target = Target::of(&config);
        let resp2 = AtomicBool::new(config.knobs.protocol == Protocol::Resp2);
        Self { config, target, scripts, ears, pulse: Arc::default(), resp2 }
    }

    /// Whether the server gives signs of life.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What a call fails with that is kept from a silent server.
    pub(super) fn silent(&self) -> Error {
        let place = self.config.place();
        let text = format!("{place} does not answer; it is given a pause until it shows a sign of life");
        error::fault(ErrorKind::Unavailable, text).with_retry_after(self.config.knobs.timeout)
    }

    /// Whether the server refused RESP3, or is not to be asked for it.
    pub(crate) fn is_resp2(&self) -> bool {
        self.resp2.load(Ordering::Relaxed)
    }

    /// Who hears of writes to what is read; `None` if reads are not tracked.
    pub(super) fn ears(&self) -> Option<Arc<Ears>> {
        (self.config.knobs.tracking == Tracking::Reads).then(|| Arc::clone(&self.ears))
    }

    /// Opens a stream. The caller bounds the time.
    pub(crate) async fn stream(&self) -> Result<(Stream, Place)> {
        let since = Instant::now();
        let endpoint = self.target.resolve(&self.config).await?;
        let stream = stream::open(&endpoint, self.config.tls.as_ref(), &self.config.knobs).await?;
        Ok((stream, Place { endpoint, since }))
    }

    /// Opens a connection: each attempt (RESP3, then RESP2 if that is refused) ends within the connect timeout.
    ///
    /// `calls` counts the calls under way on the connection, kept by whoever sends on it. What is read on it is tracked
    /// for `ears`, if there are any.
    pub(crate) async fn connect(&self, calls: &Arc<AtomicUsize>, ears: Option<&Arc<Ears>>) -> Result<Fresh> {
        if !self.resp2.load(Ordering::Relaxed) {
            match self.attempt(ProtocolVersion::RESP3, calls, ears).await {
                Err(Refusal::Protocol) if self.config.knobs.protocol == Protocol::Auto => {
                    tracing::info!("server refuses RESP3, using RESP2");
                    self.resp2.store(true, Ordering::Relaxed);
                }
                Err(Refusal::Protocol) => {
                    return Err(error::config("the server does not speak resp3; set protocol to auto or resp2"));
                }
                Err(Refusal::Other(error)) => return Err(error),
                Ok(fresh) => return Ok(fresh),
            }
        }
        if ears.is_some() {
            return Err(error::config(NO_RESP3));
        }
        self.attempt(ProtocolVersion::RESP2, calls, None).await.map_err(|refusal| match refusal {
            Refusal::Protocol => error::fault(ErrorKind::Unavailable, "the server refused the handshake"),
            Refusal::Other(error) => error,
        })
    }

    async fn attempt(
        &self,
        protocol: ProtocolVersion,
        calls: &Arc<AtomicUsize>,
        ears: Option<&Arc<Ears>>,
    ) -> Result<Fresh, Refusal> {
        let work = async {
            let (stream, place) = self.stream().await?;
            Ok(self.greet(Gather::new(stream, Arc::clone(calls), Arc::clone(&self.pulse)), place, protocol, ears).await)
        };
        self.within(work).await?
    }

    async fn greet(
        &self,
        stream: Gather<Stream>,
        place: Place,
        protocol: ProtocolVersion,
        ears: Option<&Arc<Ears>>,
    ) -> Result<Fresh, Refusal> {
        let Config { username, password, db, .. } = &self.config;
        let mut info = RedisConnectionInfo::default()
            .set_protocol(protocol)
            .set_db(i64::from(*db))
            .set_lib_name("strata", env!("CARGO_PKG_VERSION"));
        if let Some(username) = username {
            info = info.set_username(username);
        }
        if let Some(password) = password {
            info = info.set_password(&password.0);
        }
        // our own deadline covers every call; a second timer in the driver would only cost
        let mut options = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_write_backpressure_boundary(BOUNDARY);
        if let Some(ears) = ears {
            options = options.set_push_sender(heard::pushes(Arc::clone(ears)));
        }
        let opened = MultiplexedConnection::new_with_config(&info, stream, options).await;
        let (mut connection, driver) = opened.map_err(|cause| self.refusal(&cause, protocol, &place.endpoint))?;
        let driver = tokio::spawn(driver);
        let guard = Guard(Some(driver.abort_handle()));
        let run = self.prepare(&mut connection, &place.endpoint, ears.is_some()).await?;
        guard.disarm();
        Ok(Fresh { connection, driver, run, place })
    }

    /// Names the connection, reads the server's run, loads the scripts and has reads tracked, in one round trip.
    async fn prepare(&self, connection: &mut MultiplexedConnection, endpoint: &Endpoint, tracked: bool) -> Result<u64> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("server").cmd("INFO").arg("replication");
        for script in self.scripts {
            pipe.cmd("SCRIPT").arg("LOAD").arg(*script);
        }
        if let Some(name) = &self.config.knobs.client_name {
            pipe.cmd("CLIENT").arg("SETNAME").arg(&**name);
        }
        if tracked {
            // every read, whoever sends it; never NOLOOP, under which an own write blinds for the next foreign one
            pipe.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTOUT");
        }
        let replies = connection.send_packed_commands(&pipe, 0, pipe.len()).await;
        let replies = replies.map_err(|cause| {
            let late = stream::late_tls_fault(&cause, &endpoint.to_string());
            late.unwrap_or_else(|| error::map("connect", &cause))
        })?;
        for reply in &replies {
            let Value::ServerError(refused) = reply else { continue };
            let error = error::server(refused.code(), "");
            // a user without INFO, SCRIPT or CLIENT is served all the same
            if matches!(error.reply(), Some(Reply::NoAuth | Reply::Loading | Reply::MasterDown)) {
                return Err(error);
            }
        }
        if tracked && let Some(Value::ServerError(refused)) = replies.last() {
            return Err(tracking::not_tracked(refused.code()));
        }
        let mut replies = replies.into_iter();
        let [server, replication] = [replies.next(), replies.next()]
            .map(|info| info.and_then(|info| redis::from_redis_value::<String>(info).ok()).unwrap_or_default());
        self.target.check(&replication)?;
        Ok(run(&server, &replication))
    }

    fn refusal(&self, cause: &RedisError, protocol: ProtocolVersion, endpoint: &Endpoint) -> Refusal {
        if let Some(fault) = stream::late_tls_fault(cause, &endpoint.to_string()) {
            return Refusal::Other(fault);
        }
        if cause.to_string().contains("refused to switch database") {
            return Refusal::Other(error::config("the server refused the database number; change db"));
        }
        // servers phrase an unknown HELLO in several ways, so every refusal that isn't typed counts as one
        let untyped =
            cause.kind() == redis::ErrorKind::RESP3NotSupported || matches!(cause.code(), Some("ERR" | "NOPROTO"));
        // Valkey 9 tells nobody who isn't logged in which commands it has; a known HELLO would have taken the password
        let hidden = cause.code() == Some("NOAUTH") && self.config.password.is_some();
        if protocol == ProtocolVersion::RESP3 && (untyped || hidden) {
            return Refusal::Protocol;
        }
        Refusal::Other(error::map("connect", cause))
    }

    /// Ends when the server at `place` is known to be the wrong one by now.
    pub(crate) async fn left(&self, place: &Place) {
        self.target.left(&place.endpoint, place.since).await;
    }

    /// Does `work` within the connect timeout.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let span = self.config.knobs.connect_timeout;
        timeout(span, work).await.unwrap_or_else(|_| Err(slow(span, &self.config)))
    }
}

/// Why a connection was not made.
enum Refusal {
    /// The protocol; another may do.
    Protocol,
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn slow(span: Duration, config: &Config) -> Error {
    let what =
        if config.tls.is_some() { "address, firewall and that the port speaks tls" } else { "address and firewall" };
    let (place, span) = (config.place(), span.as_millis());
    let text = format!("no connection to {place} within {span} ms; check {what}, or raise connect_timeout");
    error::fault(ErrorKind::Unavailable, text)
}

/// The server's run id and replication id as one number: it changes on restart and on failover.
fn run(server: &str, replication: &str) -> u64 {
    let mut hash = 0_u64;
    for (info, name) in [(server, "run_id:"), (replication, "master_replid:")] {
        let id = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        for byte in id.trim().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }
    hash
}

/// Aborts a driver whose connection is not kept.
struct Guard(Option<AbortHandle>);

impl Guard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(driver) = &self.0 {
            driver.abort();
        }
    }
}
