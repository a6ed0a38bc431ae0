//! What a read-modify-write decides.

use crate::Loaded;

/// What an update makes of the value that it was given; from [`Cache::update`](crate::Cache::update).
///
/// A plain value converts into one.
#[derive(Debug)]
#[must_use]
pub enum Update<V> {
    /// Stores this. Without tags or a row version of its own it keeps those of the old value.
    /// [`nothing`](Loaded::nothing) is remembered as such; [`unstored`](Loaded::unstored) changes nothing.
    Store(Loaded<V>),
    /// Removes the value: whoever reads next loads.
    Remove,
    /// Leaves what is there.
    Leave,
}

impl<V> From<V> for Update<V> {
    fn from(value: V) -> Self {
        Self::Store(Loaded::value(value))
    }
}

impl<V> From<Loaded<V>> for Update<V> {
    fn from(loaded: Loaded<V>) -> Self {
        Self::Store(loaded)
    }
}
