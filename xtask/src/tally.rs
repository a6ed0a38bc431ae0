//! Adds up what test runners report, and finds tests that did not run.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

/// The sum over all runners of one `cargo test`.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    ignored: BTreeSet<String>,
    /// The names of tests that failed, but for examples in documents.
    broken: Vec<String>,
    /// The names of tests that failed and then passed alone.
    shaky: Vec<String>,
    /// What runners said of the tests that failed.
    words: Vec<String>,
    open: bool,
    tells: bool,
}

/// How many lines of that are kept.
const WORDS: usize = 400;

impl Tally {
    /// Takes note of a line that a runner printed.
    pub(crate) fn line(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.close();
            self.open = true;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.open = false;
            self.tells = false;
        } else if line == "failures:" {
            self.tells = true;
        } else if self.tells {
            if !line.is_empty() && !of_a_backtrace(line) && self.words.len() < WORDS {
                self.words.push(line.to_owned());
            }
        } else if let Some((name, state)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            if state == "ignored" || state.starts_with("ignored,") {
                self.ignored.insert(plain(name).to_owned());
            } else if state == "FAILED" && plain(name) == name.trim() {
                self.broken.push(name.trim().to_owned());
            }
        }
    }

    /// Takes note that all runners ended, and whether cargo said that they succeeded.
    pub(crate) fn end(&mut self, success: bool) {
        self.close();
        if !success && self.failed == 0 {
            // it did not compile, or a runner broke before its first test
            self.failed = 1;
        }
    }

    /// A runner that began and never said how it went was killed or aborted: that is a failure.
    fn close(&mut self) {
        self.failed += u64::from(self.open);
        self.open = false;
        self.tells = false;
    }

    /// The tests that did not run and aren't in `allowed`; each counts as failed.
    pub(crate) fn forbid_ignored(&mut self, allowed: &Allowed) -> Vec<String> {
        let forbidden: Vec<_> = self.ignored.iter().filter(|name| !allowed.has(name)).cloned().collect();
        self.failed += forbidden.len() as u64;
        forbidden
    }

    /// The names of tests that failed, but for examples in documents.
    pub(crate) fn names_of_failed(&self) -> &[String] {
        &self.broken
    }

    /// Counts a failed test as passed: it did when it was alone.
    pub(crate) fn forgive(&mut self, name: &str) {
        self.broken.retain(|broken| broken != name);
        self.failed -= 1;
        self.passed += 1;
        self.shaky.push(name.to_owned());
    }

    /// The tests that failed and then passed alone, as a tail for the sum; empty if there are none.
    pub(crate) fn shaky(&self) -> String {
        if self.shaky.is_empty() { String::new() } else { format!("; shaky: {}", self.shaky.join(", ")) }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored.extend(other.ignored.iter().cloned());
    }

    /// What runners said of the tests that failed.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Adds `n` checks that failed beside the tests.
    pub(crate) const fn add_failed(&mut self, n: u64) {
        self.failed += n;
    }

    /// How many tests passed.
    pub(crate) const fn passed(&self) -> u64 {
        self.passed
    }

    /// How many tests did not run.
    pub(crate) fn ignored(&self) -> usize {
        self.ignored.len()
    }

    /// How many tests failed.
    pub(crate) const fn failed(&self) -> u64 {
        self.failed
    }

    /// The closing line.
    pub(crate) fn closing(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

/// Whether a line is of a backtrace, which says less than it hides.
fn of_a_backtrace(line: &str) -> bool {
    let line = line.trim_start();
    let frame = line.split_once(": ").is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    frame || line.starts_with("at ") || line.starts_with("stack backtrace:") || line.starts_with("note: ")
}

/// A doctest's line number moves with every edit above it, so it isn't part of its name.
fn plain(name: &str) -> &str {
    name.split_once(" (line ").map_or(name, |(plain, _)| plain).trim()
}

/// The number before `word` in `ok. 5 passed; 0 failed; ...`.
fn count(counts: &str, word: &str) -> u64 {
    let mut words = counts.split([' ', ';']).filter(|word| !word.is_empty()).peekable();
    while let Some(number) = words.next() {
        if words.peek() == Some(&word) {
            return number.parse().unwrap_or(0);
        }
    }
    0
}

/// The tests that may be ignored: a name a line, then ` # ` and the reason; a name may end in `*`.
#[derive(Debug, Default)]
pub(crate) struct Allowed(Vec<String>);

impl Allowed {
    /// Reads the list.
    ///
    /// # Errors
    /// If a name has no reason.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut names = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(" # ") {
                Some((name, reason)) if !reason.trim().is_empty() => names.push(plain(name.trim()).to_owned()),
                _ => bail!("say why `{line}` may be ignored: name # reason"),
            }
        }
        Ok(Self(names))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == allowed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally
    }

    const OK: &str = "running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
        test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
    const BAD: &str = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
    const TOLD: &str = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a ----\nit was red\n\nfailures:\n    a\n\n\
        test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\nmore\n";
    const IGNORED: &str = "running 3 tests\ntest a ... ignored, needs a server\ntest b ... ignored\n\
        test src/lib.rs - x::y (line 12) ... ignored\n\
        test result: ok. 0 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    #[test]
    fn runners_are_added_up() {
        let mut sum = tally(&format!("{OK}{BAD}"));
        sum.end(false);
        assert_eq!(sum.closing(), "3 passed, 1 failed");
    }

    #[test]
    fn what_was_said_of_a_failure_is_kept_for_the_end() {
        assert_eq!(tally(&format!("{OK}{TOLD}{OK}")).words(), ["---- a ----", "it was red", "    a"]);
    }

    #[test]
    fn a_backtrace_is_left_out() {
        let told = TOLD.replace(
            "it was red",
            "it was red\nstack backtrace:\n   0: a::b\n             at src/a.rs:1\n  13: c\nnote: run",
        );
        assert_eq!(tally(&told).words(), ["---- a ----", "it was red", "    a"]);
    }

    #[test]
    fn a_test_that_passes_alone_is_forgiven_and_named() {
        let mut sum = tally(&format!("{OK}{}", TOLD.replace("test a ...", "test a::b    ...")));
        assert_eq!((sum.names_of_failed(), sum.shaky().as_str()), (&["a::b".to_owned()][..], ""));
        sum.forgive("a::b");
        assert_eq!((sum.closing(), sum.shaky()), ("3 passed, 0 failed".to_owned(), "; shaky: a::b".to_owned()));
    }

    #[test]
    fn an_example_in_a_document_has_no_name_to_be_asked_for() {
        assert!(tally("test src/lib.rs - x (line 3) ... FAILED\n").names_of_failed().is_empty());
    }

    #[test]
    fn a_runner_that_died_is_a_failure_of_its_own() {
        let dead = "running 1 test\ntest a ...\n";
        for order in [format!("{BAD}{dead}"), format!("{dead}{BAD}")] {
            let mut sum = tally(&order);
            sum.end(false);
            assert_eq!(sum.closing(), "1 passed, 2 failed");
        }
    }

    #[test]
    fn no_tests_at_all_and_an_error_is_a_failure() {
        let mut none = tally("");
        none.end(false);
        assert_eq!(none.closing(), "0 passed, 1 failed");
    }

    #[test]
    fn ignored_tests_fail_unless_allowed() {
        let mut sum = tally(IGNORED);
        let allowed = Allowed::read("# comment\n\na # no such server here\n").unwrap();
        assert_eq!(sum.forbid_ignored(&allowed), ["b", "src/lib.rs - x::y"]);
        assert_eq!(sum.failed(), 2);
        let all = Allowed::read("a # x\nb # x\nsrc/lib.rs - x* # x").unwrap();
        assert!(tally(IGNORED).forbid_ignored(&all).is_empty());
    }

    #[test]
    fn an_allowed_test_needs_a_reason() {
        assert!(Allowed::read("a").is_err());
        assert!(Allowed::read("a # ").is_err());
    }
}
