//! The suite over a real memcached.

use cache_core::testkit::{Report, Subject};
use cache_memcached::Memcached;
use cache_memcached::testkit::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memcached_keeps_the_contract() {
    let server = Server::spawn().expect("this test needs a memcached");
    let connect = || Memcached::connect(server.patient_url());
    let subject = Subject::new(connect().await.unwrap()).with_second(connect().await.unwrap());
    let report = Report::of(&subject).await;
    assert!(report.failed().is_empty() && report.passed() > 110, "{report}");
}
