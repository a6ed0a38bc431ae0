//! A real memcached for tests: spawned on a free loopback port, killed on drop.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cache_core::testkit::{PATIENT, free_port};
use cache_core::{Line, Result};

use crate::Memcached;

const START: Duration = Duration::from_secs(60);
const ATTEMPTS: usize = 5;

/// A running server.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts `memcached` from the path with 256 MiB, and waits until it takes connections.
    ///
    /// # Errors
    /// `NotFound` if there is none; `TimedOut` if it does not answer within 60 s.
    pub fn spawn() -> io::Result<Self> {
        Self::spawn_with(&["-m", "256"])
    }

    /// As [`spawn`](Self::spawn), with these arguments beside address and port.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_with(args: &[&str]) -> io::Result<Self> {
        let mut fault = None;
        for _ in 0..ATTEMPTS {
            let port = free_port(&[])?;
            match Self::start(port, args) {
                Ok(server) => return Ok(server),
                // somebody else may have taken the port between the probe and the bind
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => fault = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(fault.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    fn start(port: u16, args: &[&str]) -> io::Result<Self> {
        let mut command = Command::new("memcached");
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-c", "4096"]).args(args);
        // as root it wants to be told whom to become
        command.args(["-u", "nobody"]);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| {
                io::Error::new(error.kind(), format!("memcached ({error}); install it: apt-get install memcached"))
            })?;
        let mut server = Self { child, port };
        let end = Instant::now() + START;
        loop {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, format!("memcached ended: {status}")));
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            if Instant::now() >= end {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "memcached takes no connection"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its url.
    #[must_use]
    pub fn url(&self) -> String {
        format!("memcached://127.0.0.1:{}", self.port)
    }

    /// The url with [`PATIENT`] deadlines, for tests that are not about deadlines.
    #[must_use]
    pub fn patient_url(&self) -> String {
        format!("{}?{PATIENT}", self.url())
    }

    /// Kills the server and starts another, empty, on the same port.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let fresh = Self::start(self.port, &["-m", "256"])?;
        *self = fresh;
        Ok(())
    }

    /// Kills the server; calls fail from now on.
    pub fn kill(&mut self) {
        // an error means that it has ended by itself
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Loses what the server knows about the bumps of `tag`, as a full server may.
///
/// # Errors
/// What the server says.
pub async fn lose_tag(store: &Memcached, line: &Line, tag: u64) -> Result<()> {
    store.lose_record(line, tag).await
}
