//! Histories over real processes and a real server, with faults, checked exactly.
//!
//! Each process stands behind its own TCP proxy. The origin is a counter a key, so every value is a version. The same
//! binary is the controller and, in the role `node`, a process of a history.

mod check;
mod faults;
mod node;
mod origin;
mod record;
mod scene;
mod settings;
mod topology;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use cache_core::testkit::history::Report;
use clap::Parser;

use crate::check::Findings;
use crate::faults::Fault;
use crate::scene::{Plan, play};

/// Plays histories and prints what they show.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many histories.
    #[arg(long, default_value_t = 20)]
    histories: u32,
    /// How long each is, in seconds.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// How many processes each has.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// The bound D in milliseconds.
    #[arg(long, default_value_t = 600)]
    bound: u64,
    /// The outage window in milliseconds; 0 is strict.
    #[arg(long, default_value_t = 0)]
    outage: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this kind of fault.
    #[arg(long)]
    fault: Option<String>,
    /// Break this rule; the histories must show it.
    #[arg(long)]
    mutation: Option<String>,
    /// The server's binary.
    #[arg(long)]
    server: Option<PathBuf>,
}

fn main() -> Result<()> {
    if strata_tests::process::role().as_deref() == Some("node") {
        return node::run();
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let violations = runtime.block_on(run(&arguments))?;
    if violations > 0 && arguments.mutation.is_none() {
        std::process::exit(1);
    }
    Ok(())
}

async fn run(arguments: &Arguments) -> Result<u64> {
    let kinds: Vec<Fault> = match &arguments.fault {
        Some(name) => {
            Fault::ALL.iter().copied().filter(|fault| format!("{fault:?}").eq_ignore_ascii_case(name)).collect()
        }
        None => Fault::ALL.to_vec(),
    };
    anyhow::ensure!(!kinds.is_empty(), "no such fault; the kinds are {:?}", Fault::ALL);
    let (mut reads, mut violations, mut caught) = (0, 0, 0);
    println!(
        "{:<31} {:>6} {:>9} {:>7} {:>11} {:>6} {:>6} {:>6} {:>6}",
        "fault", "seed", "reads", "writes", "worst/D ms", "> D", "own", "back", "end"
    );
    for (seed, fault) in (arguments.seed..).zip(kinds.iter().cycle()).take(arguments.histories as usize) {
        let plan = Plan {
            fault: *fault,
            seed,
            seconds: arguments.seconds,
            nodes: arguments.nodes,
            bound: Duration::from_millis(arguments.bound),
            outage: Duration::from_millis(arguments.outage),
            mutation: arguments.mutation.clone(),
            server: arguments.server.clone(),
        };
        let findings = play(&plan).await?;
        print(&plan, &findings);
        reads += findings.report.reads;
        violations += findings.violations();
        caught += u32::from(findings.violations() > 0);
    }
    match &arguments.mutation {
        None => println!("histories={} reads={reads} violations={violations}", arguments.histories),
        Some(name) => println!("mutation={name} histories={} caught={caught}", arguments.histories),
    }
    Ok(violations)
}

fn print(plan: &Plan, findings: &Findings) {
    let Report { reads, acknowledged, bound, own_write, monotonic, oldest, .. } = &findings.report;
    println!(
        "{:<31} {:>6} {:>9} {:>7} {:>6}/{:<4} {:>6} {:>6} {:>6} {:>6}",
        plan.fault.name(),
        plan.seed,
        reads,
        acknowledged,
        oldest.as_millis(),
        plan.bound.as_millis(),
        bound.count,
        own_write.count,
        monotonic.count,
        findings.unequal,
    );
    for (rule, broken) in [("bound", bound), ("own write", own_write), ("monotonic", monotonic)] {
        if let Some(first) = &broken.first {
            println!("    {rule}: worst {:?}, first {first:?}", broken.worst);
        }
    }
    for line in findings.leftovers.iter().take(3) {
        println!("    {line}");
    }
}
