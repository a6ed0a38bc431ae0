//! Whether a run of histories showed what it has to: no broken promise, and every broken rule.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};

/// Who showed that a rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Catcher {
    /// At least eight of ten histories.
    Histories,
    /// Fewer histories, and the model in the same run.
    Model,
}

impl Catcher {
    /// Reads it from the row of a broken rule; `None` if nobody did.
    pub(crate) fn of(row: &Value) -> Option<Self> {
        let figure = |name: &str| row[name].as_u64();
        match (figure("caught"), figure("histories")) {
            (Some(caught), Some(histories)) if histories > 0 && caught * 10 >= histories * 8 => Some(Self::Histories),
            _ => (row["model"] == true).then_some(Self::Model),
        }
    }
}

/// Asks `model` about each broken rule that too few histories showed, and notes its answers in the rows.
///
/// # Errors
/// If it can't be asked.
pub(crate) fn ask(found: &mut Value, mut model: impl FnMut(&str) -> Result<bool>) -> Result<()> {
    for row in found["mutations"].as_array_mut().into_iter().flatten() {
        if Catcher::of(row).is_none() {
            let shows = model(row["rule"].as_str().unwrap_or_default())?;
            row["model"] = json!(shows);
        }
    }
    Ok(())
}

/// What a run comes to. Shown as the last line of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    histories: u64,
    reads: u64,
    violations: u64,
    /// Rules that were broken.
    pub(crate) mutations: usize,
    /// Of these, how many showed.
    pub(crate) caught: usize,
    /// Of these, how many in the model only.
    pub(crate) by_model: usize,
}

impl Verdict {
    /// Reads it from a run's results.
    pub(crate) fn of(found: &Value) -> Self {
        let figure = |name: &str| found[name].as_u64().unwrap_or_default();
        let rows = found["mutations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let by = |who: Option<Catcher>| rows.iter().filter(|row| Catcher::of(row) == who).count();
        Self {
            histories: figure("histories"),
            reads: figure("reads"),
            // a run that does not say has not shown that there were none
            violations: found["violations"].as_u64().unwrap_or(u64::MAX),
            mutations: rows.len(),
            caught: rows.len() - by(None),
            by_model: by(Some(Catcher::Model)),
        }
    }

    /// Whether no promise was broken and every broken rule showed.
    pub(crate) const fn held(&self) -> bool {
        self.violations == 0 && self.caught == self.mutations
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, reads, violations, mutations, caught, by_model } = self;
        write!(f, "histories={histories} reads={reads} violations={violations} mutations={mutations} caught={caught}")?;
        if *by_model > 0 { write!(f, " by_model={by_model}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(caught: [u64; 3]) -> Value {
        let row = |(rule, caught): (&str, u64)| json!({ "rule": rule, "histories": 10, "caught": caught });
        let rows: Vec<Value> = ["A", "B", "C"].into_iter().zip(caught).map(row).collect();
        json!({ "histories": 20, "reads": 7, "violations": 0, "mutations": rows })
    }

    #[test]
    fn the_model_is_asked_about_what_too_few_histories_showed_and_about_nothing_else() {
        let mut found = run([10, 8, 7]);
        assert!(!Verdict::of(&found).held(), "until it is asked, the third rule is not caught");
        let mut asked = Vec::new();
        ask(&mut found, |rule| {
            asked.push(rule.to_owned());
            Ok(true)
        })
        .unwrap();
        assert_eq!(asked, ["C"]);
        let verdict = Verdict::of(&found);
        assert!(verdict.held());
        assert_eq!(verdict.to_string(), "histories=20 reads=7 violations=0 mutations=3 caught=3 by_model=1");
        assert_eq!(Catcher::of(&found["mutations"][2]), Some(Catcher::Model));
    }

    #[test]
    fn a_run_does_not_hold_if_a_rule_that_is_broken_shows_nowhere_or_a_promise_was_broken() {
        let mut found = run([10, 7, 0]);
        ask(&mut found, |rule| Ok(rule == "B")).unwrap();
        let verdict = Verdict::of(&found);
        assert_eq!((verdict.caught, verdict.by_model, verdict.held()), (2, 1, false));

        let mut found = run([10, 10, 10]);
        assert!(Verdict::of(&found).held());
        found["violations"] = json!(1);
        assert!(!Verdict::of(&found).held());
        assert!(!Verdict::of(&json!({})).held(), "a run that says nothing shows nothing");
    }

    #[test]
    fn a_model_that_can_not_be_asked_is_an_error() {
        assert!(ask(&mut run([10, 10, 7]), |_| anyhow::bail!("it does not build")).is_err());
    }
}
