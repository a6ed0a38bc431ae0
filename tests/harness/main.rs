//! Histories over real processes and a real server, with faults, checked exactly.
//!
//! Each process stands behind its own TCP proxy. The origin is a counter a key, so every value is a version. The same
//! binary is the controller and, in the role `node`, a process of a history.

#![expect(clippy::future_not_send, reason = "the controller is one future on one thread")]

mod broken;
mod check;
mod excuse;
mod faults;
mod keys;
mod loads;
mod node;
mod origin;
mod reader;
mod record;
mod results;
mod scene;
mod settings;
mod takeover;
mod topology;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use cache_core::testkit::history::Report;
use clap::Parser;

use crate::check::Findings;
use crate::faults::Fault;
use crate::results::Results;
use crate::scene::{Plan, play};
use crate::topology::Layout;

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
    /// After that, break each rule of the harness's list in this many histories, half as long.
    #[arg(long, default_value_t = 0)]
    mutations: u32,
    /// Write the results to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// How the far store is laid out.
    #[arg(long, value_enum, default_value_t = Layout::Standalone)]
    topology: Layout,
}

fn main() -> Result<()> {
    if strata_tests::process::role().as_deref() == Some("node") {
        return node::run();
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let results = runtime.block_on(run(&arguments))?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&results)?)?;
    }
    // whoever asked for a file adds to it what the model says, and sums up
    if arguments.json.is_none() {
        println!("{results}");
    }
    let expected = arguments.mutation.is_some();
    if (results.violations > 0 && !expected) || results.mutations.iter().any(|row| !row.is_caught()) {
        std::process::exit(1);
    }
    Ok(())
}

async fn run(arguments: &Arguments) -> Result<Results> {
    let all = Fault::of(arguments.topology);
    let kinds: Vec<Fault> = match &arguments.fault {
        Some(name) => all.iter().copied().filter(|fault| format!("{fault:?}").eq_ignore_ascii_case(name)).collect(),
        None => all.to_vec(),
    };
    anyhow::ensure!(!kinds.is_empty(), "no such fault; the kinds are {all:?}");
    let mut results = Results::new(arguments.bound, arguments.outage);
    println!(
        "{:<31} {:>6} {:>9} {:>7} {:>11} {:>6} {:>6} {:>6} {:>6} {:>11}",
        "fault", "seed", "reads", "writes", "worst/D ms", "> D", "own", "back", "end", "loads/write"
    );
    for (seed, fault) in (arguments.seed..).zip(kinds.iter().cycle()).take(arguments.histories as usize) {
        let plan = plan(arguments, *fault, seed, arguments.mutation.clone());
        let findings = play(&plan).await?;
        print(&plan, &findings);
        results.add(*fault, &findings);
    }
    if arguments.mutations > 0 {
        for (mutation, fault) in broken::shown(arguments.topology) {
            let mut caught = 0;
            for seed in (arguments.seed..).take(arguments.mutations as usize) {
                let mut broken = plan(arguments, *fault, seed, Some((*mutation).to_owned()));
                // what a broken rule does shows soon
                broken.seconds = arguments.seconds / 2.0;
                let findings = play(&broken).await?;
                caught += u32::from(findings.incoherent() > 0);
            }
            println!("{mutation:<31} {:<31} caught in {caught} of {}", fault.name(), arguments.mutations);
            results.mutated(mutation, *fault, arguments.mutations, caught);
        }
    }
    Ok(results)
}

fn plan(arguments: &Arguments, fault: Fault, seed: u64, mutation: Option<String>) -> Plan {
    Plan {
        fault,
        seed,
        seconds: arguments.seconds,
        nodes: arguments.nodes,
        bound: Duration::from_millis(arguments.bound),
        outage: Duration::from_millis(arguments.outage),
        mutation,
        layout: arguments.topology,
    }
}

fn print(plan: &Plan, findings: &Findings) {
    let Report { reads, acknowledged, bound, own_write, monotonic, oldest, .. } = &findings.report;
    println!(
        "{:<31} {:>6} {:>9} {:>7} {:>6}/{:<4} {:>6} {:>6} {:>6} {:>6} {:>6.2} {:>4.1}",
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
        findings.loads.each(),
        findings.loads.most,
    );
    if findings.overloaded > 0 {
        println!("    {} keys were loaded too often", findings.overloaded);
    }
    for (rule, broken) in [("bound", bound), ("own write", own_write), ("monotonic", monotonic)] {
        if let Some(first) = &broken.first {
            println!("    {rule}: worst {:?}, first {first:?}", broken.worst);
        }
    }
    for takeover in &findings.takeovers {
        let (took, stale, window) = (takeover.took().as_millis(), takeover.stale, takeover.window().as_millis());
        let met = (takeover.met - takeover.done) / 1_000_000;
        let told = if stale == 0 { "no stale read".into() } else { format!("{stale} stale reads within {window} ms") };
        println!("    {took} ms until a new server was there, {met} ms more until all had met it; {told}");
    }
    if !findings.takeovers.is_empty() {
        let (judged, lasted) = (findings.judged.as_secs_f64(), findings.lasted.as_secs_f64());
        println!("    {} reads could have been excused; {judged:.1} of {lasted:.1} s could not", findings.excusable);
    }
    if findings.unexcused > 0 {
        println!("    {} reads that nothing excuses", findings.unexcused);
    }
    for line in findings.leftovers.iter().take(3) {
        println!("    {line}");
    }
}
