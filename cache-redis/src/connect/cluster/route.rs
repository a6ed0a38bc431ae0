//! Which slot a request goes to, and where a reply sends it instead.

use std::collections::HashMap;

use redis::{Arg, Cmd, Pipeline, Value};

use super::slots::{beside, slot};
use crate::config::Endpoint;
use crate::connect::{Failure, Request};

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Slot(u16),
    /// It has no key: any server will do.
    Any,
    /// Its keys are in different slots: no server can run it.
    Cross,
}

impl Spot {
    pub(super) fn of(request: Request<'_>) -> Self {
        match request {
            Request::One(cmd) => Self::of_command(cmd),
            Request::Many(pipeline) | Request::Part { pipeline, .. } => {
                pipeline.cmd_iter().map(Self::of_command).fold(Self::Any, Self::and)
            }
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, spot) | (spot, Self::Any) => spot,
            (Self::Slot(a), Self::Slot(b)) if a == b => self,
            _ => Self::Cross,
        }
    }

    fn of_command(cmd: &Cmd) -> Self {
        let args: Vec<&[u8]> = cmd
            .args_iter()
            .map(|arg| match arg {
                Arg::Simple(bytes) => bytes,
                _ => &b""[..],
            })
            .collect();
        let Some((name, args)) = args.split_first() else { return Self::Any };
        let name = name.to_ascii_uppercase();
        let keys = match &name[..] {
            b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
                let count = args.get(1).and_then(|count| std::str::from_utf8(count).ok()?.parse().ok()).unwrap_or(0);
                args.get(2..).map(|keys| keys.get(..count).unwrap_or(keys)).unwrap_or_default()
            }
            b"MGET" | b"DEL" | b"UNLINK" | b"EXISTS" | b"TOUCH" | b"WATCH" => args,
            b"OBJECT" | b"MEMORY" | b"XINFO" | b"XGROUP" | b"BITOP" => args.get(1..2).unwrap_or_default(),
            b"XREAD" | b"XREADGROUP" => {
                let streams = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"STREAMS"));
                streams.and_then(|at| args.get(at + 1..at + 2)).unwrap_or_default()
            }
            b"PING" | b"ECHO" | b"INFO" | b"CLIENT" | b"CONFIG" | b"SCRIPT" | b"FUNCTION" | b"CLUSTER" | b"PUBLISH"
            | b"SCAN" | b"WAIT" | b"ACL" | b"COMMAND" | b"DEBUG" | b"PUBSUB" | b"SLOWLOG" | b"LATENCY" | b"KEYS"
            | b"FLUSHALL" | b"FLUSHDB" | b"SELECT" => &[],
            _ => args.get(..1).unwrap_or_default(),
        };
        keys.iter().map(|key| Self::Slot(slot(key))).fold(Self::Any, Self::and)
    }
}

/// Whether all keys are of one slot.
pub(crate) fn is_one_slot<'k>(keys: impl IntoIterator<Item = &'k str>) -> bool {
    let mut slots = keys.into_iter().map(|key| slot(key.as_bytes()));
    let first = slots.next();
    slots.all(|slot| Some(slot) == first)
}

/// The indices of `keys` by slot, each list in order.
pub(crate) fn parts<K: AsRef<[u8]>>(keys: &[K]) -> Vec<Vec<usize>> {
    let mut index = HashMap::new();
    let mut parts: Vec<Vec<usize>> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let at = *index.entry(slot(key.as_ref())).or_insert(parts.len());
        match parts.get_mut(at) {
            Some(part) => part.push(i),
            None => parts.push(vec![i]),
        }
    }
    parts
}

/// What a reply means for where the request should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The request ran, or failed for a reason that has nothing to do with slots.
    Final,
    /// It did not run: another server owns the slot from now on.
    Moved(u16, Endpoint),
    /// It did not run: another server has this key already.
    Ask(Endpoint),
    /// It did not run: its keys are on two servers until a migration ends.
    Later,
    /// The server is away or does not serve: somebody else may own its slots soon.
    Doubt,
}

impl Verdict {
    pub(super) fn of(answer: &Result<Value, Failure>, asked: &Endpoint) -> Self {
        match answer {
            // the raw door gets its replies unopened
            Ok(Value::Array(replies)) => {
                let first = replies.iter().find_map(|reply| match reply {
                    Value::ServerError(error) => Some(error),
                    _ => None,
                });
                first.map_or(Self::Final, |error| Self::of_reply(error.code(), error.details(), asked))
            }
            Ok(_) => Self::Final,
            Err(Failure::Down(_) | Failure::Late | Failure::LateInPart) => Self::Doubt,
            Err(Failure::Driver(cause)) if crate::error::is_broken(cause) => Self::Doubt,
            Err(Failure::Driver(cause)) => {
                let errors = cause.clone().into_server_errors();
                let first = errors.as_ref().and_then(|errors| errors.first());
                first.map_or(Self::Final, |(_, error)| Self::of_reply(error.code(), error.details(), asked))
            }
        }
    }

