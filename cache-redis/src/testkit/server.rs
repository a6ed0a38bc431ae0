//! One real server.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cache_core::testkit::{PATIENT, free_port};
use tempfile::TempDir;

use super::process::{Process, find};
use super::until;

const START: Duration = Duration::from_secs(60);
const REPLY: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 5;
/// How far above its port a cluster node talks to the others.
const BUS: u16 = 10_000;

/// What a server says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    /// `redis`, `valkey` or `dragonfly`; other servers of the family say `redis`.
    pub name: String,
    /// Its version, such as `7.0.15`.
    pub version: String,
}

impl Make {
    /// The version's first two numbers, for comparisons.
    #[must_use]
    pub fn release(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// A server in the making; from [`Server::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    binary: Option<PathBuf>,
    user: Option<String>,
    password: Option<String>,
    acl: Option<String>,
    tls: Option<[PathBuf; 3]>,
    socket: bool,
    config: Option<String>,
    pub(super) bus: bool,
    args: Vec<OsString>,
}

impl Builder {
    /// The server's binary; without it the one that the environment offers.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// One more argument, such as `"--maxmemory"`; then its value.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// The password of the default user.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The lines of an acl file. `admin` and `password` are what [`Server::cli`] logs in with.
    #[must_use]
    pub fn acl(mut self, lines: impl Into<String>, admin: impl Into<String>, password: impl Into<String>) -> Self {
        self.acl = Some(lines.into());
        self.user = Some(admin.into());
        self.password = Some(password.into());
        self
    }

    /// TLS alone on the server's port: paths of the certificate, its key and the authority's certificate. Clients
    /// may show a certificate; `.args(&["--tls-auth-clients", "yes"])` demands one.
    #[must_use]
    pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>, ca: impl Into<PathBuf>) -> Self {
        self.tls = Some([cert.into(), key.into(), ca.into()]);
        self
    }

    /// A unix socket beside the port; see [`Server::socket`].
    #[must_use]
    pub const fn unix_socket(mut self) -> Self {
        self.socket = true;
        self
    }

    /// A configuration file with these lines, which the server may rewrite.
    #[must_use]
    pub(super) fn config(mut self, lines: impl Into<String>) -> Self {
        self.config = Some(lines.into());
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// `NotFound` if there is no server binary; `TimedOut` if it does not answer within 60 s, with its log.
    pub fn spawn(self) -> io::Result<Server> {
        let binary = match &self.binary {
            Some(path) => path.clone(),
            None => find("redis-server")?,
        };
        let dragonfly = binary.file_name().is_some_and(|name| name.to_string_lossy().contains("dragonfly"));
        let said = Command::new(&binary).arg("--version").output()?.stdout;
        let old =
            String::from_utf8_lossy(&said).split_once("v=").is_some_and(|(_, version)| version.starts_with(['5', '6']));
        let dir = tempfile::Builder::new().prefix("strata-").tempdir()?;
        if let Some(lines) = &self.acl {
            fs::write(dir.path().join("users.acl"), lines)?;
        }
        let mut server = Server { setup: self, binary, dragonfly, old, dir, port: 0, process: None };
        for attempt in 1.. {
            server.port = free_port(if server.setup.bus { &[BUS] } else { &[] })?;
            match server.start() {
                // somebody else took the port between the probe and the bind
                Err(_) if attempt < ATTEMPTS && server.log().contains("in use") => fs::write(server.log_path(), "")?,
                Err(fault) => return Err(fault),
                Ok(()) => break,
            }
        }
        Ok(server)
    }
}

/// A real server on a loopback port, empty and without persistence; killed on drop.
#[derive(Debug)]
pub struct Server {
    setup: Builder,
    binary: PathBuf,
    dragonfly: bool,
    old: bool,
    dir: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Server {
    /// Starts a server with no password, no TLS and no limits.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    pub fn spawn() -> io::Result<Self> {
        Builder::default().spawn()
    }

    /// A server with settings of its own.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address, as `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The url, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.setup.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}127.0.0.1:{}", self.login(), self.port)
    }

    /// The url with [`PATIENT`] deadlines, for tests that are not about deadlines.
    #[must_use]
    pub fn patient_url(&self) -> String {
        format!("{}?{PATIENT}", self.url())
    }

