//! One case of the suite: a sentence of the contract and the code that proves it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::{Context, Subject};

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a store must have so that a case can run on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needs {
    /// A [`CacheService`](crate::CacheService).
    Service,
    /// Its [`leases`](crate::CacheService::leases).
    Leases,
    /// Its [`bus`](crate::CacheService::bus).
    Bus,
    /// A bus that [`publishes`](crate::Bus::publishes).
    Messages,
    /// Its [`atomic`](crate::CacheService::atomic) values.
    Atomic,
    /// Its [`sweep`](crate::CacheService::sweep).
    Sweep,
    /// A maker of [`LocalStore`](crate::LocalStore)s ([`Subject::with_local`]).
    Local,
}

impl Needs {
    /// The need as one lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Leases => "leases",
            Self::Bus => "bus",
            Self::Messages => "messages",
            Self::Atomic => "atomic",
            Self::Sweep => "sweep",
            Self::Local => "local",
        }
    }
}

/// One sentence of the contract and its proof.
#[derive(Clone, Copy)]
pub struct Case {
    /// The part of the contract that it belongs to: `service`, `leases`, `bus`, `atomic`, `sweep` or `local`.
    pub subject: &'static str,
    /// The sentence as a test's name.
    pub name: &'static str,
    /// The sentence.
    pub promise: &'static str,
    /// What the store must have.
    pub needs: &'static [Needs],
    pub(super) run: fn(Context) -> BoxFuture<()>,
}

impl Case {
    /// `subject::name`, unique in the suite.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.subject, self.name)
    }

    /// Why the case can't run on `subject`; `None` if it can.
    #[must_use]
    pub fn missing(&self, subject: &Subject) -> Option<&'static str> {
        self.needs.iter().find_map(|need| subject.lacks(*need))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("path", &self.path()).field("needs", &self.needs).finish()
    }
}

/// A table of cases: the sentence, then the function that proves it.
macro_rules! cases {
    ($subject:literal, $needs:tt: $($promise:literal => $run:ident,)*) => {
        pub(in $crate::testkit::suite) const CASES: &[$crate::testkit::Case] = &[$(
            $crate::testkit::Case {
                subject: $subject,
                name: stringify!($run),
                promise: $promise,
                needs: {
                    use $crate::testkit::Needs::*;
                    &$needs
                },
                run: |context| Box::pin($run(context)),
            },
        )*];
    };
}

pub(super) use cases;
