//! The suites of the recipes: for each a table of promises, run over any store that has the recipe.

use std::fmt;
use std::sync::Arc;

use super::case::BoxFuture;
use super::run::alone;
use crate::Stamp;

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
    pub async fn run(&self, store: Arc<S>) -> Result<(), String> {
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
#[allow(unused_macros, reason = "used by each recipe's suite")]
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

#[allow(unused_imports, reason = "used by each recipe's suite")]
pub(super) use promises;
