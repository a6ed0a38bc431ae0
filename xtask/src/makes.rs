//! `cargo xtask servers`: the servers that this machine has, each under the suites.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::run::Run;
use crate::servers::SERVER;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// Names more server binaries, separated as in `PATH`.
const MORE: &str = "STRATA_SERVERS";
/// What servers of the family are called.
const PROGRAMS: &[&str] = &["redis-server", "valkey-server", "keydb-server", "redict-server", "dragonfly"];
/// Where they are put by hand, beside the path.
const PLACES: &[&str] = &["/usr/local/bin", "/usr/local/sbin", "/opt/redis/bin", "/opt/valkey/bin", "/snap/bin"];
/// Tests that a server has to pass: a column of the table.
struct Suite {
    name: &'static str,
    package: &'static [&'static str],
    /// For `--deep` only.
    deep: bool,
}

const SUITES: &[Suite] = &[
    Suite { name: "conformance", package: &["strata-tests", "--test", "conformance"], deep: false },
    Suite { name: "recipes", package: &["strata-tests", "--test", "recipes"], deep: false },
    Suite { name: "locks", package: &["strata-tests", "--test", "locks"], deep: true },
    Suite { name: "backend", package: &["cache-redis", "--all-features", "--lib"], deep: true },
];
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Which servers.
#[derive(Debug, Args)]
pub(crate) struct Servers {
    /// One more binary; may be given more than once. `STRATA_SERVERS` names more, separated as in `PATH`
    #[arg(long = "server", value_name = "PATH")]
    servers: Vec<PathBuf>,
    /// Only list them
    #[arg(long)]
    list: bool,
    /// Locks under faults and the Redis backend's own tests too
    #[arg(long)]
    deep: bool,
}

/// Runs it; `true` if every server passes.
///
/// # Errors
/// If there is no server, or one that was named is none.
pub(crate) fn command(workspace: &Workspace, servers: &Servers) -> Result<bool> {
    let mut found = named(servers)?;
    let dirs: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    found.extend(look(dirs.iter().map(PathBuf::as_path).chain(PLACES.iter().map(Path::new))));
    let found = distinct(found);
    if found.is_empty() {
        bail!("no server found; put one on the path, name it with --server, or set {MORE}");
    }
    let suites: Vec<&Suite> = SUITES.iter().filter(|suite| servers.deep || !suite.deep).collect();
    let mut rows = Vec::new();
    for binary in found {
        let version = version(&binary);
        let path = binary.display().to_string();
        println!("{version}: {path}");
        if servers.list {
            continue;
        }
        let mut tallies = Vec::new();
        for suite in &suites {
            let mut tally = Tally::default();
            let test = [&["test", "--locked", "--no-fail-fast", "--package"], suite.package].concat();
            let ended = workspace.cargo(&test).env(SERVER, &path).for_at_most(LIMIT).lines(|line| {
                if line.contains("FAILED") || line.starts_with("Error") || line.starts_with("test result") {
                    println!("{line}");
                }
                tally.line(line);
            })?;
            tally.end(ended);
            tallies.push(tally);
        }
        rows.push((version, tallies, path));
    }
    if rows.is_empty() {
        return Ok(servers.list);
    }
    println!("\npassed / failed / ignored, which have no meaning for their backend, whatever the server:");
    let heads: String = suites.iter().map(|suite| format!(" {:>16}", suite.name)).collect();
    println!("{:<20}{heads}  binary", "server");
    for (version, tallies, path) in &rows {
        let cells: String = tallies.iter().map(|tally| format!(" {:>16}", cell(tally))).collect();
        println!("{version:<20}{cells}  {path}");
    }
    Ok(rows.iter().flat_map(|(_, tallies, _)| tallies).all(|tally| tally.failed() == 0 && tally.passed() > 0))
}

fn cell(tally: &Tally) -> String {
    format!("{} / {} / {}", tally.passed(), tally.failed(), tally.ignored())
}

/// Those that are named, which have to be there.
fn named(servers: &Servers) -> Result<Vec<PathBuf>> {
    let mut named = servers.servers.clone();
    named.extend(env::var_os(SERVER).map(PathBuf::from).filter(|path| path.components().count() > 1));
    named.extend(env::var_os(MORE).iter().flat_map(env::split_paths).filter(|path| !path.as_os_str().is_empty()));
    match named.iter().find(|path| !path.is_file()) {
        Some(missing) => bail!("{} is no server binary", missing.display()),
        None => Ok(named),
    }
}

fn look<'a>(dirs: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    dirs.flat_map(|dir| PROGRAMS.iter().map(|name| dir.join(name))).filter(|path| path.is_file()).collect()
}

/// Each binary once: `/bin` is often a link to `/usr/bin`. The name stays, because some programs are many by name.
fn distinct(found: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let place = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    found.into_iter().filter_map(|path| place(&path)).filter(|path| seen.insert(path.clone())).collect()
}

/// Make and version in two words, from what the program says.
fn version(binary: &Path) -> String {
    let said = Run::new(binary, ["--version"]).for_at_most(Duration::from_secs(10)).output().unwrap_or_default();
    make(&said).unwrap_or_else(|| "unknown".into())
}

fn make(said: &str) -> Option<String> {
    let line = said.lines().next()?;
    let name = line.split_whitespace().next()?.to_lowercase();
    // Redis server v=7.0.15 sha=...; dragonfly v1.27.0-...
    let version = line.split_whitespace().find_map(|word| {
        let text = word.strip_prefix("v=").or_else(|| word.strip_prefix('v'))?;
        text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.split('-').next())?
    })?;
    Some(format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_and_versions_are_read() {
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=d81b8ff71cfb150e\n";
        assert_eq!(make(said).unwrap(), "redis 7.0.15");
        assert_eq!(make("Valkey server v=9.1.2 sha=0").unwrap(), "valkey 9.1.2");
        assert_eq!(make("dragonfly v1.27.1-d41d8cd\nbuild time: x").unwrap(), "dragonfly 1.27.1");
        assert_eq!(make("something else"), None);
    }

    #[test]
    fn a_server_is_found_once_wherever_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        std::fs::create_dir(&a).unwrap();
        std::os::unix::fs::symlink(&a, &b).unwrap();
        std::fs::write(a.join("valkey-server"), "").unwrap();
        let found = look([a.as_path(), &b].into_iter());
        assert_eq!((found.len(), distinct(found).len()), (2, 1));
        let lost = Servers { servers: vec![dir.path().join("none")], list: true, deep: false };
        assert!(named(&lost).is_err());
    }
}
