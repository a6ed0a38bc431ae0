//! Each bench builds and runs once: its code is checked, nothing is measured.

use std::time::Duration;

use anyhow::Result;

use crate::servers;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs every bench in criterion's test mode, in the tests' profile and features so that both share one build.
///
/// # Errors
/// If there is no server, or one does not build, fails, or takes too long.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let packages = workspace.packages()?;
    let benches: usize = packages.iter().filter(|package| package.member).map(|package| package.benches.len()).sum();
    if benches == 0 {
        return Ok("there are no benches".into());
    }
    servers::set_up()?;
    let all = ["test", "--locked", "--workspace", "--all-features", "--bench", "*"];
    workspace.cargo(&all).for_at_most(LIMIT).stream()?;
    Ok(format!("{benches} benches ran once"))
}
