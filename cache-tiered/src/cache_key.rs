//! Typed keys: how an id becomes the text of a key.

use std::fmt::Write;

use arrayvec::ArrayString;
use cache_core::{Error, ErrorKind, Head, MAX_KEY, Parted, Result};

/// Room for the longest key behind an engine's number. Whether a key fits is told by its far form.
const ROOM: usize = MAX_KEY + 24;

/// The text of a key while it is built, on the stack.
#[derive(Debug)]
pub struct KeyText {
    text: ArrayString<ROOM>,
    full: bool,
}

impl KeyText {
    /// An empty text. Inlined without fail: moving a kilobyte would cost as much as the rest of a near hit.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { text: ArrayString::new(), full: false }
    }

    /// Appends `part`.
    #[inline]
    pub fn push(&mut self, part: &str) {
        self.full |= self.text.try_push_str(part).is_err();
    }

    /// Appends `part` so that the separator `/` in it can't be mistaken for one between parts.
    pub fn push_escaped(&mut self, part: &str) {
        for piece in part.split_inclusive(['/', '%']) {
            match piece.strip_suffix(['/', '%']) {
                Some(head) => {
                    self.push(head);
                    self.push(if piece.ends_with('/') { "%2F" } else { "%25" });
                }
                None => self.push(piece),
            }
        }
    }

    /// The text, if it fits and is not longer than a key may be.
    #[inline]
    pub(crate) fn as_str(&self) -> Result<&str> {
        if self.full { Err(too_long()) } else { Ok(&self.text) }
    }
}

impl KeyText {
    /// The key of `head` and `key`, whose text is written here unless it stands somewhere already.
    #[inline]
    pub(crate) fn behind<'a, K: CacheKey + ?Sized>(&'a mut self, head: &'a Head, key: &'a K) -> Result<Parted<'a>> {
        let rest = match key.as_text() {
            Some(rest) => rest,
            None => {
                key.write(self);
                self.as_str()?
            }
        };
        if rest.len() > ROOM - head.as_str().len() { Err(too_long()) } else { Ok(head.with(rest)) }
    }
}

#[cold]
fn too_long() -> Error {
    let text = format!("key with its namespace and space is longer than {MAX_KEY} bytes; hash its long part");
    Error::new(ErrorKind::Invalid, text)
}

impl Write for KeyText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.push(part);
        Ok(())
    }
}

/// A key of a [`Cache`](crate::Cache): something that writes itself as text, different values as different texts.
///
/// Implemented for strings, integers, `bool`, and pairs and triples of keys, so that `(tenant, user)` is a key and nobody
/// formats one by hand. For an id of your own:
///
/// ```
/// use cache_tiered::{CacheKey, KeyText};
///
/// struct UserId(u64);
///
/// impl CacheKey for UserId {
///     fn write(&self, key: &mut KeyText) {
///         self.0.write(key);
///     }
/// }
/// ```
pub trait CacheKey: Sync {
    /// Appends the key's text.
    fn write(&self, key: &mut KeyText);

    /// The key's text, where it stands somewhere already: then nothing is written, and a near hit copies nothing. The
    /// same as [`write`](Self::write) appends.
    #[inline]
    fn as_text(&self) -> Option<&str> {
        None
    }

    /// Appends the key's text as one part of a compound key, without an unescaped `/`.
    fn write_part(&self, key: &mut KeyText) {
        self.write(key);
    }
}

impl CacheKey for str {
    #[inline]
    fn write(&self, key: &mut KeyText) {
        key.push(self);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }

    fn write_part(&self, key: &mut KeyText) {
        key.push_escaped(self);
    }
}

impl CacheKey for String {
    #[inline]
    fn write(&self, key: &mut KeyText) {
        self.as_str().write(key);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }

    fn write_part(&self, key: &mut KeyText) {
        key.push_escaped(self);
    }
}

impl<K: CacheKey + ?Sized> CacheKey for &K {
    #[inline]
    fn write(&self, key: &mut KeyText) {
        (**self).write(key);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        (**self).as_text()
    }

    fn write_part(&self, key: &mut KeyText) {
        (**self).write_part(key);
    }
}

macro_rules! plain {
    ($($number:ty)+) => {
        $(impl CacheKey for $number {
            fn write(&self, key: &mut KeyText) {
                // writing to a KeyText can't fail
                let _ = write!(key, "{self}");
            }
        })+
    };
}

plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool);

impl<A: CacheKey, B: CacheKey> CacheKey for (A, B) {
    fn write(&self, key: &mut KeyText) {
        self.0.write_part(key);
        key.push("/");
        self.1.write_part(key);
    }
}

impl<A: CacheKey, B: CacheKey, C: CacheKey> CacheKey for (A, B, C) {
    fn write(&self, key: &mut KeyText) {
        self.0.write_part(key);
        key.push("/");
        self.1.write_part(key);
        key.push("/");
        self.2.write_part(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &(impl CacheKey + ?Sized)) -> String {
        let mut text = KeyText::new();
        text.push("n:s:");
        key.write(&mut text);
        text.as_str().unwrap().to_owned()
    }

    #[test]
    fn ids_write_themselves() {
        assert_eq!(text("a/b"), "n:s:a/b");
        assert_eq!(text(&42u64), "n:s:42");
        assert_eq!(text(&(7i32, "x")), "n:s:7/x");
    }

    #[test]
    fn different_compound_keys_are_different_texts() {
        let keys = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "b%2Fc"), ("a%", "c"), ("a", "")];
        let texts: std::collections::HashSet<String> = keys.iter().map(text).collect();
        assert_eq!(texts.len(), keys.len());
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused() {
        let mut key = KeyText::new();
        key.push("n:s:");
        key.push(&"x".repeat(ROOM));
        assert_eq!(key.as_str().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
