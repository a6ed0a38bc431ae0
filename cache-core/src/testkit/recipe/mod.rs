//! The suites of the recipes: for each a table of promises, run over any store that has the recipe.

pub mod counter;
pub mod leaderboard;
pub mod limit;
pub mod lock;
pub mod pubsub;
pub mod session;
pub mod value;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::case::BoxFuture;
use super::run::alone;
use crate::{Error, ErrorKind, Result, Stamp};

/// One promise of a recipe and its proof, over a store of type `S`, mostly a trait object.
pub struct Case<S: ?Sized> {
    /// The sentence as a test's name.
    pub name: &'static str,
    /// The sentence.
    pub promise: &'static str,
    pub(super) run: fn(Context<S>) -> BoxFuture<()>,
}

impl<S: ?Sized + Send + Sync + 'static> Case<S> {
    /// Runs the case over `store`, in a task of its own. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// The failed assertion, or 60 seconds without an end.
    pub async fn run(&self, store: Arc<S>) -> std::result::Result<(), String> {
        alone((self.run)(Context { store, id: format!("{:016x}", Stamp::random().0) })).await
    }
}

impl<S: ?Sized> fmt::Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a case works with: the store, and names that no other case has.
#[derive(Debug)]
pub struct Context<S: ?Sized> {
    store: Arc<S>,
    id: String,
}

impl<S: ?Sized> Context<S> {
    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<S> {
        Arc::clone(&self.store)
    }

    /// The case's key called `name`; in a cluster all of them are in one slot.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.id)
    }
}

/// A table of cases: the store's type, then sentence and function.
macro_rules! promises {
    ($store:ty: $($promise:literal => $run:ident,)*) => {
        /// The table.
        pub const CASES: &[$crate::testkit::recipe::Case<$store>] = &[$(
            $crate::testkit::recipe::Case {
                name: stringify!($run),
                promise: $promise,
                run: |context| Box::pin($run(context)),
            },
        )*];
    };
}

pub(super) use promises;

/// That `result` is an error of `kind`.
#[track_caller]
fn refused<T: fmt::Debug>(what: &str, kind: ErrorKind, result: Result<T>) -> Error {
    match result {
        Err(error) if error.kind() == kind => error,
        answer => panic!("{what}: expected {kind:?}, got {answer:?}"),
    }
}

/// Ttls that every recipe refuses.
const BAD_TTLS: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(999), Duration::MAX];

/// Keys that every call refuses.
fn bad_keys() -> [String; 4] {
    [String::new(), "x".repeat(crate::MAX_KEY + 1), "a\nb".into(), "\0".into()]
}
