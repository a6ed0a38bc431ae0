//! The conformance suite over [`Moka`].

use std::sync::Arc;

use cache_core::LocalStore;
use cache_core::testkit::{Report, Subject};
use cache_moka::Moka;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moka_conforms() {
    let store = Moka::new();
    let local = |budget| Arc::new(Moka::builder().bytes(budget).build()) as Arc<dyn LocalStore>;
    let report = Report::of(&Subject::new(store.clone()).with_second(store).with_local(local)).await;
    assert!(report.failed().is_empty() && report.passed() > 40, "{report}");
}