    /// The path of the unix socket, if there is one.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        (self.setup.socket || self.setup.tls.is_some()).then(|| self.dir.path().join("sock"))
    }

    /// The server's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id; `None` after [`kill`](Self::kill).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// What the server wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Runs one command over a connection of its own. Strings and numbers come as text, nil as an empty text, lists
    /// with one item a line.
    ///
    /// # Errors
    /// The server's error reply as text; `TimedOut` after 30 s.
    pub fn cli(&self, args: &[&str]) -> io::Result<String> {
        let url = match self.socket() {
            Some(path) => {
                let mut url = format!("redis+unix://{}", path.display());
                if let Some(password) = &self.setup.password {
                    url.push_str(&format!("?pass={password}"));
                    if let Some(user) = &self.setup.user {
                        url.push_str(&format!("&user={user}"));
                    }
                }
                url
            }
            None => self.url(),
        };
        ask(&url, args)
    }

    /// What the server says that it is.
    ///
    /// # Errors
    /// As [`cli`](Self::cli).
    pub fn make(&self) -> io::Result<Make> {
        let info = self.cli(&["INFO", "server"])?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let [name, version] = if let Some(version) = field("dragonfly_version") {
            ["dragonfly", version.trim_start_matches("df-").trim_start_matches('v')]
        } else if let Some(version) = field("valkey_version") {
            ["valkey", version]
        } else {
            ["redis", field("redis_version").unwrap_or_default()]
        };
        Ok(Make { name: name.to_owned(), version: version.trim().to_owned() })
    }

    /// Freezes the process: sockets stay open, nothing is answered.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn pause(&self) -> io::Result<()> {
        self.running()?.pause()
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn resume(&self) -> io::Result<()> {
        self.running()?.resume()
    }

    /// Kills the process at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills the process and starts it again on the same port, empty.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.start()
    }

    fn running(&self) -> io::Result<&Process> {
        self.process.as_ref().ok_or_else(|| io::Error::other("the server was killed"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn login(&self) -> String {
        let user = self.setup.user.as_deref().unwrap_or_default();
        self.setup.password.as_ref().map_or_else(String::new, |password| format!("{user}:{password}@"))
    }

    fn command(&self) -> io::Result<Command> {
        let port = self.port.to_string();
        let mut command = Command::new(&self.binary);
        command.current_dir(self.dir.path());
        if let Some(lines) = &self.setup.config {
            let file = self.dir.path().join("server.conf");
            fs::write(&file, format!("port {port}\nbind 127.0.0.1\ndir {}\n{lines}", self.dir.path().display()))?;
            command.arg(file).args(&self.setup.args);
            return Ok(command);
        }
        command.args(["--bind", "127.0.0.1"]).arg("--dir").arg(self.dir.path());
        if self.dragonfly {
            command.args(["--dbfilename=", "--proactor_threads=1", "--maxmemory=512mb", "--logtostderr"]);
        } else {
            command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
            // unknown before 7.0, where DEBUG is always allowed
            if !self.old {
                command.args(["--enable-debug-command", "local"]);
            }
        }
        match &self.setup.tls {
            Some([cert, key, ca]) => {
                command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "optional"]);
                command
                    .arg("--tls-cert-file")
                    .arg(cert)
                    .arg("--tls-key-file")
                    .arg(key)
                    .arg("--tls-ca-cert-file")
                    .arg(ca);
            }
            None => {
                command.args(["--port", &port]);
            }
        }
        if let Some(path) = self.socket() {
            command.arg("--unixsocket").arg(path);
        }
        if self.setup.acl.is_some() {
            command.arg("--aclfile").arg(self.dir.path().join("users.acl"));
        } else if let Some(password) = &self.setup.password {
            command.args(["--requirepass", password]);
        }
        if self.setup.bus {
            command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
            command.args(["--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"]);
        }
        command.args(&self.setup.args);
        Ok(command)
    }

    fn start(&mut self) -> io::Result<()> {
        self.process = Some(Process::spawn(self.command()?, &self.log_path())?);
        let mut ended = false;
        let answered = until("an answer from the server", START, || {
            ended = self.process.as_mut().is_none_or(|process| !process.is_alive());
            if ended {
                return Ok(true);
            }
            self.cli(&["PING"]).map(|pong| pong == "PONG" && self.is_ours())
        });
        match answered {
            Ok(()) if !ended => Ok(()),
            Ok(()) => Err(io::Error::other(format!("the server ended at its start:\n{}", self.log()))),
            Err(fault) => Err(io::Error::new(fault.kind(), format!("{fault}\n{}", self.log()))),
        }
    }

    /// Whether the server that answers is this one. Two that were given one port both hear an answer, from whichever
    /// came first, until the other ends. A server that doesn't tell counts as ours.
    fn is_ours(&self) -> bool {
        let name = self.dir.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.cli(&["CONFIG", "GET", "dir"]).map_or(true, |dir| dir.is_empty() || dir.contains(&name))
    }
}

/// Runs one command at `url`.
pub(super) fn ask(url: &str, args: &[&str]) -> io::Result<String> {
    let fault = |error: redis::RedisError| io::Error::other(error.to_string());
    let mut connection =
        redis::Client::open(url).and_then(|client| client.get_connection_with_timeout(REPLY)).map_err(fault)?;
    connection.set_read_timeout(Some(REPLY)).map_err(fault)?;
    let mut command = redis::Cmd::new();
    for arg in args {
        command.arg(*arg);
    }
    command.query(&mut connection).map(|value| text(&value)).map_err(fault)
}

fn text(value: &redis::Value) -> String {
    use redis::Value;
    match value {
        Value::Nil => String::new(),
        Value::Int(n) => n.to_string(),
        Value::Double(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Okay => "OK".to_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        Value::Array(items) | Value::Set(items) => items.iter().map(text).collect::<Vec<_>>().join("\n"),
        Value::Map(pairs) => pairs.iter().flat_map(|(k, v)| [text(k), text(v)]).collect::<Vec<_>>().join("\n"),
        other => format!("{other:?}"),
    }
}
