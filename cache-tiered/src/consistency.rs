//! How current an answer has to be, per call.

use std::time::Duration;

/// How current the answers of a [`Cache`](crate::Cache) have to be. A call may ask for more than its namespace gives,
/// never for less.
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
