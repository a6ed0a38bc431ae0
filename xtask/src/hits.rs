//! The price of a near hit in instructions, which don't depend on how busy the machine is.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::{Run, on_path};
use crate::servers;
use crate::workspace::Workspace;

/// How many hits are counted, beyond as many that warm up.
const HITS: u64 = 20_000;
/// The most instructions that a typed near hit may take for each one of a bare moka get. Lower it when it gets cheaper.
const MOST: f64 = 1.45;
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Counts the instructions of a near hit and of a bare moka get with callgrind.
///
/// # Errors
/// If a near hit takes more than it may.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    if !on_path("valgrind") && !servers::install_if_possible("valgrind") {
        return Ok("NOT counted: valgrind is not on the path".into());
    }
    workspace
        .cargo(&["build", "--locked", "--release", "--package", "strata-benches", "--bin", "hits"])
        .for_at_most(LIMIT)
        .stream()?;
    let (floor, ours) = (per_hit(workspace, "moka")?, per_hit(workspace, "strata")?);
    #[expect(clippy::cast_precision_loss, reason = "hundreds of instructions")]
    let ratio = ours as f64 / floor as f64;
    let said = format!("{ours} instructions a typed near hit, {floor} a bare moka get: {ratio:.2}");
    if ratio > MOST { bail!("{said}; at most {MOST} is allowed") } else { Ok(said) }
}

/// The instructions of one hit: a long run less a short one, so that start and end cancel out.
fn per_hit(workspace: &Workspace, what: &str) -> Result<u64> {
    Ok(counted(workspace, what, 2 * HITS)?.saturating_sub(counted(workspace, what, HITS)?) / HITS)
}

fn counted(workspace: &Workspace, what: &str, hits: u64) -> Result<u64> {
    let report = workspace.root().join("target").join(format!("callgrind.{what}"));
    let counted = workspace.root().join("target/release/hits");
    let tool = ["--tool=callgrind".to_owned(), format!("--callgrind-out-file={}", report.display())];
    let program = [counted.display().to_string(), what.to_owned(), hits.to_string()];
    Run::new("valgrind", tool.iter().chain(&program)).within(workspace.root()).for_at_most(LIMIT).output()?;
    let text = std::fs::read_to_string(&report).context("valgrind left no report")?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    total.and_then(|n| n.trim().parse().ok()).context("valgrind's report has no total")
}
