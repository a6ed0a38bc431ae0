//! `cargo xtask simulate`: cache life under faults in simulated time.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(90 * 60);

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// This seed alone, with what led to a violation; `STRATA_SEED` says the same
    #[arg(long)]
    seed: Option<u64>,
    /// How long each simulation is, in simulated seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A bad night, with one feature more at a time, instead
    #[arg(long)]
    night: bool,
    /// Write the night's table into its paper
    #[arg(long, requires = "night")]
    write: bool,
}

/// Builds the simulation and plays it; its last line is the sum.
///
/// # Errors
/// If it can't be built, a promise was broken, or a broken rule did not show.
pub(crate) fn command(workspace: &Workspace, simulate: &Simulate) -> Result<()> {
    let Simulate { seeds, seed, seconds, night, write } = simulate;
    if *night {
        let wanted = [Some("--night"), write.then_some("--write=docs/step-by-step.md")];
        return play(workspace, &wanted.into_iter().flatten().map(str::to_owned).collect::<Vec<_>>());
    }
    let mut wanted = vec![format!("--seeds={seeds}"), format!("--seconds={seconds}")];
    wanted.extend(seed.map(|seed| format!("--seed={seed}")));
    play(workspace, &wanted)
}

/// The step of CI.
///
/// # Errors
/// As [`command`].
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    play(workspace, &[])?;
    play(workspace, &["--night".into()])?;
    Ok("200 seeds and a bad night, no violation, every broken rule shows".into())
}

fn play(workspace: &Workspace, wanted: &[String]) -> Result<()> {
    let build =
        ["run", "--locked", "--quiet", "--profile", "proof", "--package", "strata-proof", "--features", "mutate"];
    let mut args = [build.as_slice(), &["--bin", "strata-simulation", "--"]].concat();
    args.extend(wanted.iter().map(String::as_str));
    workspace.cargo(&args).for_at_most(LIMIT).stream()
}
