//! The one error of all tiers: clonable, typed by meaning, with advice.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The result of a cache operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store can't be reached or can't serve now.
    Unavailable,
    /// The deadline passed; whether the operation took effect is unknown.
    Timeout,
    /// Refused to protect the store or the origin; come back later.
    Overloaded,
    /// Somebody else changed the value first.
    Conflict,
    /// The value is over a limit.
    TooLarge,
    /// The value can't be encoded.
    Codec,
    /// An argument is refused: a key, a ttl, a count.
    Invalid,
    /// A builder, url or environment setting is wrong.
    Config,
    /// The application's loader failed, panicked or was cancelled.
    Loader,
    /// The cache was closed.
    Closed,
    /// Credentials or permissions are wrong.
    Denied,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// The kind as one lower-case word, as in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Conflict => "conflict",
            Self::TooLarge => "too large",
            Self::Codec => "codec",
            Self::Invalid => "invalid",
            Self::Config => "config",
            Self::Loader => "loader",
            Self::Closed => "closed",
            Self::Denied => "denied",
            Self::Other => "other",
        }
    }
}

/// A server's error reply, typed by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reply {
    /// `LOADING`: the server reads its data set.
    Loading,
    /// `READONLY`: a replica was asked to write.
    ReadOnly,
    /// `OOM`: memory is full and nothing may be evicted.
    OutOfMemory,
    /// `BUSY`: a script runs too long.
    Busy,
    /// `MISCONF`: the server refuses writes because it can't persist.
    Misconfigured,
    /// `NOREPLICAS`: too few replicas for a write.
    NoReplicas,
    /// `NOAUTH`: a password is needed.
    NoAuth,
    /// `WRONGPASS`: the user name or password is wrong.
    WrongPass,
    /// `NOPERM`: the user may not do this.
    NoPerm,
    /// `WRONGTYPE`: the key holds another kind of value.
    WrongType,
    /// `NOSCRIPT`: the script isn't loaded.
    NoScript,
    /// `MOVED`: another node owns the slot.
    Moved,
    /// `ASK`: the slot is on its way to another node.
    Ask,
    /// `TRYAGAIN`: keys of one call are split by a migration.
    TryAgain,
    /// `CLUSTERDOWN`: the cluster doesn't serve.
    ClusterDown,
    /// `CROSSSLOT`: keys of one call are in different slots.
    CrossSlot,
    /// `MASTERDOWN`: the replica lost its master.
    MasterDown,
}

type Cause = Arc<dyn StdError + Send + Sync>;

/// A failure of a cache operation.
///
/// Clones share their cause, so one failed load reaches every waiter. Neither `Display` nor `Debug` contains a key,
/// a value or a password.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    operation: Option<&'static str>,
    store: Option<&'static str>,
    reply: Option<Reply>,
    retry_after: Option<Duration>,
    part: bool,
    cause: Option<Cause>,
}

impl Error {
    /// An error of `kind` that says `message`: lower case, no full stop, what to change if one thing helps.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            store: None,
            reply: None,
            retry_after: None,
            part: false,
            cause: None,
        }))
    }

    /// The failure of an application's loader.
    pub fn loader(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause = cause.into();
        Self::new(ErrorKind::Loader, format!("loader failed: {cause}")).with_cause(cause)
    }

    /// With the operation that failed, such as `"get"`.
    #[must_use]
    pub fn with_operation(self, operation: &'static str) -> Self {
        self.edit(|inner| inner.operation = Some(operation))
    }

    /// With the store that failed, such as `"redis"`.
    #[must_use]
    pub fn with_store(self, store: &'static str) -> Self {
        self.edit(|inner| inner.store = Some(store))
    }

    /// With the server's typed reply.
    #[must_use]
    pub fn with_reply(self, reply: Reply) -> Self {
        self.edit(|inner| inner.reply = Some(reply))
    }

    /// With the time after which a retry may help.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(after))
    }

    /// As the failure of a part of the store, such as one server of several: other keys are served.
    #[must_use]
    pub fn of_part(self) -> Self {
        self.edit(|inner| inner.part = true)
    }

    /// With what caused it. The caller vouches that its text holds no key and no secret.
    #[must_use]
    pub fn with_cause(self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause: Cause = Arc::from(cause.into());
        self.edit(|inner| inner.cause = Some(cause))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without operation and store.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The store that failed.
    #[must_use]
    pub fn store(&self) -> Option<&'static str> {
        self.0.store
    }

    /// The server's reply, if it was one.
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        self.0.reply
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded)
    }

    /// When a retry may help, if known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether a part of the store failed, while other keys are served: it says nothing about the store as a whole.
    #[must_use]
    pub fn is_of_part(&self) -> bool {
        self.0.part
    }

    /// The cause as the type that the loader returned, if it was `E`.
    #[must_use]
    pub fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.cause.as_deref().and_then(|cause| cause.downcast_ref::<E>())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, store, message, .. } = &*self.0;
        match (store, operation) {
            (Some(store), Some(operation)) => write!(f, "{store} {operation}: {message}"),
            (Some(one), None) | (None, Some(one)) => write!(f, "{one}: {message}"),
            (None, None) => f.write_str(message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, operation, store, reply, retry_after, part, cause } = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", kind).field("message", message);
        if let Some(operation) = operation {
            out.field("operation", operation);
        }
        if let Some(store) = store {
            out.field("store", store);
        }
        if let Some(reply) = reply {
            out.field("reply", reply);
        }
        if let Some(after) = retry_after {
            out.field("retry_after", after);
        }
        if *part {
            out.field("part", part);
        }
        if cause.is_some() {
            out.field("cause", &"set");
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
