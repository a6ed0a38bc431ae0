//! What goes wrong on the way, as errors of the contract.

use cache_core::{Error, ErrorKind, Reply};

/// The store's name in errors and metrics.
pub(crate) const NAME: &str = "memcached";

/// The deadline of a call passed.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::Timeout, "no answer within the deadline; whether it was done is unknown")
}

/// The connection ended under a call.
pub(crate) fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection was lost; whether it was done is unknown")
}

/// What the server said is not what its protocol allows here.
pub(crate) fn garbled(what: &str) -> Error {
    Error::new(ErrorKind::Other, format!("the server's answer makes no sense: {what}"))
}

pub(crate) fn config(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, text)
}

/// An error line of the server, by meaning. Its text is the server's own and holds no key.
pub(crate) fn said(line: &str) -> Error {
    let text = line.split_once(' ').map_or(line, |(_, text)| text);
    if text.contains("too large") {
        return Error::new(ErrorKind::TooLarge, "the server takes no value of this size; raise its -I or store less");
    }
    if text.contains("out of memory") {
        let error = Error::new(ErrorKind::Overloaded, "the server's memory is full; give it more with -m");
        return error.with_reply(Reply::OutOfMemory);
    }
    if text.contains("unauthenticated") || text.contains("authentication") {
        let error = Error::new(ErrorKind::Denied, "the server wants a login; give user and password");
        return error.with_reply(Reply::NoAuth);
    }
    if line == "ERROR" {
        return Error::new(ErrorKind::Other, "the server does not know the command; use memcached 1.6.9 or newer");
    }
    let text: String = text.chars().filter(|c| !c.is_control()).take(120).collect();
    Error::new(ErrorKind::Other, format!("the server refused: {text}"))
}
