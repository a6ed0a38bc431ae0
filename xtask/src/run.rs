//! Runs other programs: says which, streams what they say, and ends them when their time is up.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};

/// The time after which a program is ended unless it was given another limit.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// The time between two looks at a program's end.
const LOOK: Duration = Duration::from_millis(50);
/// The time that output may still trickle in after a program ended, held open by processes that it left behind.
const DRAIN: Duration = Duration::from_secs(2);

/// A program to be run in a directory, with nothing on its standard input.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    limit: Duration,
}

impl Run {
    /// `program` with `args`.
    pub(crate) fn new<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        Self { command, limit: LIMIT }
    }

    /// The cargo that started this program, with `args`.
    pub(crate) fn cargo<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut run = Self::new(cargo, args);
        // set for this program by the cargo that runs it; build scripts of others would see them as changed
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            run.command.env_remove(name);
        }
        run
    }

    /// In `dir`.
    pub(crate) fn within(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// With the variable `name`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// For at most `limit`; then it is killed with all that it started.
    pub(crate) const fn for_at_most(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it, its output going where ours goes.
    ///
    /// # Errors
    /// If it can't be started, says that it failed, or takes too long.
    pub(crate) fn stream(mut self) -> Result<()> {
        let shown = self.announce();
        let mut child = self.command.spawn().with_context(|| format!("can't start {shown}"))?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return success(&shown, status);
            }
            if start.elapsed() > self.limit {
                end(&mut child);
                bail!("{shown} took longer than {} s", self.limit.as_secs());
            }
            thread::sleep(LOOK);
        }
    }

    /// Runs it and hands each line of its standard output to `each`; `true` if it succeeded.
    ///
    /// # Errors
    /// If it can't be started or takes too long.
    pub(crate) fn lines(mut self, mut each: impl FnMut(&str)) -> Result<bool> {
        let shown = self.announce();
        let mut child = self.command.stdout(Stdio::piped()).spawn().with_context(|| format!("can't start {shown}"))?;
        let stdout = child.stdout.take().context("standard output is not piped")?;
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if send.send(text).is_err() {
                    break;
                }
            }
        });
        let start = Instant::now();
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            match receive.recv_timeout(LOOK) {
                Ok(line) => each(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            if ended.is_none() {
                ended = child.try_wait()?.map(|status| (status, Instant::now()));
            }
            if let Some((status, at)) = ended {
                if at.elapsed() > DRAIN {
                    receive.try_iter().for_each(|line| each(&line));
                    return Ok(status.success());
                }
            } else if start.elapsed() > self.limit {
                end(&mut child);
                bail!("{shown} took longer than {} s", self.limit.as_secs());
            }
        }
    }

    /// Runs it quietly; its standard output.
    ///
    /// # Errors
    /// If it can't be started or says that it failed, with what it said.
    pub(crate) fn output(mut self) -> Result<String> {
        let shown = self.shown();
        let out = self.command.output().with_context(|| format!("can't start {shown}"))?;
        if !out.status.success() {
            bail!("{shown} failed: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn announce(&self) -> String {
        let shown = self.shown();
        println!("$ {shown}");
        shown
    }

    fn shown(&self) -> String {
        let program = Path::new(self.command.get_program()).file_name().unwrap_or_default();
        let words = std::iter::once(program).chain(self.command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Whether `program` is found on the path.
pub(crate) fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn success(shown: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{shown} failed: {status}")
}

/// Kills `child` and everything below it, so that a hung test doesn't outlive the run.
fn end(child: &mut Child) {
    let mut doomed = vec![child.id()];
    let parents = parents();
    let mut at = 0;
    while let Some(&parent) = doomed.get(at) {
        doomed.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    let pids = doomed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let _ = Command::new("sh").args(["-c", &format!("kill -9 {pids}")]).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

/// Every process with its parent, where there is a `/proc`.
fn parents() -> Vec<(u32, u32)> {
    let Ok(dir) = fs::read_dir("/proc") else { return Vec::new() };
    dir.flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // pid (name) state parent: the name may hold anything, its last parenthesis ends it
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run {
        Run::new("sh", ["-c", script])
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        assert!(sh("exit 0").stream().is_ok());
        assert!(sh("exit 3").stream().unwrap_err().to_string().contains("exit status: 3"));
        assert!(sh("echo why >&2; exit 3").output().unwrap_err().to_string().contains("why"));
    }

    #[test]
    fn every_line_is_handed_over() {
        let mut seen = Vec::new();
        assert!(!sh("echo a; printf '\\377\\n'; printf b; exit 1").lines(|line| seen.push(line.to_owned())).unwrap());
        assert_eq!(seen, ["a", "\u{fffd}", "b"]);
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(500);
        let hang = || sh("sleep 600 & echo $! >>pids; wait").within(dir.path()).for_at_most(limit);
        assert!(hang().stream().unwrap_err().to_string().contains("longer"));
        assert!(hang().lines(|_| ()).unwrap_err().to_string().contains("longer"));
        let pids = fs::read_to_string(dir.path().join("pids")).unwrap();
        assert_eq!(pids.lines().count(), 2);
        let sleeps =
            |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep) S"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while pids.lines().any(sleeps) {
            assert!(Instant::now() < deadline, "a child still runs");
            thread::sleep(LOOK);
        }
    }
}
