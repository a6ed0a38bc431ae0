//! A child process that does not outlive its handle.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running server; killed and reaped on drop.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts `command` with its output in `log`.
    pub(super) fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map(Self)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Freezes it with all its sockets open.
    pub(super) fn pause(&self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::STOP).map_err(io::Error::from)
    }

    /// Lets it go on.
    pub(super) fn resume(&self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::CONT).map_err(io::Error::from)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // an error means that it has ended by itself
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The program `name`, from `STRATA_SERVER` or the path.
pub(super) fn find(name: &str) -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("STRATA_SERVER").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "STRATA_SERVER names no file; set it to a server's binary"))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        let text = format!("no {name} on the path; install it (Debian: apt-get install {name}) or set STRATA_SERVER");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}
