//! The conformance suite over every backend and wrapper: one test for each row and case.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use cache_core::memory::{LocalMemory, Memory};
use cache_core::testkit::{Chaos, Subject};
use cache_core::{CacheService, LocalStore};
use libtest_mimic::{Arguments, Failed, Trial};
use strata_tests::allowed::Allowed;
use tokio::runtime::Runtime;

/// The stores under test. A row is a name and a subject; its cases show as `name::subject::case`.
fn rows() -> Vec<(&'static str, Subject)> {
    let mut rows = Vec::new();

    let memory = Memory::new();
    rows.push(("memory", Subject::new(memory.clone()).with_second(memory).with_local(local_memory)));
    rows.push(("arc_memory", Subject::new(shared(Memory::new()))));
    rows.push(("chaos_memory", Subject::new(Chaos::new(Memory::new()))));
    rows
}

fn shared(store: impl CacheService) -> Arc<dyn CacheService> {
    Arc::new(store)
}

fn local_memory(budget: u64) -> Arc<dyn LocalStore> {
    Arc::new(LocalMemory::new(budget))
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let rows = {
        let _inside = runtime.enter();
        rows()
    };
    let mut ignored = BTreeMap::new();
    let mut tests = Vec::new();
    for (row, subject) in &rows {
        for trial in subject.trials() {
            let name = format!("{row}::{}", trial.name());
            let reason = trial.ignored();
            if let Some(reason) = reason {
                ignored.insert(name.clone(), reason);
            }
            let runtime = Arc::clone(&runtime);
            let test = Trial::test(name, move || runtime.block_on(trial.run()).map_err(Failed::from));
            tests.push(test.with_ignored_flag(reason.is_some()));
        }
    }
    if !arguments.list {
        // the harness has no place for a reason
        ignored.iter().for_each(|(name, reason)| println!("{name} can't run: {reason}"));
    }
    let names = rows.iter().map(|(row, _)| (*row).to_owned()).collect();
    tests.push(Trial::test("driver::ignored_cases_are_the_allowed_ones", move || {
        let faults = Allowed::parse(include_str!("allowed_ignored.txt")).faults(&ignored.into_keys().collect(), &names);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
    }));
    let conclusion = libtest_mimic::run(&arguments, tests);
    drop(rows);
    conclusion.exit_code()
}