    fn of_reply(code: &str, details: Option<&str>, asked: &Endpoint) -> Self {
        match code {
            "MOVED" | "ASK" => match redirect(details.unwrap_or(""), asked) {
                Some((slot, owner)) if code == "MOVED" => Self::Moved(slot, owner),
                Some((_, owner)) => Self::Ask(owner),
                None => Self::Doubt,
            },
            "TRYAGAIN" => Self::Later,
            "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "LOADING" => Self::Doubt,
            _ => Self::Final,
        }
    }
}

/// The slot and the address of a redirection: `3999 127.0.0.1:6381`.
pub(super) fn redirect(details: &str, asked: &Endpoint) -> Option<(u16, Endpoint)> {
    let (slot, place) = details.trim().split_once(' ')?;
    // an IPv6 address comes without brackets
    let (host, port) = place.rsplit_once(':')?;
    Some((slot.parse().ok()?, beside(host, port.parse().ok()?, asked)?))
}

/// The request with `ASKING` before each command; `None` for a part, whose replies are counted.
pub(super) fn asking(request: Request<'_>) -> Option<Pipeline> {
    let mut pipe = Pipeline::new();
    let mut add = |cmd: &Cmd| {
        pipe.cmd("ASKING").ignore().add_command(cmd.clone());
    };
    match request {
        Request::One(cmd) => add(cmd),
        Request::Many(pipeline) => pipeline.cmd_iter().for_each(add),
        Request::Part { .. } => return None,
    }
    Some(pipe)
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    #[test]
    fn commands_go_where_their_keys_are() {
        let foo = Spot::Slot(slot(b"foo"));
        for (cmd, spot) in [
            (cmd("GET").arg("foo"), foo),
            (cmd("mget").arg("foo").arg("{foo}x"), foo),
            (cmd("MGET").arg("foo").arg("bar"), Spot::Cross),
            (cmd("SET").arg("foo").arg("bar"), foo),
            (cmd("EVALSHA").arg("sha").arg(2).arg("foo").arg("a{foo}").arg("bar"), foo),
            (cmd("EVAL").arg("text").arg(2).arg("foo").arg("bar"), Spot::Cross),
            (cmd("EVAL").arg("text").arg(0).arg("foo"), Spot::Any),
            (cmd("EVAL").arg("text").arg(9).arg("foo"), foo),
            (cmd("SPUBLISH").arg("foo").arg("x"), foo),
            (cmd("XREAD").arg("COUNT").arg(1).arg("STREAMS").arg("foo").arg("0"), foo),
            (cmd("OBJECT").arg("ENCODING").arg("foo"), foo),
            (&mut cmd("PING"), Spot::Any),
            (&mut cmd("DBSIZE"), Spot::Any),
            (&mut Cmd::new(), Spot::Any),
        ] {
            assert_eq!(Spot::of(Request::One(cmd)), spot, "{cmd:?}");
        }
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg("foo").cmd("PING");
        assert_eq!(Spot::of(Request::Many(&pipe)), foo);
        pipe.cmd("GET").arg("bar");
        assert_eq!(Spot::of(Request::Many(&pipe)), Spot::Cross);
    }

    #[test]
    fn keys_are_parted_in_order() {
        assert_eq!(parts(&["a", "{b}1", "a", "{b}2", "c"]), [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!(parts::<&str>(&[]).len(), 0);
        assert!(is_one_slot(["{a}1", "a"]) && is_one_slot([]) && !is_one_slot(["a", "b"]));
    }

    #[test]
    fn redirections_are_read() {
        let asked = Endpoint::Tcp { host: "h".into(), port: 9 };
        let at = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        assert_eq!(redirect("3999 127.0.0.1:6381", &asked), Some((3999, at("127.0.0.1", 6381))));
        assert_eq!(redirect("3999 :6381", &asked), Some((3999, at("h", 6381))));
        assert_eq!(redirect("1 ::1:7", &asked), Some((1, at("::1", 7))));
        for bad in ["", "1", "1 h", "x h:1", "1 h:x", "65536 h:1"] {
            assert_eq!(redirect(bad, &asked), None, "{bad}");
        }
    }
}
