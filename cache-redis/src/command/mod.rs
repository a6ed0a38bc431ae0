//! Commands, scripts, pipelines and transactions of one's own, without the driver's types.
//!
//! These are a server's alone: what a server does in one script or transaction has no form in
//! [`Memory`](cache_core::Memory). Where a program is to run embedded too, the recipes have the usual steps
//! (`Counters::transfer`, `Values::compare_and_swap`, `Locks`).

mod pipeline;
mod script;
mod spare;
mod transaction;
mod value;

use cache_core::{ErrorKind, Result, check_key};
use redis::Cmd;

pub use pipeline::Pipeline;
pub use script::{Script, ScriptCall};
pub(crate) use spare::Spare;
pub use transaction::{Attempt, Committed, Transaction};
pub use value::{Arg, FromValue, Value};

use crate::error::fault;

/// Commands that change what a shared connection is, or hold it up.
const OURS: &[&str] = &[
    "ASKING",
    "AUTH",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SELECT",
    "SHUTDOWN",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
    "WATCH",
];

/// A command: its name, its keys and its arguments, in the server's order.
///
/// Keys are told from arguments, so that they are checked like all keys of the store, and found to be of one slot where
/// that matters. Keys are physical.
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until sent"]
pub struct Command {
    name: &'static str,
    parts: Vec<Part>,
}

#[derive(Clone)]
enum Part {
    Key(String),
    Arg(Arg),
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "key",
            Self::Arg(_) => "arg",
        })
    }
}

impl Command {
    /// The command called `name`, such as `"HSET"` or `"JSON.GET"`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, parts: Vec::new() }
    }

    /// Adds a key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.parts.push(Part::Key(key.into()));
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.parts.push(Part::Arg(arg.into()));
        self
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Arg(_) => None,
        })
    }

    /// Refuses what must not go out.
    fn check(&self) -> Result<()> {
        let invalid = |text: &str| Err(fault(ErrorKind::Invalid, text));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if self.name.is_empty() || !self.name.bytes().all(plain) {
            return invalid("the name of a command is one word; the rest are arguments");
        }
        if OURS.iter().any(|name| self.name.eq_ignore_ascii_case(name)) {
            return invalid(
                "this command changes or blocks a connection that others share; use raw() or a transaction",
            );
        }
        self.keys().try_for_each(check_key)
    }

    fn packed(&self) -> Cmd {
        let mut command = redis::cmd(self.name);
        for part in &self.parts {
            match part {
                Part::Key(key) => command.arg(key),
                Part::Arg(arg) => command.arg(arg.bytes()),
            };
        }
        command
    }
}
