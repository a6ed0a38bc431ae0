//! The suite itself: it passes the reference stores, and it finds what is wrong with broken ones.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{CASES, Report, Subject, Trial};
use crate::memory::{LocalMemory, Memory};
use crate::{CacheService, Entry, Error, ErrorKind, LocalStore, Parted, Result};

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_stores_conform() {
    // a small buffer, so that the slow listener overflows it
    let memory = Memory::builder().buffer(1000).build();
    let subject = Subject::new(memory).with_local(|budget| Arc::new(LocalMemory::new(budget)));
    let report = Report::of(&subject).await;
    assert!(report.failed().is_empty() && report.ignored().is_empty(), "{report}");
    assert_eq!(report.passed(), CASES.len());
}

/// The cases that fail on `subject`, of those whose path begins with `subject`.
async fn failing(subject: Subject, part: &str) -> Vec<&'static str> {
    let mut failing = Vec::new();
    for case in CASES.iter().filter(|case| case.subject == part) {
        if Trial::new(case, subject.clone()).run().await.is_err() {
            failing.push(case.name);
        }
    }
    failing
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    EmptyIsMiss,
    MissIsError,
    DeleteSaysTrue,
    TtlInSeconds,
    TtlForEver,
    BatchForgetsOrder,
    BatchStoresAPart,
    Truncates,
    NormalizesKeys,
    TornWrites,
    ShowsKeys,
    TakesLargeValues,
}

/// A store that makes one mistake.
#[derive(Debug)]
struct Broken(Memory, Mistake);

#[async_trait]
impl CacheService for Broken {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn max_value(&self) -> usize {
        if self.1 == Mistake::TakesLargeValues { 1000 } else { self.0.max_value() }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let key = if self.1 == Mistake::NormalizesKeys { key.trim() } else { key };
        let value = match self.0.get(key).await {
            Err(_) if self.1 == Mistake::ShowsKeys => Err(Error::new(ErrorKind::Invalid, format!("bad key {key}"))),
            answer => answer,
        }?;
        match self.1 {
            Mistake::EmptyIsMiss => Ok(value.filter(|value| !value.is_empty())),
            Mistake::MissIsError if value.is_none() => Err(Error::new(ErrorKind::Other, "not found")),
            _ => Ok(value),
        }
    }

    async fn set(&self, key: &str, mut value: Bytes, mut ttl: Duration) -> Result<()> {
        match self.1 {
            Mistake::TtlInSeconds if !ttl.is_zero() => ttl = Duration::from_secs(ttl.as_secs().max(1)),
            Mistake::TtlForEver if !ttl.is_zero() && ttl < Duration::from_secs(1) => ttl = Duration::from_secs(60),
            Mistake::Truncates => value.truncate(65_536),
            Mistake::TornWrites if value.len() > 1 => {
                self.0.set(key, value.slice(..value.len() / 2), ttl).await?;
                tokio::task::yield_now().await;
            }
            _ => {}
        }
        let key = if self.1 == Mistake::NormalizesKeys { key.trim() } else { key };
        self.0.set(key, value, ttl).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let was_there = self.0.delete(key).await?;
        Ok(was_there || self.1 == Mistake::DeleteSaysTrue)
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut values = self.0.get_many(keys).await?;
        if self.1 == Mistake::BatchForgetsOrder {
            values.reverse();
        }
        Ok(values)
    }

    async fn set_many(&self, entries: &[(&str, Bytes)], ttl: Duration) -> Result<()> {
        if self.1 == Mistake::BatchStoresAPart {
            for (key, value) in entries {
                self.0.set(key, value.clone(), ttl).await?;
            }
        }
        self.0.set_many(entries, ttl).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_fails_the_case_that_names_it() {
    for (mistake, case) in [
        (Mistake::EmptyIsMiss, "an_empty_value_is_a_value"),
        (Mistake::MissIsError, "a_miss_is_none"),
        (Mistake::DeleteSaysTrue, "deleting_a_missing_key_says_false"),
        (Mistake::TtlInSeconds, "a_value_is_gone_once_its_ttl_has_passed"),
        (Mistake::TtlForEver, "a_value_is_gone_once_its_ttl_has_passed"),
        (Mistake::BatchForgetsOrder, "get_many_keeps_the_order"),
        (Mistake::BatchStoresAPart, "a_batch_with_one_bad_key_does_nothing"),
        (Mistake::Truncates, "a_value_of_the_largest_size_is_taken"),
        (Mistake::NormalizesKeys, "a_key_is_taken_as_it_is"),
        (Mistake::TornWrites, "concurrent_writers_never_tear_a_value"),
        (Mistake::ShowsKeys, "an_error_shows_no_key_and_no_value"),
        (Mistake::TakesLargeValues, "a_value_over_the_largest_size_is_refused"),
    ] {
        let case = CASES.iter().find(|known| known.name == case).expect("the case exists");
        let run = |mistake| Trial::new(case, Subject::new(Broken(Memory::new(), mistake))).run();
        assert_eq!(run(Mistake::None).await, Ok(()), "{} fails without a mistake", case.name);
        assert!(run(mistake).await.is_err(), "{mistake:?} passes {}", case.name);
    }
}

/// A near store without a budget, and one that copies what it is given and looks up the rest of a key in two parts alone.
#[derive(Debug)]
struct BrokenLocal(LocalMemory, u64, bool);

impl LocalStore for BrokenLocal {
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        let entry = self.0.get(key)?;
        Some(if self.2 { Arc::new(Entry::new(entry.to_frame(), entry.deadline())) } else { entry })
    }
    fn get_parted(&self, key: &Parted<'_>) -> Option<Arc<Entry>> {
        if self.2 { self.get(key.rest()) } else { key.joined(|key| self.get(key)) }
    }
    fn put(&self, key: &str, entry: Arc<Entry>) {
        self.0.put(key, entry);
    }
    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        self.0.remove(key)
    }
    fn clear(&self) {
        self.0.clear();
    }
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn weight(&self) -> u64 {
        self.0.weight()
    }
    fn budget(&self) -> u64 {
        self.1
    }
    fn settle(&self) {}
    fn each(&self, visit: &mut dyn FnMut(&str, &Arc<Entry>) -> bool) {
        self.0.each(visit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_local_stores_fail() {
    let greedy = |budget| Arc::new(BrokenLocal(LocalMemory::new(1 << 30), budget, false)) as Arc<dyn LocalStore>;
    let expected =
        ["weight_stays_within_the_budget", "odd_sizes_stay_within_the_budget", "an_entry_over_the_budget_is_not_kept"];
    let failing_greedy = failing(Subject::new(Memory::new()).with_local(greedy), "local").await;
    assert!(failing_greedy.starts_with(&expected), "{failing_greedy:?}");
    let copying = |budget| Arc::new(BrokenLocal(LocalMemory::new(budget), budget, true)) as Arc<dyn LocalStore>;
    let expected =
        ["get_returns_the_very_entry", "a_parted_key_is_the_key", "a_glance_shows_the_entry", "put_replaces"];
    assert_eq!(failing(Subject::new(Memory::new()).with_local(copying), "local").await, expected);
}

#[tokio::test]
async fn a_missing_capability_is_a_reason_not_a_pass() {
    let subject = Subject::new(Broken(Memory::new(), Mistake::None));
    for trial in subject.trials() {
        let needs_more = trial.case().subject != "service";
        assert_eq!(trial.ignored().is_some(), needs_more, "{}", trial.name());
        if needs_more {
            assert!(trial.run().await.is_err(), "it ran without what it needs");
        }
    }
}
