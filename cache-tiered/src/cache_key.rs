//! Typed keys: how an id becomes the text of a key.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroI32, NonZeroI64, NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128};
use std::sync::Arc;

use arrayvec::ArrayString;
use cache_core::{Error, ErrorKind, Head, MAX_KEY, Parted, Result};

/// Room for the longest key behind an engine's number. Whether a key fits is told by its far form.
const ROOM: usize = MAX_KEY + 24;

/// The text of a key while it is built, on the stack.
#[derive(Debug)]
pub struct KeyText {
    text: ArrayString<ROOM>,
    full: bool,
    /// In how many compound keys what is written now is a part.
    depth: u8,
}

impl KeyText {
    /// An empty text. Inlined without fail: moving a kilobyte would cost as much as the rest of a near hit.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { text: ArrayString::new(), full: false, depth: 0 }
    }

    /// Appends `text`. Within a part of a compound key, so that no `/` in it is mistaken for one between parts.
    #[inline]
    pub fn push(&mut self, text: &str) {
        if self.depth == 0 { self.push_raw(text) } else { self.push_escaped(text) }
    }

    /// Appends `key` as a part of a compound key, whatever it writes; between parts, push a `/`.
    pub fn part(&mut self, key: &(impl CacheKey + ?Sized)) {
        self.depth += 1;
        key.write(self);
        self.depth -= 1;
    }

    fn push_raw(&mut self, text: &str) {
        self.full |= self.text.try_push_str(text).is_err();
    }

    /// As if it were percent-encoded once for each compound key around it.
    fn push_escaped(&mut self, text: &str) {
        for piece in text.split_inclusive(['/', '%']) {
            let Some(plain) = piece.strip_suffix(['/', '%']) else {
                self.push_raw(piece);
                continue;
            };
            self.push_raw(plain);
            self.push_raw("%");
            let slash = piece.ends_with('/');
            for _ in u8::from(slash)..self.depth {
                self.push_raw("25");
            }
            if slash {
                self.push_raw("2F");
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
/// Implemented for strings, integers, `bool`, `char`, addresses, and tuples of up to four keys, so that `(tenant, user)` is a
/// key and nobody formats one by hand. For an id of your own, which may be a part of a tuple too:
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
}

macro_rules! text {
    ($($held:ty)+) => {
        $(impl CacheKey for $held {
            #[inline]
            fn write(&self, key: &mut KeyText) {
                key.push(self);
            }

            #[inline]
            fn as_text(&self) -> Option<&str> {
                Some(self)
            }
        })+
    };
}

text!(str String Box<str> Arc<str> Cow<'_, str>);

impl<K: CacheKey + ?Sized> CacheKey for &K {
    #[inline]
    fn write(&self, key: &mut KeyText) {
        (**self).write(key);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        (**self).as_text()
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

plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char IpAddr Ipv4Addr Ipv6Addr);
plain!(NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroI32 NonZeroI64);

macro_rules! compound {
    ($($first:ident $(, $part:ident)+;)+) => {
        $(#[expect(non_snake_case, reason = "a part is named as its type")]
        impl<$first: CacheKey, $($part: CacheKey),+> CacheKey for ($first, $($part),+) {
            fn write(&self, key: &mut KeyText) {
                let ($first, $($part),+) = self;
                key.part($first);
                $(
                    key.push("/");
                    key.part($part);
                )+
            }
        })+
    };
}

compound! {
    A, B;
    A, B, C;
    A, B, C, D;
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

    fn assert_all_differ(keys: &[impl CacheKey]) {
        let texts: std::collections::HashSet<String> = keys.iter().map(text).collect();
        assert_eq!(texts.len(), keys.len(), "{texts:?}");
    }

    #[test]
    fn different_compound_keys_are_different_texts() {
        assert_all_differ(&[("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "b%2Fc"), ("a%", "c"), ("a", "")]);
        assert_eq!(text(&("eu", 7u8, 'x', NonZeroU8::MIN)), "n:s:eu/7/x/1");
    }

    /// A key of the application's own, written as it likes.
    enum Own {
        Name(&'static str),
        Pair(u8, u8),
        Compound((u8, u8)),
    }

    impl CacheKey for Own {
        fn write(&self, key: &mut KeyText) {
            match self {
                Self::Name(name) => key.push(name),
                Self::Pair(a, b) => drop(write!(key, "{a}/{b}+")),
                Self::Compound(pair) => pair.write(key),
            }
        }
    }

    #[test]
    fn a_key_of_ones_own_does_not_run_into_its_neighbour_in_a_compound_key() {
        use Own::{Compound, Name, Pair};
        assert_all_differ(&[
            (&Name("a/b"), &Name("c")),
            (&Name("a"), &Name("b/c")),
            (&Name("1/2"), &Name("3")),
            (&Compound((1, 2)), &Name("3%")),
            (&Name("1"), &Compound((2, 3))),
            (&Pair(1, 2), &Name("")),
            (&Name("1%2F2"), &Name("3")),
        ]);
        // and deeper
        let deep = |a, b, c| ((Name(a), Name(b)), Name(c));
        assert_all_differ(&[
            deep("a/b", "c", "d"),
            deep("a", "b/c", "d"),
            deep("a%2Fb", "c", "d"),
            deep("a", "b", "c/d"),
        ]);
        assert_all_differ(&[((Name("1"), Name("2")), Name("3")), ((Name("1"), Name("2%")), Name("3"))]);
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused() {
        let mut key = KeyText::new();
        key.push("n:s:");
        key.push(&"x".repeat(ROOM));
        assert_eq!(key.as_str().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
