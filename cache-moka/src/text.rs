//! The keys that the table holds, and what it is asked for.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;
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
        Asked(self.as_str()).hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A key that is asked for: hashed as its bytes and no more. What `str` hashes behind them tells it from its neighbours in
/// a compound key; here it stands alone.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a>(pub(crate) &'a str);

impl Hash for Asked<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

impl Equivalent<Text> for Asked<'_> {
    #[inline]
    fn equivalent(&self, held: &Text) -> bool {
        self.0 == held.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::quality::RandomState;

    use super::*;

    #[test]
    fn a_key_of_any_length_is_found_as_it_was_put() {
        let hasher = RandomState::default();
        for len in [0, 1, SHORT - 1, SHORT, SHORT + 1, 1024] {
            let (key, other) = ("k".repeat(len), "k".repeat(len + 1));
            let held = Text::from(key.as_str());
            assert_eq!(held.as_str(), key);
            assert!(Asked(&key).equivalent(&held) && !Asked(&other).equivalent(&held));
            assert_eq!(hasher.hash_one(Asked(&key)), hasher.hash_one(&held));
        }
    }
}
