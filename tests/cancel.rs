//! I6 over a real server: every public future of a cache is dropped at every point at which it waits, in the scenes of the
//! engine's own tests.

#[path = "../cache-tiered/tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use cache_core::{CacheService, Clock};
use cache_redis::Redis;
use cache_redis::testkit::Server;
use common::cancel::{CALLS, Ground, Start, cut_one};
use strata_tests::audit::Audit;
use tokio::task::{JoinSet, LocalSet};

async fn connect(url: String) -> Arc<dyn CacheService> {
    Arc::new(Redis::connect(url).await.expect("the server answers"))
}

/// Every call, dropped everywhere, each time in a namespace of its own; all at once, for most of their time is spent waiting.
#[expect(clippy::future_not_send, reason = "polled by the test alone, on one thread")]
async fn cut_everywhere(start: Start) {
    let server = Server::spawn().expect("a server");
    let store = connect(server.patient_url()).await;
    let points = LocalSet::new()
        .run_until(async {
            let mut calls = JoinSet::new();
            for (index, call) in CALLS.iter().enumerate() {
                for late in [false, true] {
                    let (url, store) = (server.patient_url(), Arc::clone(&store));
                    calls.spawn_local(async move {
                        let mut n = 0;
                        let ground = async || {
                            n += 1;
                            let url = url.clone();
                            Ground {
                                clock: Clock::system(),
                                namespace: format!("call{index}-{late}-{n}"),
                                real: true,
                                store: Arc::clone(&store),
                                connect: Box::new(move || Box::pin(connect(url.clone())) as _),
                            }
                        };
                        cut_one(start, call, late, ground).await
                    });
                }
            }
            let mut points = 0;
            while let Some(dropped) = calls.join_next().await {
                points += dropped.expect("a call that leaves nothing behind");
            }
            points
        })
        .await;
    assert!(points > 120, "only {points} points");
    let audit = Audit::connect(&server.url()).await.expect("the server answers");
    audit.every_key_has_a_ttl(String::new()).await.expect("nothing stays for ever");
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_on_a_miss_over_a_server() {
    cut_everywhere(Start::Cold).await;
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_on_a_far_hit_over_a_server() {
    cut_everywhere(Start::Far).await;
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_while_near_is_in_doubt_over_a_server() {
    cut_everywhere(Start::Suspect).await;
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_while_another_process_loads_over_a_server() {
    cut_everywhere(Start::Leased).await;
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_with_background_writes_over_a_server() {
    cut_everywhere(Start::Behind).await;
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_while_a_value_is_refreshed_over_a_server() {
    cut_everywhere(Start::Due).await;
}

#[tokio::test]
async fn i6_a_dropped_call_leaves_nothing_behind_while_a_sliding_ttl_counts_anew_over_a_server() {
    cut_everywhere(Start::Sliding).await;
}
