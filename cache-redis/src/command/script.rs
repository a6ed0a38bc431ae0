//! Scripts of one's own.

use std::fmt;
use std::sync::Arc;

use cache_core::{ErrorKind, Reply, Result, check_key};
use redis::Cmd;

use super::{Arg, FromValue, Value};
use crate::Redis;
use crate::error::{STORE, fault};

/// A Lua script and its SHA-1, by which it is run. Cheap to clone; make it once.
///
/// A script runs alone on its server: nothing comes between its commands. It is no transaction that is undone: if it ends
/// with an error, what it wrote before that stays, so check everything first and write then.
#[derive(Clone)]
pub struct Script(Arc<(String, String)>);

impl Script {
    /// The script with this text. Its keys are `KEYS`, its arguments `ARGV`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self(Arc::new((text, hash)))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.0.1).finish()
    }
}

/// A run of a script in the making.
#[derive(Debug)]
#[must_use = "a script does nothing until run"]
pub struct ScriptCall<'a> {
    redis: &'a Redis,
    script: Script,
    keys: Vec<String>,
    args: Vec<Arg>,
}

impl ScriptCall<'_> {
    /// Adds a key. All keys that a script touches are to be named; in a cluster they share a slot (a hash tag).
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Runs it: one round trip, or two when the server does not know it (yet, or any more).
    ///
    /// # Errors
    /// `Invalid` for a bad key, or keys of different slots (nothing was sent); `Conflict` if it met a key of another
    /// kind; `Codec` if it returned something that is no `T`; `Other` with the code of the error that it ended with,
    /// also if its text is no script.
    pub async fn run<T: FromValue>(self) -> Result<T> {
        let Self { redis, script, keys, args } = self;
        let named = |error: cache_core::Error| error.with_operation("script").with_store(STORE);
        keys.iter().try_for_each(|key| check_key(key)).map_err(named)?;
        redis.link().together(keys.iter().map(String::as_str)).map_err(named)?;
        let (text, hash) = &*script.0;
        let command = |verb, what: &str| {
            let mut command = redis::cmd(verb);
            command.arg(what).arg(keys.len()).arg(&keys);
            for arg in &args {
                command.arg(arg.bytes());
            }
            command
        };
        let first = redis.link().call::<redis::Value>("script", &command("EVALSHA", hash)).await;
        let reply = match first {
            Err(error) if error.reply() == Some(Reply::NoScript) => {
                redis.link().call("script", &command("EVAL", text)).await?
            }
            reply => reply?,
        };
        T::from_value(Value::of(reply, "script"))
    }
}

impl Redis {
    /// A run of `script`.
    ///
    /// ```no_run
    /// # async fn doc(redis: cache_redis::Redis) -> cache_core::Result<()> {
    /// use cache_redis::Script;
    ///
    /// let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    /// let sum: i64 = redis.script(&script).key("visits").arg(2).run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn script(&self, script: &Script) -> ScriptCall<'_> {
        ScriptCall { redis: self, script: script.clone(), keys: Vec::new(), args: Vec::new() }
    }

    /// Loads `scripts` into the script cache of the server, or of every primary of a cluster, so that their first run
    /// is one round trip. They are forgotten with a restart; a run then brings the text along by itself.
    ///
    /// # Errors
    /// `Other` if a text is no script; what the server says.
    pub async fn preload(&self, scripts: &[&Script]) -> Result<()> {
        for server in self.link().servers() {
            for script in scripts {
                let mut load: Cmd = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(&script.0.0);
                let hash: String = self.link().call_at(&server, "preload", &load).await?;
                if hash != script.0.1 {
                    return Err(fault(ErrorKind::Other, "the server knows the script by another hash"));
                }
            }
        }
        Ok(())
    }
}
