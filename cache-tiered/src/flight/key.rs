//! A key of the flight table and its hash, which is computed once.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A key that stands in the table.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: Arc<str>,
    pub(super) hash: u64,
}

/// A key that is looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    pub(super) text: &'a str,
    pub(super) hash: u64,
}

/// What both are to the table.
pub(super) trait Hashed {
    fn text(&self) -> &str;
    fn known(&self) -> u64;
}

impl Hashed for Key {
    fn text(&self) -> &str {
        &self.text
    }

    fn known(&self) -> u64 {
        self.hash
    }
}

impl Hashed for Sought<'_> {
    fn text(&self) -> &str {
        self.text
    }

    fn known(&self) -> u64 {
        self.hash
    }
}

impl Hash for dyn Hashed + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.known());
    }
}

impl PartialEq for dyn Hashed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for dyn Hashed + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl<'a> Borrow<dyn Hashed + 'a> for Key {
    fn borrow(&self) -> &(dyn Hashed + 'a) {
        self
    }
}

/// Takes a key's hash as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsKnown(u64);

impl Hasher for AsKnown {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}
