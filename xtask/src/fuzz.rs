//! Decoders under a coverage-guided fuzzer, on the stable toolchain.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::run::{Run, on_path};
use crate::servers;
use crate::workspace::Workspace;

/// What the compiler adds so that the fuzzer sees which branches an input takes and what it is compared with.
const COVERAGE: &[&str] = &[
    "--cfg=strata_fuzz",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// An input that takes longer counts as a crash.
const TIMEOUT: u32 = 10;
/// So does one that takes more memory, in MiB.
const MEMORY: u32 = 512;
/// The longest input in bytes.
const LENGTH: u32 = 4096;
const BUILD: Duration = Duration::from_secs(20 * 60);
/// Beyond the time that it was given: to load the corpus and to end.
const SLACK: Duration = Duration::from_secs(120);

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// For how many seconds, all targets together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Keep the inputs that reach something new in the repository's corpus
    #[arg(long)]
    keep: bool,
}

/// Fuzzes every target in turn; a table, then the sum. `false` if anything crashed.
///
/// # Errors
/// If the fuzzer does not build or run.
pub(crate) fn command(workspace: &Workspace, fuzz: &Fuzz) -> Result<bool> {
    let played = play(workspace, fuzz)?;
    println!("{:<12} {:>12} {:>9} {:>8}  crashes", "target", "execs", "branches", "inputs");
    for row in &played {
        let crash = row.crash.as_ref().map_or_else(|| "none".into(), |path| path.display().to_string());
        println!("{:<12} {:>12} {:>9} {:>8}  {crash}", row.target, row.execs, row.branches, row.inputs);
    }
    println!("{}", closing(&played));
    Ok(played.iter().all(|row| row.crash.is_none()))
}

/// The short run of CI.
///
/// # Errors
/// If anything crashed, or the fuzzer does not build.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    if !on_path("c++") && !servers::install_if_possible("g++") {
        return Ok("NOT fuzzed: a C++ compiler is not on the path; the kept corpus is played by the tests".into());
    }
    let played = play(workspace, &Fuzz { seconds: 20, target: None, keep: false })?;
    let crashes: Vec<String> =
        played.iter().filter_map(|row| row.crash.as_ref().map(|path| path.display().to_string())).collect();
    ensure!(crashes.is_empty(), "{}; the inputs are {}", closing(&played), crashes.join(", "));
    Ok(closing(&played))
}

fn closing(played: &[Played]) -> String {
    let execs: u64 = played.iter().map(|row| row.execs).sum();
    format!("execs={execs} crashes={}", played.iter().filter(|row| row.crash.is_some()).count())
}

/// What became of a target.
struct Played {
    target: String,
    execs: u64,
    branches: u64,
    inputs: u64,
    /// The input that crashed it.
    crash: Option<PathBuf>,
}

fn play(workspace: &Workspace, fuzz: &Fuzz) -> Result<Vec<Played>> {
    let engine = build(workspace)?;
    let dir = workspace.root().join("target/fuzz");
    let helper = |args: &[&str]| {
        let run = ["run", "--quiet", "--locked", "--package", "strata-fuzz", "--"];
        workspace.cargo(&[&run, args].concat()).output()
    };
    let known = helper(&["targets"])?;
    let targets: Vec<&str> = match &fuzz.target {
        Some(one) => known.lines().filter(|name| name == one).collect(),
        None => known.lines().collect(),
    };
    ensure!(!targets.is_empty(), "there is no such target; there are {}", known.lines().collect::<Vec<_>>().join(", "));
    let share = (fuzz.seconds / targets.len() as u64).max(1);
    let mut played = Vec::new();
    for target in targets {
        let corpus = dir.join("corpus").join(target);
        let crashes = dir.join("crashes").join(target);
        for dir in [&corpus, &crashes] {
            fs::create_dir_all(dir)?;
        }
        helper(&["unpack", target, text(&corpus)?])?;
        let row = run(&engine, target, &corpus, &crashes, share)?;
        if fuzz.keep && row.crash.is_none() {
            let merged = dir.join("merged").join(target);
            let _ = fs::remove_dir_all(&merged);
            fs::create_dir_all(&merged)?;
            let merge = ["-merge=1", "-max_len=512", text(&merged)?, text(&corpus)?];
            Run::new(&engine, merge).env("STRATA_FUZZ", target).for_at_most(BUILD).lines(|_| ())?;
            let kept = helper(&["pack", target, text(&merged)?])?;
            println!("{target}: {} inputs kept", kept.trim());
        }
        played.push(row);
    }
    Ok(played)
}

