//! Histories over real processes and a real server, and the table of what they showed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::servers::SERVER;
use crate::workspace::Workspace;

/// The papers that carry the table, between two marks.
const PAPERS: &[&str] = &["docs/guarantees.md", "README.md"];
const BEGIN: &str = "<!-- histories: written by `cargo xtask coherence --write` -->";
const END: &str = "<!-- /histories -->";

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
}

/// Builds the harness, plays the histories, and prints what it prints; its last line is the sum.
pub(crate) fn command(workspace: &Workspace, coherence: &Coherence) -> Result<bool> {
    let root = workspace.root();
    let build = ["build", "--profile", "proof", "--package", "strata-tests", "--bin", "strata-coherence"];
    println!("building the harness, with rules that can be broken");
    let built =
        Command::new("cargo").args(build).args(["--features", "mutate", "--locked"]).current_dir(root).status()?;
    ensure!(built.success(), "the harness does not build");
    let results = root.join("target/coherence.json");
    let mut play = Command::new(root.join("target/proof/strata-coherence"));
    play.current_dir(root)
        .args(["--histories", &coherence.histories.to_string(), "--seconds", &coherence.seconds.to_string()])
        .args(["--mutations", &coherence.mutations.to_string(), "--outage", &coherence.outage.to_string()])
        .args(["--seed", &coherence.seed.to_string(), "--topology", &coherence.topology])
        .arg("--json")
        .arg(&results);
    if let Some(server) = &coherence.server {
        play.env(SERVER, server);
    }
    let held = play.status().context("the harness does not run")?.success();
    if coherence.write {
        let found = serde_json::from_str(&std::fs::read_to_string(&results)?)?;
        PAPERS.iter().try_for_each(|paper| write(&root.join(paper), &table(&found)))?;
    }
    Ok(held)
}

/// The results as a table of the papers.
fn table(found: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    let mut out = format!(
        "{} histories, {} reads checked, {} acknowledged writes, {} violations; D = {} ms, {}.\n\n\
         | fault | histories | reads | oldest value served, ms | violations |\n|---|---|---|---|---|\n",
        found["histories"],
        found["reads"],
        found["acknowledged"],
        found["violations"],
        found["bound_ms"],
        text(&found["server"]),
    );
    for row in rows("faults") {
        let line = [&row["fault"], &row["histories"], &row["reads"], &row["worst_ms"], &row["violations"]].map(text);
        out += &format!("| {} |\n", line.join(" | "));
    }
    let mutations = rows("mutations");
    if !mutations.is_empty() {
        out += "\n| broken rule | under | caught in |\n|---|---|---|\n";
    }
    for row in mutations {
        out += &format!(
            "| `{}` | {} | {} of {} |\n",
            text(&row["rule"]),
            text(&row["fault"]),
            row["caught"],
            row["histories"]
        );
    }
    out
}

/// Replaces what stands between the marks of a paper.
fn write(paper: &Path, table: &str) -> Result<()> {
    let old = std::fs::read_to_string(paper).with_context(|| format!("{} can't be read", paper.display()))?;
    let new = between(&old, table).with_context(|| format!("{} has no place for the table", paper.display()))?;
    Ok(std::fs::write(paper, new)?)
}

fn between(old: &str, table: &str) -> Option<String> {
    let (head, rest) = old.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{table}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_replaces_the_one_before() {
        let found = json!({
            "histories": 2, "reads": 10, "acknowledged": 3, "violations": 0, "bound_ms": 600, "server": "redis 7.0.15",
            "faults": [{"fault": "none", "histories": 2, "reads": 10, "worst_ms": 5, "violations": 0}],
            "mutations": [{"rule": "NoCas", "fault": "none", "histories": 10, "caught": 9}],
        });
        let paper = format!("before\n{BEGIN}\nold\n{END}\nafter");
        let new = between(&paper, &table(&found)).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("\nafter") && !new.contains("old\n"));
        assert!(new.contains("| none | 2 | 10 | 5 | 0 |") && new.contains("| `NoCas` | none | 9 of 10 |"));
        assert!(between("no marks", "x").is_none());
    }
}
