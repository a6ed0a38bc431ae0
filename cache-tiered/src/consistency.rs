//! How current an answer has to be, per namespace and per call.

use std::time::Duration;

/// How current the answers of a [`Cache`](crate::Cache) have to be: what its
/// [builder](crate::CacheBuilder::consistency) says, and for a call more than that, never less
/// ([`with`](crate::Cache::with)). From weak to strong: `Local`, `Bounded`, the shorter the stronger, `Fresh`, `Strict`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Near entries are served while trusted: nothing that was invalidated longer than the bound ago, or, while cut
    /// off, than the bound and the outage window.
    #[default]
    Local,
    /// As `Local`, but nothing that was invalidated longer than this ago, also while cut off. Near entries that can't
    /// prove it are confirmed by their stamp: one round trip.
    Bounded(Duration),
    /// The far store is asked, after the call began: for the stamp of a near entry, or for the value. One round trip.
    Fresh,
    /// As `Fresh`, after the store proved by a write that it is the primary: two round trips. Not served by a replica
    /// or a primary that was cut off from its replicas, where those are configured to refuse writes.
    Strict,
}

impl Consistency {
    /// The stronger of the two.
    pub(crate) fn at_least(self, other: Self) -> Self {
        match (self, other) {
            (Self::Bounded(one), Self::Bounded(other)) => Self::Bounded(one.min(other)),
            _ if self.rank() < other.rank() => other,
            _ => self,
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Local => 0,
            Self::Bounded(_) => 1,
            Self::Fresh => 2,
            Self::Strict => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_the_stronger_holds_whichever_is_named_first() {
        let bounded = |ms| Consistency::Bounded(Duration::from_millis(ms));
        let rising = [Consistency::Local, bounded(9), bounded(1), Consistency::Fresh, Consistency::Strict];
        for (weak, one) in rising.iter().enumerate() {
            for (strong, other) in rising.iter().enumerate() {
                assert_eq!(one.at_least(*other), rising[weak.max(strong)], "{one:?} and {other:?}");
            }
        }
    }
}
