//! The rules for keys, ttls and values, checked before any data is touched.

use std::fmt;
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// The longest key in bytes.
pub const MAX_KEY: usize = 1024;

/// The longest ttl: ten years.
pub const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Refuses a key that is empty, over [`MAX_KEY`] bytes, or holds a control character.
///
/// # Errors
/// `Invalid`, with the key's length and hash, never its text.
pub fn check_key(key: &str) -> Result<()> {
    let fault = if key.is_empty() {
        "key is empty"
    } else if key.len() > MAX_KEY {
        "key is longer than 1024 bytes; hash its long part"
    } else if is_printable(key) || !key.contains(char::is_control) {
        return Ok(());
    } else {
        "key holds a control character; encode it, for example as hex"
    };
    Err(Error::new(ErrorKind::Invalid, format!("{fault} ({})", KeyHash::of(key))))
}

/// Whether a key is printable ASCII, as most are. Without an early end, so that it is done many bytes at a time.
fn is_printable(key: &str) -> bool {
    !key.bytes().fold(false, |odd, b| odd | !(0x20..0x7f).contains(&b))
}

/// The ttl in whole milliseconds, rounded up; refuses zero and anything over [`MAX_TTL`].
///
/// # Errors
/// `Invalid`.
pub fn check_ttl(ttl: Duration) -> Result<u64> {
    if ttl.is_zero() {
        return Err(Error::new(ErrorKind::Invalid, "ttl is zero; use delete to remove a key"));
    }
    if ttl > MAX_TTL {
        return Err(Error::new(ErrorKind::Invalid, "ttl is longer than ten years"));
    }
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    Ok(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Refuses a value over `max` bytes.
///
/// # Errors
/// `TooLarge`, with both numbers.
pub fn check_value(len: usize, max: usize) -> Result<()> {
    if len <= max {
        return Ok(());
    }
    let text = format!("value has {len} bytes, the limit is {max}; raise the limit or store less");
    Err(Error::new(ErrorKind::TooLarge, text))
}

/// A key as it may appear in errors and logs: its length and a 64-bit hash (FNV-1a), never its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash {
    len: usize,
    hash: u64,
}

impl KeyHash {
    /// The hash of `key`.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let hash =
            key.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self { len: key.len(), hash }
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key of {} bytes, hash {:016x}", self.len, self.hash)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
