//! Freshness and resilience over a far store in memory; over servers in the workspace's tests.

mod common;

use std::sync::Arc;

use cache_core::{CacheService, Memory};
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
            }
        )+
    };
}

freshness_scenarios!(run);
