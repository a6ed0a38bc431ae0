//! `cargo xtask ci`: every check, then every test.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{benches, deny, dependencies, features, fuzz, hits, imports, interleave, model, msrv, simulate, test};

/// A check with a name for the table; it returns what it looked at, in a few words.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Workspace) -> Result<String>,
}

/// Cheap ones first. The tests come after the last.
const STEPS: &[Step] = &[
    Step { name: "format", what: "sources are formatted", run: format },
    Step { name: "imports", what: "everybody imports only what they may", run: imports::check },
    Step { name: "papers", what: "each dependency has its line in docs/dependencies.md", run: dependencies::check },
    Step { name: "msrv", what: "the stated Rust version is enough", run: msrv::check },
    Step { name: "lints", what: "no warning from rustc or clippy", run: lints },
    Step { name: "features", what: "each feature alone builds without a warning", run: features::check },
    Step { name: "docs", what: "documentation builds without a warning", run: docs },
    Step { name: "deny", what: "licences, sources and bans of dependencies", run: deny::check },
    Step { name: "model", what: "the coherence core is model-checked, and each broken rule shows", run: model },
    Step { name: "interleave", what: "threads keep the promises in every order tried", run: interleave::check },
    Step { name: "simulation", what: "cache life in simulated time keeps its promises", run: simulate::check },
    Step { name: "fuzz", what: "decoders hold under a fuzzer for a moment", run: fuzz::check },
    Step { name: "hits", what: "a near hit costs no more instructions than it may", run: hits::check },
    Step { name: "benches", what: "each bench builds and runs once", run: benches::check },
];

const TESTS: &str = "tests";

/// Runs the steps that `only` names, or all; prints a table and then the closing line.
///
/// # Errors
/// If `only` names a step that there isn't.
pub(crate) fn command(workspace: &Workspace, only: &[String]) -> Result<bool> {
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).chain([TESTS]).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no step {unknown}; the steps are {}", known.join(", "));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let mut table = Table::default();
    for step in STEPS.iter().filter(|step| wanted(step.name)) {
        table.run(step.name, step.what, || (step.run)(workspace));
    }
    let mut tally = Tally::default();
    // each check that failed counts as one failure; failed tests are counted one by one
    tally.add_failed(table.failed);
    if wanted(TESTS) {
        table.run(TESTS, "all tests, document examples included", || {
            let tests = test::run(workspace);
            match &tests {
                Ok(tests) => tally.add(tests),
                Err(_) => tally.add_failed(1),
            }
            let tests = tests?;
            if tests.failed() > 0 { bail!(tests.closing()) } else { Ok(tests.closing()) }
        });
    }
    println!("\n{}\n{}", table.text(), tally.closing());
    Ok(tally.failed() == 0)
}

fn model(workspace: &Workspace) -> Result<String> {
    model::command(workspace, &model::Model::default()).map(|()| "no violation, every broken rule shows".into())
}

/// What each step came to.
#[derive(Default)]
struct Table {
    rows: Vec<(&'static str, bool, Duration, String)>,
    failed: u64,
    total: Duration,
}

impl Table {
    fn run(&mut self, name: &'static str, what: &str, step: impl FnOnce() -> Result<String>) {
        println!("\n== {name}: {what}");
        let start = Instant::now();
        let result = step();
        let took = start.elapsed();
        let (ok, note) = match result {
            Ok(note) => (true, note),
            Err(error) => (false, format!("{error:#}")),
        };
        println!("== {name}: {note}");
        self.failed += u64::from(!ok);
        self.total += took;
        self.rows.push((name, ok, took, note));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, ok, took, note) in &self.rows {
            let verdict = if *ok { "ok" } else { "FAILED" };
            let note = note.lines().next().unwrap_or_default();
            let _ = writeln!(text, "{name:<10} {verdict:<7} {:>7.1} s  {note}", took.as_secs_f64());
        }
        let _ = writeln!(text, "{:<10} {:<7} {:>7.1} s", "all", "", self.total.as_secs_f64());
        text
    }
}

fn format(workspace: &Workspace) -> Result<String> {
    workspace.cargo(&["fmt", "--all", "--check"]).stream()?;
    Ok("all sources are formatted".into())
}

fn lints(workspace: &Workspace) -> Result<String> {
    let all = ["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    workspace.cargo(&all).stream()?;
    Ok("no warnings".into())
}

fn docs(workspace: &Workspace) -> Result<String> {
    let all = ["doc", "--locked", "--workspace", "--no-deps", "--all-features", "--document-private-items"];
    workspace.cargo(&all).env("RUSTDOCFLAGS", "-Dwarnings").stream()?;
    Ok("no warnings".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_failed() {
        let mut table = Table::default();
        table.run("a", "", || Ok("fine".into()));
        table.run("b", "", || bail!("broken\nsecond line"));
        assert_eq!(table.failed, 1);
        let text = table.text();
        assert!(text.contains("a          ok") && text.contains("fine"), "{text}");
        assert!(text.contains("b          FAILED") && text.contains("broken") && !text.contains("second"), "{text}");
    }

    #[test]
    fn an_unknown_step_is_refused_before_anything_runs() {
        let nowhere = Workspace::at(std::path::Path::new("/nonexistent"));
        assert!(command(&nowhere, &["no-such-step".into()]).is_err());
    }
}
