//! Ports for servers that tests start.

use std::io;
use std::net::TcpListener;

/// Below what systems hand out by themselves: Linux begins at 32768, others higher. A server that is down for a while
/// keeps its port only if no outgoing connection can be given it meanwhile, a reconnecting client's own among them.
const PORTS: std::ops::Range<u16> = 10_000..22_000;
const ATTEMPTS: usize = 1000;

/// A loopback port that was free a moment ago, and for each of `above` the port so far above it too.
///
/// Nobody is given it by chance later on, so a server may be killed and started on it again.
///
/// # Errors
/// `AddrInUse` if none is found in a thousand tries.
pub fn free_port(above: &[u16]) -> io::Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..ATTEMPTS)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| free(*port) && above.iter().all(|above| free(port + above)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port below the system's own range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_below_what_the_system_hands_out() {
        for above in [&[][..], &[10_000]] {
            let port = free_port(above).unwrap();
            let _held = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let highest = port + above.first().copied().unwrap_or(0);
            assert!(highest < 32_768, "{highest} may be given to a connection");
        }
    }
}
