//! `cargo xtask model`: the coherence core under a model checker, then every broken rule of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::evidence;
use crate::workspace::Workspace;

/// The night's runs take a quarter of an hour on two cores.
const LIMIT: Duration = Duration::from_secs(90 * 60);

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
}

/// Builds the proof and runs it; its last line is the tally.
///
/// # Errors
/// If it can't be built, a promise is violated, a broken rule does not show, or a check could not have failed.
pub(crate) fn command(workspace: &Workspace, model: &Model) -> Result<()> {
    let mut said = Vec::new();
    if let Some(file) = &model.said {
        said.extend(std::fs::read_to_string(file)?.lines().map(str::to_owned));
    } else {
        let build =
            ["run", "--locked", "--quiet", "--profile", "proof", "--package", "strata-proof", "--features", "mutate"];
        let mut args = [build.as_slice(), &["--"]].concat();
        if model.nightly {
            args.push("--nightly");
        }
        let good = workspace.cargo(&args).for_at_most(LIMIT).lines(|line| {
            println!("{line}");
            said.push(line.to_owned());
        })?;
        ensure!(good, "the model found what must not be");
    }
    if model.write { evidence::model_ran(workspace, &said) } else { Ok(()) }
}
