//! `cargo xtask test`: all set-up and all tests on a fresh machine.

use std::fs;

use anyhow::Result;

use crate::tally::{Allowed, Tally};
use crate::workspace::Workspace;
use crate::{again, servers};

/// The tests that may be ignored, each with its reason.
const ALLOWED: &str = "tests/allowed_ignored.txt";

/// Runs it; the closing line comes last, whatever happens.
pub(crate) fn command(workspace: &Workspace) -> bool {
    let tally = run(workspace).unwrap_or_else(|error| {
        println!("error: {error:#}");
        let mut none = Tally::default();
        none.add_failed(1);
        none
    });
    println!("{}", tally.closing());
    tally.failed() == 0
}

/// Sets up and tests, document examples included; the sum over all runners.
///
/// # Errors
/// If there is no server, or the tests hang.
pub(crate) fn run(workspace: &Workspace) -> Result<Tally> {
    servers::set_up()?;
    let mut tally = Tally::default();
    let success =
        workspace.cargo(&["test", "--locked", "--workspace", "--all-features", "--no-fail-fast"]).lines(|line| {
            println!("{line}");
            tally.line(line);
        })?;
    tally.end(success);
    again::play(workspace, &mut tally)?;
    if !tally.words().is_empty() {
        println!("\nwhat failed, once more:\n{}", tally.words().join("\n"));
    }
    let allowed = fs::read_to_string(workspace.root().join(ALLOWED)).unwrap_or_default();
    let forbidden = tally.forbid_ignored(&Allowed::read(&allowed)?);
    for name in forbidden {
        println!("{name} was ignored and is not in {ALLOWED}");
    }
    Ok(tally)
}
