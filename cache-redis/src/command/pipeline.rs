//! Commands that go out together.

use cache_core::{Error, ErrorKind, Result};

use super::{Command, FromValue, Value};
use crate::Redis;
use crate::error::{STORE, fault};

/// The most commands in one pipeline.
const MOST: usize = 10_000;

/// Commands in order, sent in one round trip. Each has a reply of its own: one that fails stops no other. Commands of
/// others may come in between; a [`Transaction`](super::Transaction) keeps them out.
#[derive(Debug)]
#[must_use = "a pipeline does nothing until sent"]
pub struct Pipeline<'a> {
    redis: &'a Redis,
    commands: Vec<Command>,
}

impl Pipeline<'_> {
    /// Adds a command.
    pub fn then(mut self, command: Command) -> Self {
        self.commands.push(command);
        self
    }

    /// Sends them; the replies in order. In a cluster all keys share a slot.
    ///
    /// # Errors
    /// `Invalid` for a bad key, a command that is refused, keys of different slots, or too many commands: nothing was
    /// sent. `Timeout` and `Unavailable` leave open which of them were done.
    pub async fn send(self) -> Result<Vec<Result<Value>>> {
        let Self { redis, commands } = self;
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let pipe = packed(redis, &commands).map_err(|error| error.with_operation("pipeline").with_store(STORE))?;
        let reply: redis::Value = redis.link().pipe("pipeline", &pipe).await?;
        let redis::Value::Array(replies) = reply else { return Err(crate::error::unexpected("pipeline")) };
        if replies.len() != commands.len() {
            return Err(crate::error::unexpected("pipeline"));
        }
        Ok(replies.into_iter().map(|reply| Value::of(reply, "pipeline").checked()).collect())
    }
}

/// The checked commands.
pub(super) fn packed(redis: &Redis, commands: &[Command]) -> Result<redis::Pipeline, Error> {
    if commands.len() > MOST {
        return Err(fault(ErrorKind::Invalid, format!("{} commands at once, the limit is {MOST}", commands.len())));
    }
    commands.iter().try_for_each(Command::check)?;
    redis.link().together(commands.iter().flat_map(Command::keys))?;
    let mut pipe = redis::Pipeline::with_capacity(commands.len());
    pipe.ignore_errors();
    for command in commands {
        pipe.add_command(command.packed());
    }
    Ok(pipe)
}

impl Redis {
    /// An empty pipeline.
    ///
    /// ```no_run
    /// # async fn doc(redis: cache_redis::Redis) -> cache_core::Result<()> {
    /// use cache_redis::Command;
    ///
    /// let replies = redis
    ///     .pipeline()
    ///     .then(Command::new("RPUSH").key("{log}:7").arg("started"))
    ///     .then(Command::new("EXPIRE").key("{log}:7").arg(3600))
    ///     .send()
    ///     .await?;
    /// assert!(replies.iter().all(Result::is_ok));
    /// # Ok(())
    /// # }
    /// ```
    pub const fn pipeline(&self) -> Pipeline<'_> {
        Pipeline { redis: self, commands: Vec::new() }
    }

    /// Sends one command. One round trip.
    ///
    /// # Errors
    /// `Invalid` for a bad key, or a command that would change or block a shared connection; `Codec` if the reply is no
    /// `T`; what the server says.
    pub async fn command<T: FromValue>(&self, command: Command) -> Result<T> {
        let checked = command.check().and_then(|()| self.link().together(command.keys()));
        checked.map_err(|error| error.with_operation("command").with_store(STORE))?;
        T::from_value(Value::of(self.link().call("command", &command.packed()).await?, "command"))
    }
}
