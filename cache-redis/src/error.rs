//! From the driver's errors to ours: typed by the reply's code, never with the reply's text.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Reply};
use redis::{ErrorKind as DriverKind, RedisError};

/// The store's name in errors and metrics.
pub(crate) const STORE: &str = "redis";

/// An error of this store.
pub(crate) fn fault(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).with_store(STORE)
}

/// A mistake in a url, an environment variable or a builder's setting.
pub(crate) fn config(message: impl Into<String>) -> Error {
    fault(ErrorKind::Config, message).with_operation("connect")
}

/// The end of a call that got no reply in time.
pub(crate) fn timeout(operation: &'static str, span: Duration) -> Error {
    let text = format!("no reply within {} ms; the server is slow or the deadline too short", span.as_millis());
    fault(ErrorKind::Timeout, text).with_operation(operation)
}

/// A reply whose parts are not what the script returns.
pub(crate) fn unexpected(operation: &'static str) -> Error {
    fault(ErrorKind::Other, "the reply has an unexpected form").with_operation(operation)
}

/// The driver's error as ours.
///
/// The texts of server errors may hold keys, arguments or passwords (`unknown command 'HELLO', with args beginning
/// with: ...`), so only the code is kept.
pub(crate) fn map(operation: &'static str, error: &RedisError) -> Error {
    if let Some(errors) = error.clone().into_server_errors()
        && let Some((_, first)) = errors.first()
    {
        return server(first.code(), first.details().unwrap_or("")).with_operation(operation);
    }
    let mapped = match error.kind() {
        DriverKind::Io if error.is_timeout() => fault(ErrorKind::Timeout, "no reply in time"),
        DriverKind::Io => fault(ErrorKind::Unavailable, format!("connection lost: {}", io_reason(error))),
        DriverKind::Parse => fault(
            ErrorKind::Unavailable,
            "the reply is not of the redis protocol; check that the address is a redis server's",
        ),
        DriverKind::AuthenticationFailed => denied(Reply::WrongPass),
        DriverKind::UnexpectedReturnType => fault(ErrorKind::Other, "the reply has an unexpected type"),
        DriverKind::Server(_) | DriverKind::Extension => server(error.code().unwrap_or("ERR"), ""),
        _ => fault(ErrorKind::Other, "the driver refused the command"),
    };
    mapped.with_operation(operation)
}

/// Whether the connection that gave this error can't be used any more.
pub(crate) fn is_broken(error: &RedisError) -> bool {
    matches!(error.kind(), DriverKind::Parse) || error.is_io_error()
}

/// An error of the operating system while connecting.
pub(crate) fn io(error: &io::Error, place: &str) -> Error {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("connection to {place} refused; check that the server runs and the address is right")
        }
        io::ErrorKind::NotFound => format!("no socket at {place}; check the path and that the server runs"),
        io::ErrorKind::PermissionDenied => format!("no permission to open {place}"),
        io::ErrorKind::TimedOut => format!("connection to {place} timed out; check address and firewall"),
        kind => format!("connection to {place} failed: {kind}"),
    };
    fault(ErrorKind::Unavailable, text)
}

fn io_reason(error: &RedisError) -> String {
    io_cause(error).map_or_else(|| "closed by the server".to_owned(), |cause| cause.kind().to_string())
}

/// The operating system's error in a driver's error.
pub(crate) fn io_cause(error: &RedisError) -> Option<&io::Error> {
    let source = StdError::source(error)?;
    // the driver shares its causes, and the pointer is what it hands out
    match source.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        Some(shared) => shared.downcast_ref(),
        None => source.downcast_ref(),
    }
}

fn denied(reply: Reply) -> Error {
    let text = match reply {
        Reply::NoAuth => "the server asks for a password; set one",
        Reply::NoPerm => "the user may not run this command or touch this key; extend its acl",
        _ => "wrong user name or password",
    };
    fault(ErrorKind::Denied, text).with_reply(reply)
}

/// A server's error reply by its code; `details` only decides, and is never shown.
pub(crate) fn server(code: &str, details: &str) -> Error {
    use ErrorKind::{Config, Conflict, Invalid, Other, Overloaded, Unavailable};
    let (reply, kind, text) = match code {
        "LOADING" => (Reply::Loading, Unavailable, "the server is loading its data"),
        "READONLY" => {
            (Reply::ReadOnly, Unavailable, "the server is a replica and takes no writes; connect to the primary")
        }
        "OOM" => {
            (Reply::OutOfMemory, Overloaded, "the server's memory is full; set maxmemory-policy to an allkeys policy")
        }
        "BUSY" => (Reply::Busy, Unavailable, "the server is busy running a script"),
        "MISCONF" => (Reply::Misconfigured, Unavailable, "the server refuses writes because it can't persist"),
        "NOREPLICAS" => (Reply::NoReplicas, Unavailable, "the server has too few replicas to take writes"),
        "NOAUTH" => return denied(Reply::NoAuth),
        "WRONGPASS" => return denied(Reply::WrongPass),
        "NOPERM" => return denied(Reply::NoPerm),
        "WRONGTYPE" => (Reply::WrongType, Conflict, "the key holds another kind of value"),
        "NOSCRIPT" => (Reply::NoScript, Other, "the script is not loaded"),
        "MOVED" => (Reply::Moved, Config, "another node of a cluster owns the key; connect to the server as a cluster"),
        "ASK" => (Reply::Ask, Unavailable, "the key is moving to another node of a cluster"),
        "TRYAGAIN" => (Reply::TryAgain, Unavailable, "the keys are moving to another node of a cluster"),
        "CLUSTERDOWN" => (Reply::ClusterDown, Unavailable, "the cluster does not serve"),
        "CROSSSLOT" => (Reply::CrossSlot, Invalid, "the keys are in different slots; give them one hash tag"),
        "MASTERDOWN" => (Reply::MasterDown, Unavailable, "the replica lost its primary"),
        _ => return plain(code, details),
    };
    fault(kind, text).with_reply(reply)
}

fn plain(code: &str, details: &str) -> Error {
    let known = |part: &str| details.contains(part);
    if known("running script") || code.starts_with("@user_script") {
        // before Redis 7 an error inside a script comes wrapped: "(call to f_...): @user_script:1: -READONLY You ..."
        let codes = details.split([' ', ':', '-']).filter(|word| word.len() > 2 && *word != code);
        let inner = codes.map(|word| server(word, "")).find(|error| error.reply().is_some());
        if let Some(inner) = inner {
            return inner;
        }
    }
    if known("not an integer") || known("would overflow") {
        return fault(ErrorKind::Conflict, "the key holds no integer, or the sum overflows");
    }
    if known("max number of clients") {
        return fault(ErrorKind::Unavailable, "the server has its maximum number of clients; raise maxclients");
    }
    if known("unknown command") || known("Unknown subcommand") || known("unknown subcommand") {
        return fault(ErrorKind::Config, "the server does not know the command; redis 6.2 or later is needed");
    }
    if known("DB index is out of range") || known("invalid DB index") {
        return fault(ErrorKind::Config, "the server has no database of this number; change db");
    }
    let code = if code.len() <= 16 && code.bytes().all(|b| b.is_ascii_uppercase()) { code } else { "ERR" };
    fault(ErrorKind::Other, format!("the server refused the command with {code}"))
}
