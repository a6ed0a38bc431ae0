//! cargo-deny over all dependencies.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::run::{Run, on_path};
use crate::workspace::Workspace;

const TOOL: &str = "cargo-deny";
const VERSION: &str = "0.20.2";
/// Where it is installed when the machine has none: below the build directory, so that nothing else changes.
const TOOLS: &str = "target/tools";

const INSTALL: Duration = Duration::from_secs(20 * 60);
const FETCH: Duration = Duration::from_secs(90);
const CHECK: Duration = Duration::from_secs(5 * 60);

/// Checks bans, licences and sources everywhere, and advisories where their database can be had.
///
/// # Errors
/// If something is refused, or cargo-deny can't be installed.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let tool = find_or_install(workspace)?;
    let run = |args: &[&str], limit| Run::new(&tool, args).within(workspace.root()).for_at_most(limit).stream();
    run(&["--locked", "--all-features", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"], CHECK)?;
    if let Err(error) = run(&["--all-features", "fetch", "db"], FETCH) {
        println!("the advisory database can't be fetched here: {error:#}");
        return Ok("bans, licences, sources hold; advisories NOT checked: their database can't be fetched here".into());
    }
    run(&["--locked", "--all-features", "check", "--disable-fetch", "advisories"], CHECK)?;
    Ok("bans, licences, sources, advisories hold".into())
}

/// The cargo-deny on the path, or ours, which is built if it isn't there yet.
fn find_or_install(workspace: &Workspace) -> Result<PathBuf> {
    if on_path(TOOL) {
        return Ok(TOOL.into());
    }
    let root = workspace.root().join(TOOLS);
    let tool = root.join("bin").join(TOOL);
    if !tool.is_file() {
        println!("installing {TOOL} {VERSION} into {TOOLS}, which takes some minutes");
        let root = root.to_string_lossy();
        // unoptimized: it takes longer to build than it ever runs
        let args = ["install", TOOL, "--debug", "--locked", "--version", VERSION, "--root", &root];
        workspace.cargo(&args).for_at_most(INSTALL).stream()?;
    }
    Ok(tool)
}
