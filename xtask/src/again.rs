//! Plays failed tests again, each alone: tells what a busy machine spoilt from what is broken.
//!
//! Thousands of tests talk to real servers in real time, on machines that stand still for a second now and then. A test
//! that fails among all others and then passes [`PLAYS`] times alone is passed, and named as shaky wherever the sum is
//! shown; one that fails again, or more than [`FEW`] at once, stay failed. `docs/decisions/0048-*` says why.

use anyhow::Result;

use crate::tally::Tally;
use crate::workspace::Workspace;

/// How often a failed test has to pass alone.
const PLAYS: usize = 3;
/// More failures than this are no accident.
const FEW: usize = 3;

/// Plays what failed in `tally` again, and takes from its failures what passes each time.
///
/// # Errors
/// If cargo can't be started or hangs.
pub(crate) fn play(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    // a runner that died, or an example in a document, has no name that could be asked for
    let names = tally.names_of_failed().to_vec();
    if names.is_empty() || names.len() > FEW || names.len() as u64 != tally.failed() {
        return Ok(());
    }
    for name in names {
        println!("\nonce more, alone: {name}");
        let mut passes = 0;
        while passes < PLAYS && passes_alone(workspace, &name)? {
            passes += 1;
        }
        println!("{name} passed {passes} of {PLAYS} times alone");
        if passes == PLAYS {
            tally.forgive(&name);
        }
    }
    Ok(())
}

fn passes_alone(workspace: &Workspace, name: &str) -> Result<bool> {
    let args =
        ["test", "--locked", "--workspace", "--all-features", "--no-fail-fast", "--tests", "--", "--exact", name];
    let mut alone = Tally::default();
    let success = workspace.cargo(&args).lines(|line| alone.line(line))?;
    alone.words().iter().for_each(|line| println!("{line}"));
    Ok(success && alone.passed() > 0 && alone.failed() == 0)
}
