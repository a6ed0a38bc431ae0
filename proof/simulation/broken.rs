//! Rules that are broken on purpose, and how soon a simulation shows it.

use std::time::Duration;

use anyhow::{Context, Result};
use cache_tiered::coherence::mutate::{self, Mutation};

use crate::run;

/// The rules that simulations show. The others need a failover, or two threads between two instructions: the model
/// and the interleavings show those.
const SHOWN: &[Mutation] = &[
    Mutation::LeaseAfterLoad,
    Mutation::NoCas,
    Mutation::NoPost,
    Mutation::NoTrust,
    Mutation::IgnoreGap,
    Mutation::GapNoEpoch,
    Mutation::NoFlightEpoch,
    Mutation::NoDetach,
    Mutation::DetachedInstalls,
    Mutation::NoTagBump,
    Mutation::S0AfterLoad,
    Mutation::NoGenerations,
    Mutation::IgnoreFloor,
    Mutation::HoldFills,
    Mutation::UnconfirmedBumped,
    Mutation::NoReplay,
    Mutation::SwapBlind,
    Mutation::InvalidateSoftens,
    Mutation::PutUnnumbered,
    Mutation::WrittenUnread,
];

/// Looks for each rule whether some of the first `seeds` seeds shows that it is broken; how many were looked at, and
/// how many showed.
pub(crate) fn all(seeds: u64, span: Duration, threads: usize) -> Result<(usize, usize)> {
    let mut caught = 0;
    for mutation in SHOWN {
        caught += usize::from(one(*mutation, seeds, span, threads)?);
    }
    Ok((SHOWN.len(), caught))
}

/// The rule called `name`.
pub(crate) fn named(name: &str) -> Result<Mutation> {
    let mut all = Mutation::ALL.iter().chain(Mutation::PLAYED).copied();
    let found = all.find(|mutation| format!("{mutation:?}") == name);
    found.with_context(|| format!("there is no rule {name}; they are {:?}", Mutation::ALL))
}

/// Breaks a rule until a seed shows it.
pub(crate) fn one(mutation: Mutation, seeds: u64, span: Duration, threads: usize) -> Result<bool> {
    mutate::set(Some(mutation));
    let sum = run::seeds(1, seeds, span, threads, true);
    mutate::set(None);
    let shown = sum?.first;
    match shown {
        Some((seed, promise)) => println!("{:<20} {promise:<18} by seed {seed}", format!("{mutation:?}")),
        None => println!("{:<20} SURVIVED {seeds} seeds", format!("{mutation:?}")),
    }
    Ok(shown.is_some())
}
