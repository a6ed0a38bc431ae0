//! The store under test.

use std::fmt;
use std::sync::Arc;

use super::case::BoxFuture;
use super::{CASES, Needs, Trial};
use crate::{CacheService, LocalStore};

type MakeLocal = Arc<dyn Fn(u64) -> Arc<dyn LocalStore> + Send + Sync>;
type Audit = Arc<dyn Fn(String) -> BoxFuture<Result<(), String>> + Send + Sync>;

/// The store under test: a handle, if possible a second one, and what checks the world after each case.
#[derive(Clone)]
pub struct Subject {
    store: Arc<dyn CacheService>,
    second: Arc<dyn CacheService>,
    local: Option<MakeLocal>,
    audit: Option<Audit>,
}

impl Subject {
    /// The subject with `store` under test.
    pub fn new(store: impl CacheService) -> Self {
        let store: Arc<dyn CacheService> = Arc::new(store);
        Self { second: Arc::clone(&store), store, local: None, audit: None }
    }

    /// With another handle of the same data: a clone, or better a second connection. Without it the first is used.
    #[must_use]
    pub fn with_second(mut self, second: impl CacheService) -> Self {
        self.second = Arc::new(second);
        self
    }

    /// With a maker of empty local stores, given their byte budget; without it the cases on
    /// [`LocalStore`] don't run.
    #[must_use]
    pub fn with_local(mut self, make: impl Fn(u64) -> Arc<dyn LocalStore> + Send + Sync + 'static) -> Self {
        self.local = Some(Arc::new(make));
        self
    }

    /// With a check of the world after each case that passed, given the 16 hex digits that stand in every key of the case.
    #[must_use]
    pub fn with_audit(
        mut self,
        audit: impl Fn(String) -> BoxFuture<Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        self.audit = Some(Arc::new(audit));
        self
    }

    /// Every case of the suite as a trial over this subject, those that can't run included.
    #[must_use]
    pub fn trials(&self) -> Vec<Trial> {
        CASES.iter().map(|case| Trial::new(case, self.clone())).collect()
    }

    pub(super) fn store(&self) -> &dyn CacheService {
        &*self.store
    }

    pub(super) fn second(&self) -> &dyn CacheService {
        &*self.second
    }

    pub(super) fn shared(&self) -> Arc<dyn CacheService> {
        Arc::clone(&self.store)
    }

    pub(super) fn local(&self, budget: u64) -> Arc<dyn LocalStore> {
        let make = self.local.as_ref().expect("the case was checked against what the subject lacks");
        make(budget)
    }

    pub(super) async fn audit(&self, id: String) -> Result<(), String> {
        match &self.audit {
            Some(audit) => audit(id).await,
            None => Ok(()),
        }
    }

    /// Why a case with `need` can't run here.
    pub(super) fn lacks(&self, need: Needs) -> Option<&'static str> {
        let (has, reason) = match need {
            Needs::Service => (true, ""),
            Needs::Leases => (self.store.leases().is_some(), "the store has no leases"),
            Needs::Bus => (self.store.bus().is_some(), "the store has no bus"),
            Needs::Messages => {
                (self.store.bus().is_some_and(|bus| bus.publishes()), "the store's bus sends no messages")
            }
            Needs::Atomic => (self.store.atomic().is_some(), "the store has no atomic values"),
            Needs::Sweep => (self.store.sweep().is_some(), "the store has no sweep"),
            Needs::Local => (self.local.is_some(), "the store is not a local store"),
        };
        (!has).then_some(reason)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("store", &self.store).field("local", &self.local.is_some()).finish()
    }
}
