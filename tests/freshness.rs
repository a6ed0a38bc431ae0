//! Freshness and resilience over a real server: the scenarios of the engine's own tests.

#[path = "../cache-tiered/tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use cache_core::CacheService;
use cache_redis::Redis;
use cache_redis::testkit::Server;
use common::freshness::{self, Far};

struct Shared(Arc<Server>);

impl Far for Shared {
    async fn connect(&self) -> Arc<dyn CacheService> {
        Arc::new(Redis::connect(self.0.patient_url()).await.expect("the server answers"))
    }
}

macro_rules! run {
    ($($module:ident::$name:ident;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let server = Arc::new(Server::spawn().expect("a server"));
                freshness::$module::$name(Shared(Arc::clone(&server))).await;
                common::audit::at_the_end().await;
            }
        )+
    };
}

freshness_scenarios!(run);
