//! Runs the checker and says what came of it.

use std::num::NonZeroUsize;
use std::time::Instant;

#[cfg(feature = "mutate")]
use cache_tiered::coherence::mutate::{self, Mutation};
use stateright::{Checker, HasDiscoveries, Model};

use crate::action::Action;
use crate::config::Config;
use crate::model::{Proof, REACHED};
use crate::table;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// How many different states were seen.
    pub states: usize,
    /// The violated property and how it came to that; the first by name if there are several.
    pub violated: Option<(&'static str, Vec<Action>)>,
    /// Whether every process that reads held a new value in some state.
    pub reached: bool,
}

/// Checks every state that `config` can come to, or stops at the first violation.
#[must_use]
pub fn check(config: Config, threads: NonZeroUsize) -> Outcome {
    let builder = Proof(config).checker().threads(threads.get()).finish_when(HasDiscoveries::AnyFailures);
    let checker = builder.spawn_bfs().join();
    let mut violated = None;
    let mut reached = false;
    for (name, path) in checker.discoveries() {
        if name == REACHED {
            reached = true;
        } else if violated.as_ref().is_none_or(|(other, _)| name < *other) {
            violated = Some((name, path.into_actions()));
        }
    }
    Outcome { states: checker.unique_state_count(), violated, reached }
}

/// What all runs together came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Different states of clean runs.
    pub states: usize,
    /// Clean runs that were not.
    pub violations: usize,
    /// Rules that were broken.
    pub mutations: usize,
    /// Of these, how many showed.
    pub caught: usize,
    /// Checks that could not fail, or runs that got nowhere.
    pub vacuous: usize,
}

impl Tally {
    /// The last line.
    #[must_use]
    pub fn closing(&self) -> String {
        let Self { states, violations, mutations, caught, .. } = self;
        format!("states={states} violations={violations} mutations={mutations} caught={caught}")
    }

    /// Whether everything is as it should be.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.violations == 0 && self.vacuous == 0 && self.mutations == self.caught
    }
}

/// Runs that have to be clean.
pub fn clean(configs: &[Config], threads: NonZeroUsize, tally: &mut Tally) {
    for config in configs {
        let start = Instant::now();
        let outcome = check(*config, threads);
        let took = start.elapsed().as_secs_f64();
        tally.states += outcome.states;
        let verdict = match &outcome.violated {
            Some((property, trace)) => {
                tally.violations += 1;
                format!("{property} VIOLATED in {} steps: {trace:?}", trace.len())
            }
            None if !outcome.reached => {
                tally.vacuous += 1;
                "VACUOUS: no process ever held a new value".to_owned()
            }
            None => "clean".to_owned(),
        };
        println!("{:<22} {:>9} states {took:>7.1} s  {verdict}", config.name, outcome.states);
    }
}

/// Runs that have to fail.
pub fn vacuity(threads: NonZeroUsize, tally: &mut Tally) {
    for (config, property) in table::VACUITY {
        let outcome = check(*config, threads);
        let verdict = match &outcome.violated {
            Some((found, trace)) if found == property => format!("fails as it must: {found} in {} steps", trace.len()),
            other => {
                tally.vacuous += 1;
                format!("VACUOUS: {property} should be violated, got {:?}", other.as_ref().map(|(found, _)| found))
            }
        };
        println!("{:<22} {:>9} states            {verdict}", config.name, outcome.states);
    }
}

/// Breaks one rule in this process; whether it showed.
///
/// # Errors
/// If there is no rule of that name.
#[cfg(feature = "mutate")]
pub fn mutation(name: &str, threads: NonZeroUsize, trace: bool) -> anyhow::Result<bool> {
    let Some(mutation) = Mutation::ALL.iter().copied().find(|mutation| format!("{mutation:?}") == name) else {
        anyhow::bail!("there is no mutation {name}; they are {:?}", Mutation::ALL);
    };
    mutate::set(Some(mutation));
    let config = table::shows(mutation);
    let outcome = check(config, threads);
    match &outcome.violated {
        Some((property, steps)) => {
            println!(
                "{name:<20} {property:<14} in {:>2} steps, {:>8} states of {}",
                steps.len(),
                outcome.states,
                config.name
            );
            if trace {
                println!("{steps:?}");
            }
            Ok(true)
        }
        None => {
            println!("{name:<20} SURVIVED all {} states of {}", outcome.states, config.name);
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Config {
        *table::QUICK.iter().find(|config| config.name == name).unwrap()
    }

    #[test]
    fn a_clean_run_is_clean_and_gets_somewhere() {
        let outcome = check(named("hold-crash"), NonZeroUsize::MIN);
        assert!(outcome.violated.is_none() && outcome.reached, "{outcome:?}");
    }

    #[test]
    fn a_shorter_bound_than_the_one_kept_is_violated() {
        let config = Config { checked: 0, ..named("cut-off-strict") };
        assert_eq!(check(config, NonZeroUsize::MIN).violated.map(|(property, _)| property), Some("P3 bound"));
    }

    #[test]
    fn no_two_runs_share_a_name() {
        let mut names: Vec<_> = table::QUICK.iter().chain(table::NIGHTLY).map(|config| config.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_tally_is_good_only_if_every_broken_rule_showed() {
        let tally = Tally { states: 9, mutations: 3, caught: 3, ..Tally::default() };
        assert_eq!(tally.closing(), "states=9 violations=0 mutations=3 caught=3");
        assert!(tally.is_good());
        for bad in [Tally { caught: 2, ..tally }, Tally { violations: 1, ..tally }, Tally { vacuous: 1, ..tally }] {
            assert!(!bad.is_good(), "{bad:?}");
        }
    }
}
