//! Real servers for tests, examples and benches: spawned on free loopback ports, killed on drop.
//!
//! * [`Server`]: one server of any binary that speaks the protocol.
//! * [`Sentinel`]: one primary, two replicas and three sentinels.
//! * [`Cluster`]: three primaries with a replica each.
//! * [`Proxy`]: a TCP proxy with switches for faults, to stand before any of them.
//!
//! The binary is `redis-server` on the path, or the one that the environment variable `STRATA_SERVER` names.
//! Starting and asking a server blocks the calling thread, always with a deadline.

mod cluster;
mod process;
mod proxy;
mod sentinel;
mod server;

pub use cluster::{Cluster, Migration};
pub use proxy::{Direction, Proxy};
pub use sentinel::Sentinel;
pub use server::{Builder, Make, Server};

#[cfg(test)]
mod tests;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Polls `done` until it says `true`; an error that names `what` once `limit` has passed.
fn until(what: &str, limit: Duration, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let end = Instant::now() + limit;
    loop {
        let last = done();
        if let Ok(true) = last {
            return Ok(());
        }
        if Instant::now() >= end {
            let why = last.err().map_or_else(String::new, |e| format!(": {e}"));
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{what} did not come within {} s{why}", limit.as_secs()),
            ));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
