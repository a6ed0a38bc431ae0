//! Which loads a loader runs within, so that one that waits for itself is told and does not wait.

use std::future::Future;
use std::sync::Arc;

use cache_core::{Error, ErrorKind};

use crate::flight::Flight;

tokio::task_local! {
    static INNERMOST: Arc<Within>;
}

/// A load under way, and the one whose loader began it.
struct Within {
    flight: Arc<Flight>,
    outer: Option<Arc<Self>>,
}

/// `load`, the task of `flight`, within the loads that the calling task runs within.
pub(super) fn within<F: Future>(flight: &Arc<Flight>, load: F) -> impl Future<Output = F::Output> + use<F> {
    let outer = INNERMOST.try_with(Arc::clone).ok();
    INNERMOST.scope(Arc::new(Within { flight: Arc::clone(flight), outer }), load)
}

/// Whether the calling task runs within the load of `flight`: that load ends only after its caller. Not known of a loader
/// that calls from a task of its own, or that waits for another caller's load which waits for it.
pub(super) fn runs_within(flight: &Arc<Flight>) -> bool {
    let found = INNERMOST.try_with(|innermost| {
        let mut next = Some(innermost);
        while let Some(within) = next {
            if Arc::ptr_eq(&within.flight, flight) {
                return true;
            }
            next = within.outer.as_ref();
        }
        false
    });
    found.unwrap_or(false)
}

/// The error of a loader's call that would wait for its own end.
pub(super) fn waits_for_itself() -> Error {
    let text = "the loader asks for the key that it is run for, and would wait for itself; read the key with get, or load \
                another one";
    Error::new(ErrorKind::Loader, text).with_operation("load")
}
