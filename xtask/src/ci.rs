//! `cargo xtask ci`: every check, then every test.

use std::fmt::Write as _;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Result, bail};

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{benches, deny, dependencies, features, fuzz, hits, imports, interleave, model, msrv, simulate, test};

/// A check with a name for the table; it returns what it looked at, in a few words.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Workspace) -> Result<String>,
    /// A directory below `target` that no later step reads.
    leaves: Option<&'static str>,
}

impl Step {
    const fn new(name: &'static str, what: &'static str, run: fn(&Workspace) -> Result<String>) -> Self {
        Self { name, what, run, leaves: None }
    }

    const fn leaving(self, dir: &'static str) -> Self {
        Self { leaves: Some(dir), ..self }
    }

    /// Removes what it built for itself: a run from nothing must fit a small disk.
    fn sweep(&self, workspace: &Workspace) {
        if let Some(dir) = self.leaves {
            let _ = fs::remove_dir_all(workspace.root().join("target").join(dir));
        }
    }
}

/// Cheap ones first. The tests come after the last.
const STEPS: &[Step] = &[
    Step::new("format", "sources are formatted", format),
    Step::new("imports", "everybody imports only what they may", imports::check),
    Step::new("papers", "each dependency has its line in docs/dependencies.md", dependencies::check),
    Step::new("msrv", "the stated Rust version is enough", msrv::check),
    Step::new("lints", "no warning from rustc or clippy", lints),
    Step::new("features", "each feature alone builds without a warning", features::check),
    Step::new("docs", "documentation builds without a warning", docs).leaving("doc"),
    Step::new("deny", "licences, sources and bans of dependencies", deny::check),
    Step::new("model", "the coherence core is model-checked, and each broken rule shows", model),
    Step::new("interleave", "threads keep the promises in every order tried", interleave::check).leaving("interleave"),
    Step::new("simulation", "cache life in simulated time keeps its promises", simulate::check).leaving("proof"),
    Step::new("fuzz", "decoders hold under a fuzzer for a moment", fuzz::check).leaving("fuzz"),
    Step::new("hits", "a near hit costs no more instructions than it may", hits::check).leaving("release"),
    Step::new("benches", "each bench builds and runs once", benches::check),
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
        if env::var_os("CI").is_some() {
            step.sweep(workspace);
        }
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
            let sum = tests.closing() + &tests.shaky();
            if tests.failed() > 0 { bail!(sum) } else { Ok(sum) }
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
