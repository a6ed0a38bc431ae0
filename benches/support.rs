//! What the benches share: values, stores, a server, and the floors to compare with.

use std::sync::Arc;
use std::time::Duration;

use cache_redis::testkit::Server;
use cache_strata::memory::{LocalMemory, Memory};
use cache_strata::{Cache, CacheService, Moka, Redis, Tiered};
use serde::{Deserialize, Serialize};

/// A value of the size that services cache: about 200 bytes encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What is said about it.
    pub text: String,
    /// Prices by quantity.
    pub prices: Vec<u64>,
    /// Whether it can be had.
    pub stock: Option<u32>,
}

impl Product {
    /// The product with this number.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            name: format!("product {id}"),
            text: "a lamp of brass with a shade of linen, for the desk".repeat(2),
            prices: (0..8).map(|n| 100 * n).collect(),
            stock: Some(7),
        }
    }
}

/// The harder floor of a near hit: moka with the fastest hasher.
pub type BareMoka = moka::sync::Cache<Arc<str>, Arc<Product>, foldhash::fast::RandomState>;

/// A bare moka of `bytes`.
#[must_use]
pub fn bare_moka(bytes: u64) -> BareMoka {
    moka::sync::Cache::builder()
        .max_capacity(bytes)
        .weigher(|key: &Arc<str>, _: &Arc<Product>| u32::try_from(key.len() + 200).unwrap_or(u32::MAX))
        .build_with_hasher(foldhash::fast::RandomState::default())
}

/// The floor of a near hit: moka as its builder makes it, with the standard library's hasher.
pub type DefaultMoka = moka::sync::Cache<Arc<str>, Arc<Product>>;

/// A moka of `bytes` with every default.
#[must_use]
pub fn default_moka(bytes: u64) -> DefaultMoka {
    moka::sync::Cache::builder()
        .max_capacity(bytes)
        .weigher(|key: &Arc<str>, _: &Arc<Product>| u32::try_from(key.len() + 200).unwrap_or(u32::MAX))
        .build()
}

/// Keys as services write them.
#[must_use]
pub fn keys(n: u64) -> Vec<String> {
    (0..n).map(|id| format!("tenant-7/product/{id:08}")).collect()
}

/// A runtime of two workers.
///
/// # Panics
/// If it can't be started.
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A near store of the shape that the product uses.
#[must_use]
pub fn moka() -> Moka {
    Moka::builder().bytes(256 << 20).build()
}

/// A tiered cache over moka and, if given, a far store.
///
/// # Panics
/// If the far store can't be reached.
pub async fn tiered(far: Option<Redis>) -> Tiered {
    let tiers = Tiered::builder().near(moka()).bound(Duration::from_secs(30));
    match far {
        Some(far) => tiers.far(far),
        None => tiers,
    }
    .build()
    .await
    .expect("a tiered cache")
}

/// A typed cache of products.
///
/// # Panics
/// Never: the settings are right.
#[must_use]
pub fn products(tiered: &Tiered) -> Cache<Product> {
    tiered.cache("products").ttl(Duration::from_secs(3600)).build().expect("a cache")
}

/// A server of its own.
///
/// # Panics
/// If there is no server on this machine.
#[must_use]
pub fn server() -> Server {
    Server::spawn().expect("a redis-server on the path")
}

/// A store over that server.
///
/// # Panics
/// If it does not answer.
pub async fn redis(server: &Server) -> Redis {
    Redis::connect(&server.url()).await.expect("a connection")
}

/// The bare client on one connection, nodelay as ours.
///
/// # Panics
/// If it does not connect.
pub async fn bare_redis(server: &Server) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(server.url()).expect("a url");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

/// Every backend by name, over the byte contract.
pub async fn backends(server: &Server) -> Vec<(&'static str, Arc<dyn CacheService>)> {
    let local = Tiered::builder().near(LocalMemory::new(256 << 20)).build().await.expect("a cache");
    vec![
        ("memory", Arc::new(Memory::new())),
        ("moka", Arc::new(moka())),
        ("redis", Arc::new(redis(server).await)),
        ("tiered: memory", Arc::new(local)),
        ("tiered: moka + redis", Arc::new(tiered(Some(redis(server).await)).await)),
    ]
}
