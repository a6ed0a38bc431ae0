//! The far store of a history.

use std::io;

use cache_redis::testkit::Server;

/// The running far store: one server.
pub(crate) struct Topology(Server);

impl Topology {
    pub(crate) fn spawn(binary: Option<&std::path::Path>) -> io::Result<Self> {
        Ok(Self(binary.map_or_else(Server::builder, |path| Server::builder().binary(path)).spawn()?))
    }

    pub(crate) const fn primary(&self) -> &Server {
        &self.0
    }

    pub(crate) const fn primary_mut(&mut self) -> &mut Server {
        &mut self.0
    }

    /// Runs a command on the server. That a killed client gets no reply is fine here.
    pub(crate) fn run(&self, command: &[&str]) {
        let _ = self.0.cli(command);
    }

    /// The make and version of the server.
    pub(crate) fn make(&self) -> String {
        self.0.make().map_or_else(|_| "unknown".to_owned(), |make| format!("{} {}", make.name, make.version))
    }
}
