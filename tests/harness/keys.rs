//! What each key of a history is for.

/// How many groups of keys share a tag.
pub(crate) const GROUPS: u16 = 5;

/// What may be done to a key beside reading and invalidating it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Written under a `write_guard`, sometimes.
    Guarded,
    /// Loaded with the tag of its group, which is bumped sometimes.
    Tagged(u16),
    /// Values of it are put. Only its [`owner`] writes it, one write after another: an application has to hold the
    /// row from the commit to the end of the put, or the far store's order is another than the database's.
    Put,
}

/// The first keys are the hot ones, and there are some of each kind.
pub(crate) const fn kind(key: u16) -> Kind {
    match (key, key % 8) {
        (0, _) | (8.., 3) => Kind::Guarded,
        (1, _) => Kind::Tagged(0),
        (8.., 2) => Kind::Tagged(key / 8 % GROUPS),
        (_, 6 | 7) => Kind::Put,
        _ => Kind::Plain,
    }
}

/// The process that writes a key of which values are put.
pub(crate) const fn owner(key: u16, processes: u16) -> u16 {
    key % processes
}

/// The name of a group's tag.
pub(crate) fn tag(group: u16) -> String {
    format!("group {group}")
}
