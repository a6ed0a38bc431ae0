//! `cargo xtask interleave`: threads of the engine under a scheduler that tries their interleavings.

use std::time::Duration;

use anyhow::Result;

use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Builds the engine with the scheduler's locks, apart from other builds, and plays the scenarios.
///
/// # Errors
/// If it can't be built, a schedule breaks a promise (it is printed), or a broken order does not show.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let test = ["test", "--locked", "--quiet", "--package", "cache-tiered", "--lib"];
    let only = ["--features", "mutate", "every_schedule_keeps_the_promises", "--", "--nocapture"];
    let apart = workspace.root().join("target/interleave");
    workspace
        .cargo(&[test.as_slice(), &only].concat())
        .env("RUSTFLAGS", "--cfg=strata_interleave")
        .env("CARGO_TARGET_DIR", &apart.to_string_lossy())
        .for_at_most(LIMIT)
        .stream()?;
    Ok("every schedule keeps the promises, every broken order shows".into())
}
