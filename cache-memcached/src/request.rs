//! Commands as bytes.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use crate::key;
use crate::time::Expiry;

/// Commands that go out together, in this order, over one connection; the server does them in this order too.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) bytes: BytesMut,
    pub(crate) expected: Vec<Expected>,
}

/// What answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One line, perhaps with a value.
    One,
    /// Lines up to `END`.
    Stats,
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Only if the key is missing.
    Absent,
    /// Only if the item is still the one with this number.
    Same(u64),
}

impl Request {
    /// Reads flags, number, seconds left and value.
    pub(crate) fn get(mut self, key: &str) -> Self {
        self.line("mg", key, "", "v f c t");
        self
    }

    /// As [`get`](Self::get), and lets the item live for `seconds` from now.
    pub(crate) fn get_and_touch(mut self, key: &str, seconds: i64) -> Self {
        self.line("mg", key, "", &format!("v f c t T{seconds}"));
        self
    }

    /// Reads flags, number and seconds left.
    pub(crate) fn head(mut self, key: &str) -> Self {
        self.line("mg", key, "", "f c t");
        self
    }

    /// Stores a value; the answer has its number.
    pub(crate) fn set(mut self, key: &str, value: &Bytes, expiry: Expiry, when: When) -> Self {
        let mut flags = format!("c F{} T{}", expiry.flags, expiry.seconds);
        match when {
            When::Always => {}
            When::Absent => flags.push_str(" ME"),
            When::Same(number) => {
                let _ = write!(flags, " C{number}");
            }
        }
        self.line("ms", key, &format!("{} ", value.len()), &flags);
        self.bytes.put_slice(value);
        self.bytes.put_slice(b"\r\n");
        self
    }

    /// Removes an item; only if it is still the one with this number, if one is given.
    pub(crate) fn delete(mut self, key: &str, same: Option<u64>) -> Self {
        self.line("md", key, "", &same.map_or_else(String::new, |number| format!("C{number}")));
        self
    }

    /// Adds one to a counter; the answer has the sum.
    pub(crate) fn increment(mut self, key: &str) -> Self {
        self.line("ma", key, "", "v");
        self
    }

    /// What the server says about itself.
    pub(crate) fn stats(mut self, group: &str) -> Self {
        self.bytes.put_slice(b"stats");
        if !group.is_empty() {
            self.bytes.put_u8(b' ');
            self.bytes.put_slice(group.as_bytes());
        }
        self.bytes.put_slice(b"\r\n");
        self.expected.push(Expected::Stats);
        self
    }

    /// Asks whether the server knows these commands at all.
    pub(crate) fn nothing(mut self) -> Self {
        self.bytes.put_slice(b"mn\r\n");
        self.expected.push(Expected::One);
        self
    }

    /// Logs in: the text protocol's way is to store the login under any key.
    pub(crate) fn login(mut self, user: &str, password: &str) -> Self {
        let login = format!("{user} {password}");
        self.bytes.put_slice(format!("set login 0 0 {}\r\n{login}\r\n", login.len()).as_bytes());
        self.expected.push(Expected::One);
        self
    }

    fn line(&mut self, command: &str, key: &str, size: &str, flags: &str) {
        let key = key::write(key);
        let encoded = if key.encoded { "b " } else { "" };
        let line = format!("{command} {} {size}{encoded}{flags}", key.text);
        self.bytes.put_slice(line.trim_end().as_bytes());
        self.bytes.put_slice(b"\r\n");
        self.expected.push(Expected::One);
    }
}
