//! A key in two parts that nobody joined.

use std::cell::Cell;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// The longest head in bytes.
const MOST: usize = 96;

/// What all keys of a key space begin with: a text that ends with its second colon, such as `3:users:`, of 96 bytes at
/// most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head(Arc<str>);

impl Head {
    /// The head that is `text`.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || end(&text) != text.len() {
            let what = format!("a key's head ends with its second colon and is {MOST} bytes long at most");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Ok(Self(text))
    }

    /// Its text.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that is this head and `rest`.
    #[must_use]
    #[inline]
    pub fn with<'a>(&'a self, rest: &'a str) -> Parted<'a> {
        Parted { head: &self.0, rest }
    }
}

/// A key in two parts: its [`Head`], and the rest. A key is cut in one way only, so a store may hash it by parts; one
/// without a head is all rest.
///
/// A near hit looks a key up as it was given, behind its key space's head, and copies neither. Lent, not moved: four words
/// that were just written one by one are slow to read two at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parted<'a> {
    head: &'a str,
    rest: &'a str,
}

impl<'a> Parted<'a> {
    /// `key`, cut.
    #[must_use]
    #[inline]
    pub fn cut(key: &'a str) -> Self {
        let (head, rest) = key.split_at(end(key));
        Self { head, rest }
    }

    /// The head; empty if there is none.
    #[must_use]
    #[inline]
    pub const fn head(&self) -> &'a str {
        self.head
    }

    /// What stands behind it.
    #[must_use]
    #[inline]
    pub const fn rest(&self) -> &'a str {
        self.rest
    }

    /// Whether the two parts make `key`.
    #[must_use]
    #[inline]
    pub fn is(&self, key: &str) -> bool {
        let (key, head, rest) = (key.as_bytes(), self.head.as_bytes(), self.rest.as_bytes());
        let Some((held_head, held_rest)) = key.split_at_checked(head.len()) else { return false };
        // the rest first: it is what keys of one space differ in
        held_rest == rest && is_same(held_head, head)
    }

    /// What `with` makes of the whole key. Allocates only when a thread joins a key longer than those before.
    pub fn joined<T>(&self, with: impl FnOnce(&str) -> T) -> T {
        thread_local! {
            static TEXT: Cell<String> = const { Cell::new(String::new()) };
        }
        // a key joined by `with`, or while the thread ends, has a text of its own
        let mut text = TEXT.try_with(Cell::take).unwrap_or_default();
        text.clear();
        text.push_str(self.head);
        text.push_str(self.rest);
        let made = with(&text);
        let _ = TEXT.try_with(|place| place.set(text));
        made
    }
}

impl std::fmt::Debug for Parted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parted").field("head", &self.head).finish_non_exhaustive()
    }
}

/// Whether two texts of one length are the same. Most heads are two words long, and compared faster than a call is made.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let ends = |text: &[u8]| {
        let (first, last) = (text.first_chunk()?, text.last_chunk()?);
        (text.len() <= 16).then(|| (u64::from_ne_bytes(*first), u64::from_ne_bytes(*last)))
    };
    match (ends(a), ends(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Where the head of `key` ends: behind its second colon, if that stands early enough.
#[inline]
fn end(key: &str) -> usize {
    let mut colons = 0;
    for (at, byte) in key.bytes().take(MOST).enumerate() {
        colons += u32::from(byte == b':');
        if colons == 2 {
            return at + 1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_cut_behind_its_second_colon_and_nowhere_else() {
        let cases = [("3:users:42", "3:users:"), ("3:users:a:b", "3:users:"), ("3::a", "3::"), ("a:b", ""), ("", "")];
        for (key, head) in cases {
            let cut = Parted::cut(key);
            assert_eq!((cut.head(), cut.rest()), (head, &key[head.len()..]));
            assert!(cut.is(key) && !cut.is("3:users:43") && cut.joined(|text| text == key));
        }
        let far = format!("{}::x", "a".repeat(MOST));
        assert_eq!(Parted::cut(&far).head(), "");
    }

    #[test]
    fn what_a_head_makes_with_a_rest_is_cut_there_again() {
        let head = Head::new("3:users:").unwrap();
        for rest in ["42", "", ":", "a:b:c"] {
            head.with(rest).joined(|text| assert_eq!(Parted::cut(text), head.with(rest)));
        }
        for none in ["", "users", "3:", "3:users", "3:users:4", "3:users:4:", &format!("3:{}:", "a".repeat(MOST))] {
            assert_eq!(Head::new(none).unwrap_err().kind(), ErrorKind::Invalid, "{none:?}");
        }
    }

    #[test]
    fn a_key_that_is_joined_while_another_is_has_a_text_of_its_own() {
        let (one, two) = (Parted::cut("1:a:x"), Parted::cut("1:b:y"));
        let both = one.joined(|one| two.joined(|two| format!("{one} {two}")));
        assert_eq!(both, "1:a:x 1:b:y");
    }
}
