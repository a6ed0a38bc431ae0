//! Waiting for a condition with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The longest that anything in the suite is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Options for the url of a server that is meant to answer: deadlines that a machine which is held up for seconds keeps.
pub const PATIENT: &str = "timeout=10s&connect_timeout=10s";

/// Waits until `holds` says `true`, asking every few milliseconds.
///
/// # Panics
/// If it doesn't within 20 seconds; the text names `what`.
pub async fn eventually<F>(what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(3)).await;
    }
}

/// The output of `future`.
///
/// # Panics
/// If it takes longer than 20 seconds; the text names `what`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("still waiting after {PATIENCE:?}: {what}"),
    }
}
