//! What has to hold of every process of a test once the test has ended well.

use std::cell::RefCell;

use cache_tiered::Tiered;

use super::eventually;

thread_local! {
    /// The processes of the test that this thread runs.
    static STARTED: RefCell<Vec<Tiered>> = const { RefCell::new(Vec::new()) };
}

/// Notes a process, to be audited when its test is over.
pub(crate) fn watched(tiered: Tiered) -> Tiered {
    STARTED.with_borrow_mut(|started| started.push(tiered.clone()));
    tiered
}

/// The end of a test: by itself, and not because it is closed, every process of [`node`](super::node) and
/// [`alone`](super::alone) comes to have no flight open, no task under way and nothing unsent; and it closes with nothing
/// to wait for or to cancel.
///
/// Not for a test that ends in the middle: with a load that hangs, or cut off from a far store that is owed something.
pub(crate) async fn at_the_end() {
    for tiered in STARTED.take() {
        let open = || {
            let sent = (tiered.pending_invalidations(), tiered.pending_writes());
            (tiered.in_flight(), tiered.under_way(), sent)
        };
        eventually("no flight open, no task under way, nothing unsent", async || open() == (0, 0, (0, 0))).await;
        assert!(tiered.close().await, "a close had to wait for something: {:?}", open());
        assert_eq!(open(), (0, 0, (0, 0)));
    }
}
