//! What goes to a server and what comes back.

use bytes::Bytes;
use cache_core::{Error, ErrorKind, Result};
use redis::Value as Driver;

use crate::error;

/// An argument: bytes, text, a number.
#[derive(Clone)]
pub struct Arg(Bytes);

impl Arg {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Arg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arg({} bytes)", self.0.len())
    }
}

macro_rules! args {
    ($($from:ty => $bytes:expr,)*) => {
        $(impl From<$from> for Arg {
            fn from(value: $from) -> Self {
                Self($bytes(value))
            }
        })*
    };
}

args! {
    &str => |text: &str| Bytes::copy_from_slice(text.as_bytes()),
    String => Bytes::from,
    &String => |text: &String| Bytes::copy_from_slice(text.as_bytes()),
    &[u8] => Bytes::copy_from_slice,
    Vec<u8> => Bytes::from,
    Bytes => |bytes| bytes,
    &Bytes => Bytes::clone,
    i32 => |number: i32| Bytes::from(number.to_string()),
    u32 => |number: u32| Bytes::from(number.to_string()),
    i64 => |number: i64| Bytes::from(number.to_string()),
    u64 => |number: u64| Bytes::from(number.to_string()),
    usize => |number: usize| Bytes::from(number.to_string()),
    f64 => |number: f64| Bytes::from(number.to_string()),
}

/// A reply.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: a missing key, a false in a script.
    Nil,
    /// A whole number.
    Int(i64),
    /// A number with a fraction (RESP3).
    Double(f64),
    /// A truth value (RESP3).
    Bool(bool),
    /// Bytes, or a status text such as `OK`.
    Bytes(Bytes),
    /// A list, or a set.
    List(Vec<Self>),
    /// A map (RESP3); over RESP2 it is a list of names and values in turn.
    Map(Vec<(Self, Self)>),
    /// An error in the place of a value: one command of a pipeline failed.
    Error(Error),
}

impl Value {
    /// The driver's value as ours. What stands deeper than a server nests replies is cut off.
    pub(super) fn of(value: Driver, operation: &'static str) -> Self {
        Self::nested(value, operation, 64)
    }

    fn nested(value: Driver, operation: &'static str, depth: u32) -> Self {
        let Some(depth) = depth.checked_sub(1) else { return Self::Nil };
        let list =
            |values: Vec<Driver>| Self::List(values.into_iter().map(|v| Self::nested(v, operation, depth)).collect());
        match value {
            Driver::Nil => Self::Nil,
            Driver::Int(number) => Self::Int(number),
            Driver::Double(number) => Self::Double(number),
            Driver::Boolean(truth) => Self::Bool(truth),
            Driver::BulkString(bytes) => Self::Bytes(bytes.into()),
            Driver::SimpleString(text) | Driver::VerbatimString { text, .. } => Self::Bytes(text.into()),
            Driver::Okay => Self::Bytes(Bytes::from_static(b"OK")),
            Driver::BigNumber(digits) => Self::Bytes(digits.into()),
            Driver::Array(values) | Driver::Set(values) => list(values),
            Driver::Push { data, .. } => list(data),
            Driver::Map(pairs) => {
                let pair = |(k, v)| (Self::nested(k, operation, depth), Self::nested(v, operation, depth));
                Self::Map(pairs.into_iter().map(pair).collect())
            }
            Driver::Attribute { data, .. } => Self::nested(*data, operation, depth),
            Driver::ServerError(error) => {
                let error = error::server(error.code(), error.details().unwrap_or(""));
                Self::Error(error.with_operation(operation))
            }
            _ => Self::Nil,
        }
    }

    /// The value, or the error that stands in its place.
    pub(super) fn checked(self) -> Result<Self> {
        match self {
            Self::Error(error) => Err(error),
            value => Ok(value),
        }
    }
}

/// What a reply can be read as: whole numbers, `f64`, `bool`, `String`, `Bytes`, `Option`, `Vec`, pairs, `()` for any
/// reply, and [`Value`] itself.
pub trait FromValue: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The error that stands in the reply's place; `Codec` if it is of another kind.
    fn from_value(value: Value) -> Result<Self>;
}

