//! Deterministic simulation: the shipped engine and its tokio driver under simulated time, network and server. A seed
//! decides everything.

mod broken;
mod faults;
mod net;
mod night;
mod oracle;
mod origin;
mod plan;
mod process;
mod reader;
mod run;
mod scene;
mod time;
mod verdict;
mod world;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::plan::Plan;
use crate::world::Failover;

/// Plays cache life under faults in simulated time and checks every read.
#[derive(Debug, Parser)]
struct Cli {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// This seed alone, with all that came of it
    #[arg(long, env = "STRATA_SEED")]
    seed: Option<u64>,
    /// In how many seeds at most each broken rule has to show
    #[arg(long, default_value_t = 160)]
    mutations: u64,
    /// The bad night, with one feature more at a time, instead
    #[arg(long)]
    night: bool,
    /// The paper that the night's table is written into
    #[arg(long, value_name = "PATH", requires = "night")]
    write: Option<PathBuf>,
    /// This rule alone, broken
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// How long each simulation is, in simulated seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many simulations at once
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// How many notes are shown of what led to a violation.
const STEPS: usize = 40;

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
    if cli.night {
        return night::command(cli.write.as_deref()).map(|()| true);
    }
    let span = Duration::from_secs(cli.seconds);
    if let Some(seed) = cli.seed {
        let plan = Plan::of(seed, span);
        println!("{plan:#?}");
        let findings = scene::play(plan)?;
        let led_to = findings.led_to();
        for noted in led_to.iter().skip(led_to.len().saturating_sub(STEPS)) {
            println!("{noted}");
        }
        for Failover { from, until } in &findings.failovers {
            println!("a failover from {:.6} to {:.6} ms", *from as f64 / 1e6, *until as f64 / 1e6);
        }
        println!("{findings}\nhistory {:016x}, violations={}", findings.hash, findings.violations());
        return Ok(findings.violations() == 0);
    }
    if let Some(name) = &cli.mutation {
        return broken::one(broken::named(name)?, cli.mutations, span, cli.threads);
    }
    let sum = run::seeds(cli.first, cli.seeds, span, cli.threads, false)?;
    println!("the oldest value that was served was {:?} old; {} were fallbacks", sum.oldest, sum.fallbacks);
    println!(
        "what a failover had lost was served for {:?} at most; {} reads saw puts of unknown end",
        sum.replayed, sum.loose
    );
    let (mutations, caught) = broken::all(cli.mutations, span, cli.threads)?;
    println!("{} mutations={mutations} caught={caught}", sum.closing());
    Ok(sum.violations == 0 && mutations == caught)
}
