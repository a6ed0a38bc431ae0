//! The registry of scripts: one text each, loaded ahead, run by hash.

use std::sync::OnceLock;

use cache_core::envelope::HEADER;
use cache_core::{Error, Header, Reply, Result, Stamp};
use redis::{Arg, Cmd, FromRedisValue, ToRedisArgs, Value};
use tokio::time::timeout;

use crate::connect::Link;
use crate::error;

/// A script and, once it was used, its SHA-1 in hex.
#[derive(Debug)]
pub(crate) struct Script {
    body: &'static str,
    hash: OnceLock<String>,
}

macro_rules! scripts {
    (
        $($(#[doc = $doc:literal])+ $name:ident = $($part:literal)+;)+
        recipe:
        $($(#[doc = $about:literal])+ $recipe:ident = $($piece:literal)+;)+
    ) => {
        $(
            $(#[doc = $doc])+
            pub(crate) static $name: Script = Script {
                body: concat!($(include_str!(concat!("lua/", $part, ".lua"))),+),
                hash: OnceLock::new(),
            };
        )+
        $(
            $(#[doc = $about])+
            #[cfg(feature = "recipe")]
            pub(crate) static $recipe: Script = Script {
                body: concat!($(include_str!(concat!("lua/", $piece, ".lua"))),+),
                hash: OnceLock::new(),
            };
        )+

        /// The texts to load into a server's script cache at connect.
        pub(crate) static BODIES: &[&str] = &[
            $(concat!($(include_str!(concat!("lua/", $part, ".lua"))),+),)+
            $(
                #[cfg(feature = "recipe")]
                concat!($(include_str!(concat!("lua/", $piece, ".lua"))),+),
            )+
        ];
    };
}

scripts! {
    /// Takes a lease where the key is not plainly missing.
    LEASEX = "look" "time" "patch" "leasex";
    /// Takes a lease on servers before Redis 7.
    SETNXGET = "setnxget";
    /// Flags a lease as waited for.
    WAIT = "look" "held" "time" "patch" "wait";
    /// Prolongs a lease.
    RENEW = "look" "held" "time" "patch" "renew";
    /// Fills a key whose lease is held.
    FILL = "look" "held" "wake" "fill";
    /// Replaces a value by its stamp.
    REFRESH = "look" "refresh";
    /// Prolongs a value by its stamp.
    TOUCH = "look" "touch";
    /// Gives a lease back.
    RELEASE = "look" "held" "patch" "wake" "bare" "release";
    /// Gives a lease back and keeps others from it for a while.
    REST = "look" "held" "time" "patch" "wake" "bare" "rest";
    /// Deletes keys; this and the next six number and publish what they do.
    DELETE = "seq" "tell" "delete" "publish";
    /// Keeps values as fallbacks.
    SOFTEN = "seq" "tell" "value" "bare" "soften" "publish";
    /// Bars fills.
    HOLD = "seq" "tell" "hold" "publish";
    /// Puts a value.
    PUT = "seq" "tell" "put" "publish";
    /// Puts a value unless a newer one stands.
    PUT_NEWER = "seq" "tell" "value" "newer" "put" "publish";
    /// Puts a value if what was seen still stands.
    SWAP = "seq" "tell" "look" "seen" "room" "put" "publish";
    /// Deletes a key if what was seen still stands.
    DELETE_SEEN = "seq" "tell" "look" "seen" "delete" "publish";
    /// Bumps a tag.
    BUMP = "seq" "tags" "bump";
    /// Reads tag generations.
    GENERATIONS = "seq" "tags" "generations";
    /// Reads the last number as only a writable primary can.
    BEAT = "seq" "beat";
    /// Compares and sets.
    CAS = "cas";
    /// Compares and deletes.
    CAD = "cad";
    /// Adds to a counter.
    ADD = "add";
    recipe:
    /// Replaces or removes a value if it is the expected one.
    EXCHANGE = "exchange";
    /// Stores a value where none or another one is.
    OVERWRITE = "overwrite";
    /// Adds to a counter within limits.
    COUNT = "integer" "count";
    /// Moves from one counter to another.
    TRANSFER = "integer" "transfer";
    /// Sets a counter.
    REPLACE = "integer" "replace";
    /// Takes from a limit counted by one arrival time.
    LIMIT_GCRA = "limit" "limit_gcra";
    /// Takes from a limit counted in a window.
    LIMIT_FIXED = "limit" "limit_fixed";
    /// Takes from a limit counted in two weighed windows.
    LIMIT_SLIDING = "limit" "limit_sliding";
    /// Takes from a limit that remembers each take.
    LIMIT_LOG = "limit" "limit_log";
    /// Forgets what was taken.
    LIMIT_RESET = "limit_reset";
    /// Takes a lock.
    LOCK_ACQUIRE = "lock" "lock_acquire";
    /// Prolongs a lock.
    LOCK_EXTEND = "lock" "lock_extend";
    /// Gives a lock back.
    LOCK_RELEASE = "lock" "lock_release";
    /// Keeps a new session.
    SESSION_OPEN = "time" "sessions" "session_open";
    /// Reads a session.
    SESSION_LOOK = "time" "sessions" "session_look";
    /// Reads a session and prolongs it.
    SESSION_TOUCH = "time" "sessions" "session_touch";
    /// Replaces what a session holds.
    SESSION_SAVE = "time" "sessions" "session_save";
    /// Gives a session another name.
    SESSION_RENAME = "time" "sessions" "session_rename";
    /// Ends a session.
    SESSION_END = "time" "sessions" "session_end";
    /// Ends the sessions of a place.
    SESSION_END_ALL = "time" "sessions" "session_end_all";
    /// Reads the sessions of a place.
    SESSION_LIST = "time" "sessions" "session_list";
    /// Sets a score.
    BOARD_PUT = "board_put";
    /// Adds to a score.
    BOARD_RAISE = "board_raise";
    /// A member's place.
    BOARD_STANDING = "board" "board_standing";
    /// Members by rank.
    BOARD_RANKED = "board" "board_ranked";
    /// A member and those beside it.
    BOARD_AROUND = "board" "board_around";
    /// Members by score.
    BOARD_BETWEEN = "board" "board_between";
}

impl Script {
    /// A call with `keys`; arguments are added by [`Call::arg`].
    pub(crate) fn on<K: ToRedisArgs>(&'static self, keys: &[K]) -> Call {
        let hash = self.hash.get_or_init(|| redis::Script::new(self.body).get_hash().to_owned());
        let mut command = redis::cmd("EVALSHA");
        command.arg(hash).arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        Call { script: self, command }
    }
}

impl Script {
    /// A call by hash as one that carries the text.
    fn with_text(&self, call: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.body);
        for arg in call.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                command.arg(bytes);
            }
        }
        command
    }
}

/// Runs `command`, then has `key` watched. An error comes with the command, if it may be sent again.
async fn kept(
    link: &Link,
    operation: &'static str,
    command: Cmd,
    key: &str,
    frame: &[u8],
) -> Result<bool, (Error, Option<Cmd>)> {
    let mut pipe = redis::pipe();
    // else the script's own look at the key would be tracked, and its write be pushed
    pipe.cmd("CLIENT").arg("CACHING").arg("NO").add_command(command);
    pipe.cmd("GETRANGE").arg(key).arg(0).arg(HEADER - 1).ignore_errors();
    let replies: Vec<Value> = link.pipe(operation, &pipe).await.map_err(|error| (error, None))?;
    let Ok([_, stored, head]) = <[Value; 3]>::try_from(replies) else {
        return Err((error::unexpected(operation), None));
    };
    let stored = stored.extract_error().and_then(|stored| Ok(redis::from_redis_value::<bool>(stored)?));
    let stored = stored.map_err(|cause| (error::map(operation, &cause), pipe.cmd_iter().nth(1).cloned()))?;
    // written between the two, by whom nobody says
    let stands = matches!(&head, Value::BulkString(head) if stamp(head).is_some() && stamp(head) == stamp(frame));
    if stored && !stands {
        link.suspect(key);
    }
    Ok(stored)
}

fn stamp(frame: &[u8]) -> Option<Stamp> {
    Header::parse(frame).ok().map(|header| header.stamp)
}

/// One run of a script.
#[derive(Debug)]
pub(crate) struct Call {
    script: &'static Script,
    command: Cmd,
}

impl Call {
    pub(crate) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// Runs it: one round trip, or two when the server has lost the script. Then the text is sent along, which
    /// stores it again and needs no more permission than running it.
    pub(crate) async fn run<T: FromRedisValue>(self, link: &Link, operation: &'static str) -> Result<T> {
        self.run_at(link, operation).await.map(|(value, _)| value)
    }

    /// As [`run`](Self::run), with the run of the server that it ran on.
    pub(crate) async fn run_at<T: FromRedisValue>(self, link: &Link, operation: &'static str) -> Result<(T, u64)> {
        match link.call_run(operation, &self.command).await {
            Err(error) if error.reply() == Some(Reply::NoScript) => {
                link.call_run(operation, &self.script.with_text(&self.command)).await
            }
            answer => answer,
        }
    }

    /// Runs a script that stores `frame` at `key` and says whether it did. As [`run`](Self::run); where reads are
    /// tracked, the key is read behind it in the same round trip: no server tracks what a client wrote.
    pub(crate) async fn run_kept(self, link: &Link, operation: &'static str, key: &str, frame: &[u8]) -> Result<bool> {
        if !link.tracks_reads() {
            return self.run(link, operation).await;
        }
        let script = self.script;
        match Box::pin(kept(link, operation, self.command, key, frame)).await {
            Err((error, Some(command))) if error.reply() == Some(Reply::NoScript) => {
                let answer = Box::pin(kept(link, operation, script.with_text(&command), key, frame)).await;
                answer.map_err(|(error, _)| error)
            }
            answer => answer.map_err(|(error, _)| error),
        }
    }
}

/// Ends `work`, which may take several round trips, within the deadline of one.
pub(crate) async fn within<T>(
    link: &Link,
    operation: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let span = link.config().knobs.timeout;
    timeout(span, work).await.unwrap_or_else(|_| Err(error::timeout(operation, span)))
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
