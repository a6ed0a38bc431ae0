//! Model-checks the coherence core, then breaks its rules one by one and looks whether each breakage shows.

use std::num::NonZeroUsize;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use cache_tiered::coherence::mutate::Mutation;
use clap::Parser;
use strata_proof::run::{self, Tally};
use strata_proof::table;

/// Model-checks the coherence core and every mutation of it.
#[derive(Debug, Parser)]
struct Cli {
    /// The larger runs too: tens of millions of states
    #[arg(long)]
    nightly: bool,
    /// Only this clean run
    #[arg(long, value_name = "NAME", conflicts_with = "mutation")]
    only: Option<String>,
    /// Only this broken rule
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// Print the steps to a violation
    #[arg(long)]
    trace: bool,
    /// How many threads look
    #[arg(long, default_value = "2")]
    threads: NonZeroUsize,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    if let Some(name) = &cli.mutation {
        return run::mutation(name, cli.threads, cli.trace);
    }
    let mut tally = Tally::default();
    if let Some(name) = &cli.only {
        let all = table::QUICK.iter().chain(table::NIGHTLY);
        let Some(config) = all.copied().find(|config| config.name == name) else {
            bail!("there is no run {name}");
        };
        run::clean(&[config], cli.threads, &mut tally);
        return Ok(tally.is_good());
    }
    run::clean(table::QUICK, cli.threads, &mut tally);
    if cli.nightly {
        run::clean(table::NIGHTLY, cli.threads, &mut tally);
    }
    run::vacuity(cli.threads, &mut tally);
    for mutation in Mutation::ALL {
        tally.mutations += 1;
        tally.caught += usize::from(in_its_own_process(*mutation, cli)?);
    }
    println!("{}", tally.closing());
    Ok(tally.is_good())
}

/// A broken rule is broken for the whole process, so each gets its own.
fn in_its_own_process(mutation: Mutation, cli: &Cli) -> Result<bool> {
    let mut command = Command::new(std::env::current_exe().context("this program has no path")?);
    command.args(["--mutation", &format!("{mutation:?}"), "--threads", &cli.threads.to_string()]);
    if cli.trace {
        command.arg("--trace");
    }
    Ok(command.status().with_context(|| format!("can't run {mutation:?}"))?.success())
}
