//! One command for laptop and CI.

mod again;
mod benches;
mod caught;
mod ci;
mod coherence;
mod deny;
mod dependencies;
mod evidence;
mod features;
mod fuzz;
mod hits;
mod imports;
mod interleave;
mod makes;
mod model;
mod msrv;
mod run;
mod servers;
mod simulate;
mod tally;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The tasks of this workspace. CI runs the same ones.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up what the tests need, then run all of them
    Test,
    /// Everything that CI checks, tests included
    Ci {
        /// Only this step; may be given more than once
        #[arg(long = "step", value_name = "NAME")]
        steps: Vec<String>,
    },
    /// Histories over real processes with faults, checked against the guarantees; each rule broken to show it is needed
    Coherence(coherence::Coherence),
    /// The coherence core under a model checker, then every broken rule of it
    Model(model::Model),
    /// Threads of the engine under a scheduler that tries their interleavings; then orders that matter, broken
    Interleave,
    /// Cache life under faults in simulated time, decided by seeds; then every rule that shows there, broken
    Simulate(simulate::Simulate),
    /// Decoders of bytes and text from outside under a coverage-guided fuzzer
    Fuzz(fuzz::Fuzz),
    /// The servers that this machine has, each under the conformance suite and that of the recipes
    Servers(makes::Servers),
    /// Who may import what, by dependency tree and by source
    Imports,
    /// Licences, sources, bans and advisories of all dependencies
    Deny,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<bool> {
    let workspace = Workspace::find()?;
    match command {
        Command::Test => Ok(test::command(&workspace)),
        Command::Ci { steps } => ci::command(&workspace, &steps),
        Command::Coherence(coherence) => coherence::command(&workspace, &coherence),
        Command::Model(model) => model::command(&workspace, &model).map(|()| true),
        Command::Interleave => interleave::check(&workspace).map(told),
        Command::Simulate(simulate) => simulate::command(&workspace, &simulate).map(|()| true),
        Command::Fuzz(fuzz) => fuzz::command(&workspace, &fuzz),
        Command::Servers(servers) => makes::command(&workspace, &servers),
        Command::Imports => imports::check(&workspace).map(told),
        Command::Deny => deny::check(&workspace).map(told),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it ends a chain of results")]
fn told(note: String) -> bool {
    println!("{note}");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
        assert!(Cli::try_parse_from(["xtask", "ci", "--step", "format", "--step", "docs"]).is_ok());
    }
}
