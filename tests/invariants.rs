//! The coherence invariants over a real server: the scenarios of the engine's own tests.

#[path = "../cache-tiered/tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use cache_core::CacheService;
use cache_redis::Redis;
use cache_redis::testkit::{Proxy, Server};
use cache_strata::Moka;
use common::freshness::Far;
use common::invariants::{self, Cuttable, Line};

struct Shared(Server);

impl Far for Shared {
    async fn connect(&self) -> Arc<dyn CacheService> {
        Arc::new(Redis::connect(self.0.patient_url()).await.expect("the server answers"))
    }
}

impl Cuttable for Shared {
    async fn line(&self) -> Line {
        let proxy = Proxy::spawn(self.0.address()).await.expect("a port");
        let line = Redis::connect(proxy.url()).await.expect("the server answers");
        let switch = move |cut| {
            proxy.refuse(cut);
            if cut {
                proxy.cut();
            }
        };
        (Arc::new(line), Box::new(switch))
    }
}

#[tokio::test]
async fn i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i1_a_load_begun_before_an_invalidation_is_not_seen_after_it_shared(far).await;
}

#[tokio::test]
async fn i7_after_a_lost_connection_nothing_older_than_the_gap_is_served_past_the_bound_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i7_after_a_lost_connection_nothing_older_than_the_gap_is_served_past_the_bound(far).await;
}

#[tokio::test]
async fn i8_an_own_write_does_not_blind_for_the_next_foreign_one_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i8_an_own_write_does_not_blind_for_the_next_foreign_one_shared(far).await;
}

#[tokio::test]
async fn i9_tags_hold_under_skewed_clocks_lost_counters_and_cold_processes_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i9_tags_hold_under_skewed_clocks_lost_counters_and_cold_processes(far).await;
}

#[tokio::test]
async fn i12_near_memory_stays_within_its_budget_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i12_near_memory_stays_within_its_budget_shared(far).await;
}

#[tokio::test]
async fn i12_moka_stays_within_its_budget_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    let near = Moka::builder().bytes(invariants::I12_BUDGET).build();
    invariants::i12_near(Arc::new(near), Some(far.connect().await)).await;
}

#[tokio::test]
async fn i4_ids_that_a_loader_omits_are_nothing_and_are_asked_for_once_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i4_ids_that_a_loader_omits_are_nothing_and_are_asked_for_once(far).await;
}

#[tokio::test]
async fn i13_bytes_that_are_not_a_whole_frame_of_the_key_are_a_miss_and_a_count_over_a_server() {
    let far = Shared(Server::spawn().expect("a server"));
    invariants::i13_bytes_that_are_not_a_whole_frame_of_the_key_are_a_miss_and_a_count(far).await;
}
