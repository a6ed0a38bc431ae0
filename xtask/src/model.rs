//! `cargo xtask model`: the coherence core under a model checker, then every broken rule of it.

use std::time::Duration;

use anyhow::Result;

use crate::workspace::Workspace;

/// The night's runs take a quarter of an hour on two cores.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// Builds the proof and runs it; its last line is the tally.
///
/// # Errors
/// If it can't be built, a promise is violated, a broken rule does not show, or a check could not have failed.
pub(crate) fn command(workspace: &Workspace, nightly: bool) -> Result<()> {
    let build =
        ["run", "--locked", "--quiet", "--profile", "proof", "--package", "strata-proof", "--features", "mutate"];
    let mut args = [build.as_slice(), &["--"]].concat();
    if nightly {
        args.push("--nightly");
    }
    workspace.cargo(&args).for_at_most(LIMIT).stream()
}
