//! The servers that tests talk to: found, or installed where that is possible.

use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::run::{Run, on_path};

/// Names the server binary to test against, instead of the `redis-server` on the path.
pub(crate) const SERVER: &str = "STRATA_SERVER";

/// A program, the Debian package that carries it, and when tests can't do without it.
struct Tool {
    program: &'static str,
    package: &'static str,
    needed: Needed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    /// Not where [`SERVER`] names another.
    UnlessChosen,
    Never,
}

const TOOLS: &[Tool] = &[
    Tool { program: "redis-server", package: "redis-server", needed: Needed::UnlessChosen },
    Tool { program: "redis-sentinel", package: "redis-sentinel", needed: Needed::Never },
    Tool { program: "redis-cli", package: "redis-tools", needed: Needed::Never },
    Tool { program: "memcached", package: "memcached", needed: Needed::Always },
];

const INSTALL: Duration = Duration::from_secs(10 * 60);

/// Finds the servers, installs those that are missing if this machine lets us, and says what it did.
///
/// # Errors
/// If there is no server to test against, with what to install.
pub(crate) fn set_up() -> Result<()> {
    let chosen = env::var(SERVER).ok();
    if let Some(path) = &chosen {
        if !Path::new(path).is_file() && !on_path(path) {
            bail!("{SERVER} is {path}, which is no program; name a redis-server, valkey-server or dragonfly binary");
        }
        println!("server: {path}, as {SERVER} says: {}", version(path));
    }
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !on_path(tool.program)).collect();
    if !missing.is_empty() {
        if is_root() && on_path("apt-get") {
            install(&missing)?;
        } else {
            for tool in &missing {
                println!("{} is not on the path (Debian package {})", tool.program, tool.package);
            }
        }
    }
    for tool in TOOLS {
        if on_path(tool.program) {
            println!("{}: {}", tool.program, version(tool.program));
        } else if tool.needed == Needed::UnlessChosen && chosen.is_none() {
            bail!(
                "no {} found; install it (apt-get install {}, brew install redis) or set {SERVER} to the path of one",
                tool.program,
                tool.package
            );
        } else if tool.needed == Needed::Always {
            bail!("no {0} found; install it (apt-get install {1}, brew install {1})", tool.program, tool.package);
        }
    }
    Ok(())
}

/// Installs a Debian package where this machine lets us; says whether it did.
pub(crate) fn install_if_possible(package: &str) -> bool {
    is_root()
        && on_path("apt-get")
        && apt(&["update", "-q"]).is_ok()
        && apt(&["install", "-y", "-q", "--no-install-recommends", package]).is_ok()
}

fn install(missing: &[&Tool]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    println!("installing {}, which this machine lacks", packages.join(", "));
    apt(&["update", "-q"])?;
    apt(&[&["install", "-y", "-q", "--no-install-recommends"], &packages[..]].concat())?;
    println!("installed {}", packages.join(", "));
    Ok(())
}

fn apt(args: &[&str]) -> Result<()> {
    Run::new("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive").for_at_most(INSTALL).stream()
}

fn is_root() -> bool {
    Run::new("id", ["-u"]).output().is_ok_and(|id| id.trim() == "0")
}

/// The first line of what `program` says about itself.
fn version(program: &str) -> String {
    let flag = if program.ends_with("memcached") { "-V" } else { "--version" };
    match Run::new(program, [flag]).output() {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(error) => format!("does not say its version: {error}"),
    }
}
