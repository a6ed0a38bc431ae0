//! The keys that the table holds, and what it is asked for.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;
use cache_core::Parted;
use moka::Equivalent;

/// Keys up to this many bytes stand in the table's own record of the key: a lookup follows one pointer less. A uuid fits,
/// with a space's name before it.
const SHORT: usize = 48;

/// A key that is held.
#[derive(Clone)]
pub(crate) enum Text {
    Short(ArrayString<SHORT>),
    Long(Box<str>),
}

impl Text {
    #[inline]
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(text) => text,
            Self::Long(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        ArrayString::from(text).map_or_else(|_| Self::Long(text.into()), Self::Short)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        Asked(&Parted::cut(self.as_str())).hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A key that is asked for: hashed as the bytes of its parts and no more. What `str` hashes behind them tells it from its
/// neighbours in a compound key; here it stands alone.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a>(pub(crate) &'a Parted<'a>);

impl Hash for Asked<'_> {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.head().as_bytes());
        state.write(self.0.rest().as_bytes());
    }
}

impl Equivalent<Text> for Asked<'_> {
    #[inline]
    fn equivalent(&self, held: &Text) -> bool {
        self.0.is(held.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::fast::RandomState;

    use super::*;

    #[test]
    fn a_key_of_any_length_is_found_as_it_was_put() {
        let hasher = RandomState::default();
        for len in [0, 1, SHORT - 1, SHORT, SHORT + 1, 1024] {
            for head in ["", "3:users:"] {
                let (key, other) = (format!("{head}{}", "k".repeat(len)), format!("{head}{}", "k".repeat(len + 1)));
                let held = Text::from(key.as_str());
                assert_eq!(held.as_str(), key);
                let (asked, other) = (Parted::cut(&key), Parted::cut(&other));
                let (asked, other) = (Asked(&asked), Asked(&other));
                assert!(asked.equivalent(&held) && !other.equivalent(&held));
                assert_eq!(hasher.hash_one(asked), hasher.hash_one(&held));
            }
        }
    }
}
