//! `cargo xtask model`: the coherence core under a model checker, then every broken rule of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::evidence;
use crate::workspace::Workspace;

/// The night's runs take a quarter of an hour on two cores.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// The proof, built with rules that can be broken; its own arguments follow.
const PROOF: &[&str] =
    &["run", "--locked", "--quiet", "--profile", "proof", "--package", "strata-proof", "--features", "mutate", "--"];

/// Which runs.
#[derive(Debug, Default, Args)]
pub(crate) struct Model {
    /// The larger runs too: tens of millions of states
    #[arg(long)]
    nightly: bool,
    /// Write the results into the papers
    #[arg(long)]
    write: bool,
    /// Run nothing: take what an earlier run printed
    #[arg(long, value_name = "FILE", requires = "write")]
    said: Option<PathBuf>,
    /// The commit that the earlier run was of
    #[arg(long, requires = "said")]
    at: Option<String>,
}

/// Builds the proof and runs it; its last line is the tally.
///
/// # Errors
/// If it can't be built, a promise is violated, a broken rule does not show, or a check could not have failed.
pub(crate) fn command(workspace: &Workspace, model: &Model) -> Result<()> {
    let (mut said, mut commit) = (Vec::new(), model.at.clone());
    if let Some(file) = &model.said {
        said.extend(std::fs::read_to_string(file)?.lines().map(str::to_owned));
    } else {
        commit = workspace.commit();
        let mut args = PROOF.to_vec();
        if model.nightly {
            args.push("--nightly");
        }
        let good = workspace.cargo(&args).for_at_most(LIMIT).lines(|line| {
            println!("{line}");
            said.push(line.to_owned());
        })?;
        ensure!(good, "the model found what must not be");
    }
    if model.write { evidence::model_ran(workspace, &said, commit.as_deref()) } else { Ok(()) }
}

/// Runs the model with `rule` broken; whether it shows there.
///
/// # Errors
/// If the model can't be built or run.
pub(crate) fn shows(workspace: &Workspace, rule: &str) -> Result<bool> {
    let mut said = false;
    let args = [PROOF, &["--mutation", rule]].concat();
    let shows = workspace.cargo(&args).for_at_most(LIMIT).lines(|line| {
        println!("{line}");
        said = true;
    })?;
    // it says either way how it went
    ensure!(said, "the model does not run");
    Ok(shows)
}
