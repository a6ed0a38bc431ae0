//! Freshness and resilience over a far store in memory; over servers in the workspace's tests.

mod common;

use std::sync::Arc;

use cache_core::memory::LocalMemory;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, Clock, Frame, Memory};
use cache_tiered::{Policy, Tiered};
use common::eventually;
use common::freshness::{self, Far};

struct Shared(Memory);

impl Far for Shared {
    async fn connect(&self) -> Arc<dyn CacheService> {
        Arc::new(self.0.clone())
    }
}

macro_rules! run {
    ($($module:ident::$name:ident;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                freshness::$module::$name(Shared(Memory::new())).await;
                common::audit::at_the_end().await;
            }
        )+
    };
}

freshness_scenarios!(run);

/// The value stays where it is; only its end moves, and the seal over it.
#[tokio::test]
async fn a_sliding_value_is_prolonged_without_being_sent_again() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let sliding = || Policy::from(freshness::LONG).jitter(0.0).sliding();
    let (clock, hand) = Clock::manual();
    let near = LocalMemory::new(1 << 20);
    let tiered =
        Tiered::builder().near(near).far(far.clone()).clock(clock).bound(freshness::LONG).build().await.unwrap();
    let a = freshness::cache(&tiered, sliding());
    let origin = freshness::Origin::says("v");
    assert_eq!(origin.read(&a).await, "v");
    let ends = async || {
        let bytes = memory.get("strata:k:names:k").await.unwrap().expect("it is kept");
        Frame::parse("strata:k:names:k", &bytes).expect("its seal holds").header.soft_exp
    };
    let before = ends().await;
    hand.advance(freshness::LONG / 2);
    assert_eq!(origin.read(&a).await, "v");
    eventually("it is prolonged in the far store", async || ends().await > before).await;
    assert_eq!((far.calls(Op::Touch), far.calls(Op::Refresh), far.calls(Op::Fill)), (1, 0, 1));
    let cold = freshness::cache(&common::node(&memory).await, sliding());
    assert_eq!(cold.get("k").await.unwrap().as_deref().map(String::as_str), Some("v"));
    common::audit::at_the_end().await;
}
