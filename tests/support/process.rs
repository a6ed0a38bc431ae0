//! Several processes of one test: the test's own binary, run again.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// The environment variable that tells a process of a test which role it plays.
const ROLE: &str = "STRATA_TEST_ROLE";

/// The role of this process; `None` in the one that the test runner started.
///
/// A driver asks first thing in its `main`, and instead of running tests plays the role.
#[must_use]
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A process of a test. Dropping it ends it.
///
/// It is talked to in lines, over its standard input and output; its standard error is the test's own.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Runs this binary again in `role`, with `settings` in its environment.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn<K, V>(role: &str, settings: impl IntoIterator<Item = (K, V)>) -> io::Result<Self>
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let mut child = Command::new(std::env::current_exe()?)
            .env(ROLE, role)
            .envs(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines })
    }

    /// Its process id, to stop and continue it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it where it is, or lets it go on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&self, pause: bool) -> io::Result<()> {
        let signal = if pause { "-STOP" } else { "-CONT" };
        // the shell's own: the program of that name is not on every machine
        let done = Command::new("sh").args(["-c", &format!("kill {signal} {}", self.id())]).status()?;
        if done.success() { Ok(()) } else { Err(io::Error::other("the process can't be signalled")) }
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// If it has ended.
    pub fn send(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.input, "{line}")?;
        self.input.flush()
    }

    /// The next line that it printed; `None` if it ended.
    ///
    /// # Errors
    /// `TimedOut` if it prints none within `patience`.
    pub fn line(&self, patience: Duration) -> io::Result<Option<String>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(io::ErrorKind::TimedOut, "no line from the process")),
        }
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.kill();
    }
}
