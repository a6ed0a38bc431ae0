//! Runs cases: one by one for a test harness, or all at once for a backend's own test.

use std::fmt;
use std::time::Duration;

use super::{CASES, Case, Context, Subject};
use crate::CacheService;

/// The longest that one case may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// One case over one subject.
#[derive(Clone, Debug)]
pub struct Trial {
    case: &'static Case,
    subject: Subject,
}

impl Trial {
    pub(super) fn new(case: &'static Case, subject: Subject) -> Self {
        Self { case, subject }
    }

    /// The case.
    #[must_use]
    pub fn case(&self) -> &'static Case {
        self.case
    }

    /// `subject::name`, as [`Case::path`].
    #[must_use]
    pub fn name(&self) -> String {
        self.case.path()
    }

    /// Why the case can't run on this subject; show it as ignored.
    #[must_use]
    pub fn ignored(&self) -> Option<&'static str> {
        self.case.missing(&self.subject)
    }

    /// Runs the case in a task of its own, then the subject's audit. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// What was wrong: the failed assertion, a missing capability, 60 seconds without an end, or the audit's finding.
    pub async fn run(self) -> Result<(), String> {
        if let Some(reason) = self.ignored() {
            return Err(reason.to_owned());
        }
        let context = Context::new(self.subject.clone());
        let id = context.id().to_owned();
        alone((self.case.run)(context)).await?;
        self.subject.audit(id).await
    }
}

/// Runs a case in a task of its own.
pub(super) async fn alone(case: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
    let mut task = tokio::spawn(case);
    match tokio::time::timeout(DEADLINE, &mut task).await {
        Err(_) => {
            task.abort();
            Err(format!("no end after {DEADLINE:?}"))
        }
        Ok(Err(broken)) => Err(panic_text(broken)),
        Ok(Ok(())) => Ok(()),
    }
}

fn panic_text(broken: tokio::task::JoinError) -> String {
    match broken.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast_ref::<&str>().map_or("panicked", |text| *text).to_owned(),
        },
        Err(broken) => broken.to_string(),
    }
}

/// What came of a run of the whole suite.
#[derive(Clone, Debug, Default)]
pub struct Report {
    passed: usize,
    ignored: Vec<(&'static Case, &'static str)>,
    failed: Vec<(&'static Case, String)>,
}

impl Report {
    /// How many cases passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// The cases that could not run, each with the reason.
    #[must_use]
    pub fn ignored(&self) -> &[(&'static Case, &'static str)] {
        &self.ignored
    }

    /// The cases that failed, each with what was wrong.
    #[must_use]
    pub fn failed(&self) -> &[(&'static Case, String)] {
        &self.failed
    }

    /// Runs every case over `subject`, one after the other.
    pub async fn of(subject: &Subject) -> Self {
        let mut report = Self::default();
        for case in CASES {
            let trial = Trial::new(case, subject.clone());
            if let Some(reason) = trial.ignored() {
                report.ignored.push((case, reason));
                continue;
            }
            match trial.run().await {
                Ok(()) => report.passed += 1,
                Err(fault) => report.failed.push((case, fault)),
            }
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, reason) in &self.ignored {
            writeln!(f, "ignored {}: {reason}", case.path())?;
        }
        for (case, fault) in &self.failed {
            writeln!(f, "FAILED {}: {}\n    {}", case.path(), case.promise, fault.replace('\n', "\n    "))?;
        }
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed.len(), self.ignored.len())
    }
}

/// Runs the suite over `store` and returns the report.
///
/// Cases for which the store lacks a capability are listed as ignored. Use [`Subject`] to give a second handle or a
/// local store, and [`Subject::trials`] to show each case as a test of its own.
///
/// # Panics
/// If a case failed, with every failed case, its promise and what was wrong.
pub async fn assert_conforms(store: impl CacheService) -> Report {
    let report = Report::of(&Subject::new(store)).await;
    assert!(report.failed.is_empty(), "the store breaks its contract\n{report}");
    report
}
