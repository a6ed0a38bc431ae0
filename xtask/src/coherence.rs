//! Histories over real processes and a real server: `cargo xtask coherence`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::caught::{self, Verdict};
use crate::evidence;
use crate::model;
use crate::servers::SERVER;
use crate::workspace::Workspace;

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct Coherence {
    /// How many histories
    #[arg(long, default_value_t = 20)]
    histories: u32,
    /// How long each is, in seconds
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// In how many histories, half as long, each rule is broken, to show that the checker would see it
    #[arg(long, default_value_t = 10)]
    mutations: u32,
    /// The outage window in milliseconds; 0 is strict
    #[arg(long, default_value_t = 0)]
    outage: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the far store is laid out: standalone, sentinel or cluster
    #[arg(long, default_value = "standalone")]
    topology: String,
    /// The server's binary
    #[arg(long)]
    server: Option<PathBuf>,
    /// Write the results into the papers
    #[arg(long)]
    write: bool,
    /// Play nothing: take the results of an earlier run, as it left them in `target/coherence.json`
    #[arg(long, value_name = "FILE", requires = "write")]
    played: Option<PathBuf>,
}

/// Builds the harness, plays the histories, and prints what it prints. A broken rule that fewer than eight of ten
/// histories show has to show in the model, which is run for it. Its last line is the sum; whether every promise was kept
/// and every broken rule was caught.
///
/// # Errors
/// If the harness or the model does not build or run, or the papers can't be written.
pub(crate) fn command(workspace: &Workspace, coherence: &Coherence) -> Result<bool> {
    let results = workspace.root().join("target/coherence.json");
    let mut found = match &coherence.played {
        Some(played) => read(played)?,
        None => {
            let commit = workspace.commit();
            let mut found = play(workspace.root(), coherence, &results)?;
            found["commit"] = json!(commit);
            found
        }
    };
    if coherence.played.is_none() {
        caught::ask(&mut found, |rule| {
            println!("too few histories show {rule}; the model:");
            model::shows(workspace, rule)
        })?;
        std::fs::write(&results, serde_json::to_string_pretty(&found)?)?;
    }
    if coherence.write {
        evidence::histories_ran(workspace, &coherence.topology, coherence.server.is_some(), &found)?;
    }
    let verdict = Verdict::of(&found);
    println!("{verdict}");
    Ok(verdict.held())
}

fn read(results: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(results)?)?)
}

/// Plays, and returns what was found.
fn play(root: &Path, coherence: &Coherence, results: &Path) -> Result<Value> {
    let build = ["build", "--profile", "proof", "--package", "strata-tests", "--bin", "strata-coherence"];
    println!("building the harness, with rules that can be broken");
    let built =
        Command::new("cargo").args(build).args(["--features", "mutate", "--locked"]).current_dir(root).status()?;
    ensure!(built.success(), "the harness does not build");
    let mut play = Command::new(root.join("target/proof/strata-coherence"));
    play.current_dir(root)
        .args(["--histories", &coherence.histories.to_string(), "--seconds", &coherence.seconds.to_string()])
        .args(["--mutations", &coherence.mutations.to_string(), "--outage", &coherence.outage.to_string()])
        .args(["--seed", &coherence.seed.to_string(), "--topology", &coherence.topology])
        .arg("--json")
        .arg(results);
    if let Some(server) = &coherence.server {
        play.env(SERVER, server);
    }
    // those of an earlier run are no answer if this one breaks off
    if results.exists() {
        std::fs::remove_file(results)?;
    }
    let status = play.status().context("the harness does not run")?;
    read(results).with_context(|| format!("the harness left no results: {status}"))
}