/// Builds the engine; for a named target, so that build scripts are compiled without the additions.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Run::new(rustc, ["-vV"]).within(workspace.root()).output()?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not tell its host")?;
    let args = ["build", "--locked", "--profile", "fuzz", "--package", "strata-fuzz", "--target", host];
    workspace
        .cargo(&[&args[..], &["--target-dir", "target/fuzz/build"]].concat())
        .env("CARGO_ENCODED_RUSTFLAGS", &COVERAGE.join("\u{1f}"))
        .for_at_most(BUILD)
        .stream()?;
    Ok(workspace.root().join("target/fuzz/build").join(host).join("fuzz/strata-fuzz"))
}

fn run(engine: &Path, target: &str, corpus: &Path, crashes: &Path, seconds: u64) -> Result<Played> {
    let before = newest(crashes)?;
    let mut args = vec![format!("-max_total_time={seconds}"), "-print_final_stats=1".into(), "-verbosity=1".into()];
    args.extend([format!("-timeout={TIMEOUT}"), format!("-rss_limit_mb={MEMORY}"), format!("-max_len={LENGTH}")]);
    args.push(format!("-artifact_prefix={}/", text(crashes)?));
    args.push(text(corpus)?.to_owned());
    let mut row = Played { target: target.to_owned(), execs: 0, branches: 0, inputs: 0, crash: None };
    let limit = Duration::from_secs(seconds) + SLACK;
    let mut tail = Vec::new();
    // what it says goes to standard error
    let mut command = vec!["-c".to_owned(), "exec \"$0\" \"$@\" 2>&1".to_owned(), text(engine)?.to_owned()];
    command.extend(args);
    let ended = Run::new("sh", command).env("STRATA_FUZZ", target).for_at_most(limit).lines(|line| {
        read(&mut row, line);
        tail.push(line.to_owned());
        if tail.len() > 40 {
            tail.remove(0);
        }
    })?;
    if !ended {
        row.crash = newest(crashes)?.filter(|crash| Some(crash) != before.as_ref());
        println!("{}", tail.join("\n"));
        if row.crash.is_none() {
            bail!("{target} ended without saying on which input");
        }
    }
    Ok(row)
}

/// Takes the figures from a line of the fuzzer.
fn read(row: &mut Played, line: &str) {
    if let Some(execs) = line.strip_prefix("stat::number_of_executed_units:") {
        row.execs = execs.trim().parse().unwrap_or(row.execs);
        return;
    }
    // #1234 NEW    cov: 56 ft: 78 corp: 9/10b ...
    let Some(rest) = line.strip_prefix('#') else { return };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
    let number = |text: Option<&&str>| text.and_then(|text| text.split('/').next()?.parse().ok());
    row.execs = number(words.first()).unwrap_or(row.execs).max(row.execs);
    row.branches = number(after("cov:")).unwrap_or(row.branches);
    row.inputs = number(after("corp:")).unwrap_or(row.inputs);
}

fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    Ok(files.into_iter().max().map(|(_, path)| path))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the workspace's path is not valid utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_figures_are_read() {
        let mut row = Played { target: "t".into(), execs: 0, branches: 0, inputs: 0, crash: None };
        read(&mut row, "#1024\tNEW    cov: 56 ft: 78 corp: 9/10b lim: 4 exec/s: 0 rss: 30Mb");
        assert_eq!((row.execs, row.branches, row.inputs), (1024, 56, 9));
        read(&mut row, "INFO: seed corpus");
        read(&mut row, "stat::number_of_executed_units: 4096");
        assert_eq!((row.execs, row.branches), (4096, 56));
        row.crash = Some("x".into());
        assert_eq!(closing(&[row]), "execs=4096 crashes=1");
    }
}