fn other(wanted: &str) -> Error {
    error::fault(ErrorKind::Codec, format!("the reply is no {wanted}; ask for the kind that the command returns"))
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self> {
        value.checked()
    }
}

impl FromValue for () {
    fn from_value(value: Value) -> Result<Self> {
        value.checked().map(drop)
    }
}

impl FromValue for Bytes {
    fn from_value(value: Value) -> Result<Self> {
        match value.checked()? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Int(number) => Ok(number.to_string().into()),
            _ => Err(other("text")),
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self> {
        let bytes = Bytes::from_value(value)?;
        Self::from_utf8(bytes.into()).map_err(|_| other("utf-8 text"))
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<Self> {
        match value.checked()? {
            Value::Int(number) => Ok(number),
            Value::Bool(truth) => Ok(Self::from(truth)),
            Value::Bytes(bytes) => {
                std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(|| other("whole number"))
            }
            _ => Err(other("whole number")),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            // up to twice of what an Int holds
            Value::Bytes(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| other("whole number from 0 on")),
            value => i64::from_value(value)?.try_into().map_err(|_| other("whole number from 0 on")),
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Result<Self> {
        match value.checked()? {
            Value::Double(number) => Ok(number),
            #[expect(clippy::cast_precision_loss, reason = "who asks for a float gets one")]
            Value::Int(number) => Ok(number as Self),
            Value::Bytes(bytes) => {
                std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(|| other("number"))
            }
            _ => Err(other("number")),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self> {
        match value.checked()? {
            Value::Bool(truth) => Ok(truth),
            // what a script makes of false over RESP2, and of a condition that did not hold
            Value::Nil | Value::Int(0) => Ok(false),
            Value::Int(1) => Ok(true),
            Value::Bytes(bytes) if bytes == "OK" => Ok(true),
            _ => Err(other("truth value")),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Nil => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Result<Self> {
        match value.checked()? {
            Value::List(values) => values.into_iter().map(T::from_value).collect(),
            _ => Err(other("list")),
        }
    }
}

impl<A: FromValue, B: FromValue> FromValue for (A, B) {
    fn from_value(value: Value) -> Result<Self> {
        match value.checked()? {
            Value::List(values) => match <[Value; 2]>::try_from(values) {
                Ok([a, b]) => Ok((A::from_value(a)?, B::from_value(b)?)),
                Err(_) => Err(other("pair")),
            },
            _ => Err(other("pair")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn replies_are_read_as_what_they_are_and_nothing_else() {
        assert_eq!(i64::from_value(text("-7")).unwrap(), -7);
        assert_eq!(u64::from_value(text("18446744073709551615")).unwrap(), u64::MAX);
        assert_eq!(String::from_value(Value::Int(7)).unwrap(), "7");
        assert_eq!(Option::<i64>::from_value(Value::Nil).unwrap(), None);
        assert_eq!(
            Vec::<Option<i64>>::from_value(Value::List(vec![Value::Nil, Value::Int(1)])).unwrap(),
            [None, Some(1)]
        );
        assert_eq!(<(String, f64)>::from_value(Value::List(vec![text("a"), text("1.5")])).unwrap(), ("a".into(), 1.5));
        assert!(bool::from_value(text("OK")).unwrap() && !bool::from_value(Value::Nil).unwrap());
        for error in [
            i64::from_value(text("x")).unwrap_err(),
            u64::from_value(Value::Int(-1)).unwrap_err(),
            String::from_value(Value::Bytes(Bytes::from_static(b"\xff"))).unwrap_err(),
            bool::from_value(Value::Int(2)).unwrap_err(),
            Vec::<i64>::from_value(Value::Nil).unwrap_err(),
            <(i64, i64)>::from_value(Value::List(vec![Value::Int(1)])).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
        }
        let error = || Value::Error(error::server("WRONGTYPE", ""));
        assert_eq!(<()>::from_value(error()).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(Option::<i64>::from_value(error()).unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn a_reply_nested_without_end_is_cut() {
        let deep = (0..10_000).fold(Driver::Nil, |inner, _| Driver::Array(vec![inner]));
        let mut value = Value::of(deep, "test");
        let mut depth = 0;
        while let Value::List(mut inner) = value {
            value = inner.pop().unwrap();
            depth += 1;
        }
        assert!(depth <= 64);
    }
}
