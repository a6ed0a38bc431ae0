//! What the other drivers stand on works: processes, the counting origin, the list of tests that may be ignored.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use strata_tests::allowed::Allowed;
use strata_tests::origin::Origin;
use strata_tests::process::{Process, role};

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Some(role) = role() {
        return echo(&role);
    }
    let tests = vec![
        Trial::test("a_process_answers_in_its_role", a_process_answers_in_its_role),
        Trial::test("a_process_ends_when_told_and_when_dropped", a_process_ends_when_told_and_when_dropped),
        Trial::test("the_origin_counts_loads_and_versions", the_origin_counts_loads_and_versions),
        Trial::test("the_allowed_list_is_kept_in_both_directions", the_allowed_list_is_kept_in_both_directions),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// The other process: says back what it is told, with its role and setting before it.
fn echo(role: &str) -> ExitCode {
    let setting = std::env::var("SETTING").unwrap_or_default();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        println!("{role} {setting} {line}");
    }
    ExitCode::SUCCESS
}

fn a_process_answers_in_its_role() -> Result<(), Failed> {
    let mut one = Process::spawn("one", [("SETTING", "x")])?;
    let mut two = Process::spawn("two", [("SETTING", "y")])?;
    assert_ne!(one.id(), two.id());
    for word in ["hello", "again"] {
        one.send(word)?;
        two.send(word)?;
        assert_eq!(one.line(PATIENCE)?, Some(format!("one x {word}")));
        assert_eq!(two.line(PATIENCE)?, Some(format!("two y {word}")));
    }
    let silent = one.line(Duration::from_millis(20));
    assert_eq!(silent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    Ok(())
}

fn a_process_ends_when_told_and_when_dropped() -> Result<(), Failed> {
    let mut process = Process::spawn("one", [("SETTING", "x")])?;
    process.kill()?;
    assert_eq!(process.line(PATIENCE)?, None);
    let process = Process::spawn("one", [("SETTING", "x")])?;
    let status = format!("/proc/{}/stat", process.id());
    drop(process);
    assert!(!std::path::Path::new(&status).exists(), "the process outlived its handle");
    Ok(())
}

fn the_origin_counts_loads_and_versions() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let origin = Origin::default();
        let old = origin.load(Duration::from_secs(1));
        tokio::pin!(old);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut old).await.is_err());
        assert_eq!(origin.commit(), 1);
        assert_eq!(old.await, 0, "a load answers with what was there when it began");
        assert_eq!((origin.load(Duration::ZERO).await, origin.version(), origin.loads()), (1, 1, 2));
    });
    Ok(())
}

fn the_allowed_list_is_kept_in_both_directions() -> Result<(), Failed> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let allowed = Allowed::parse("# a comment\n\na::x::* # reason\na::y::one # reason\nelse::z # reason\n")?;
    let rows = names(&["a", "b"]);
    assert!(allowed.faults(&names(&["a::x::1", "a::x::2", "a::y::one"]), &rows).is_empty());
    assert_eq!(allowed.faults(&names(&["a::x::1", "a::y::one", "b::x"]), &rows).len(), 1, "b::x is not listed");
    assert_eq!(allowed.faults(&names(&["a::x::1"]), &rows).len(), 1, "a::y::one is not ignored any more");
    assert!(Allowed::parse("a::b").is_err(), "a reason must be given");
    Ok(())
}
