//! From one url to a cache of one or two tiers.

mod options;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use cache_core::memory::LocalMemory;
use cache_core::{Error, ErrorKind, Result};
use cache_tiered::{Tiered, TieredBuilder};

use self::options::{Known, Settings};

/// What every url without a size of its own gives the near store: 64 MiB.
const BYTES: u64 = 64 << 20;

/// What the url of a memcached begins with.
pub(crate) const MEMCACHED: &str = "memcached:";

/// The buckets of a namespace in a cluster, unless the url says otherwise.
const CLUSTER_BUCKETS: usize = 64;

/// The cache that `url` describes.
///
/// | url | near | far | feature |
/// |---|---|---|---|
/// | `memory:` | [`LocalMemory`] | none | |
/// | `moka:` | moka | none | `moka` |
/// | `redis://host:6379/0`, `rediss://` (TLS), `unix:///socket` | none | Redis, Valkey, Dragonfly | `redis` |
/// | `redis+sentinel://host:26379,host2:26379/mymaster` | none | the primary that sentinels name | `redis` |
/// | `redis+cluster://host:7000,host2:7000` | none | a cluster | `redis` |
/// | `memcached://host:11211` | none | memcached, heard of by polling | `memcached` |
/// | `tiered:redis://host:6379/0`, and so on | moka | the same | `moka`, `redis` |
///
/// Options follow a `?` as `name=value`, joined by `&`, and need no percent-encoding:
///
/// | option | meaning | default | for |
/// |---|---|---|---|
/// | `bytes` | the near store's budget, what values decode to not counted: `65536`, `64MiB`, `1GiB` | 64 MiB | near |
/// | `namespace` | what all keys begin with | `strata` | all |
/// | `max_ttl` | the longest ttl that a cache may use: `500ms`, `2s`, `5m`, `1h`, `7d` | 7 days | all |
/// | `bound` | D: how long others may serve what was invalidated | 2 s | far |
/// | `outage` | D_out: how long more while the far store can't be heard; `0` is strict | 30 s | far |
/// | `lease` | how long the lease of a load lasts | 5 s | far |
/// | `compress` | payloads in the far store: `lz4` or `zstd`, with the feature of that name | none | far |
/// | `buckets` | how many lines the keys are spread over | 1; 64 for `redis+cluster` | far |
///
/// What remains is the far url's own: timeouts, TLS files and so on, as `RedisBuilder` and `MemcachedBuilder` list them.
///
/// # Errors
/// `Config` if the url is not understood or needs a feature that is off; it says what to change and never repeats what
/// may be a password. With a far store: what it says if it can't be reached.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_strata::Result<()> {
/// let tiers = cache_strata::connect("memory:?bytes=8MiB&namespace=shop").await?;
/// # drop(tiers);
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: &str) -> Result<Tiered> {
    let Plan { near, far, settings } = plan(url)?;
    let mut tiers = settings.apply(Tiered::builder());
    let bytes = settings.bytes.unwrap_or(BYTES);
    match near {
        Some(Near::Memory) => tiers = tiers.near(LocalMemory::new(bytes)),
        Some(Near::Moka) => tiers = moka(tiers, bytes)?,
        None => {}
    }
    if let Some(far) = far {
        tiers = if far.starts_with(MEMCACHED) { memcached(tiers, &far).await? } else { redis(tiers, &far).await? };
    }
    tiers.build().await
}

/// Whether [`connect`] understands `url`, as far as can be told without connecting or building anything.
///
/// # Errors
/// `Config`, as [`connect`].
pub fn check_url(url: &str) -> Result<()> {
    let Plan { near, far, settings: _ } = plan(url)?;
    if near == Some(Near::Moka) && !cfg!(feature = "moka") {
        return Err(off("moka"));
    }
    match far {
        Some(far) if far.starts_with(MEMCACHED) => check_memcached(&far),
        Some(far) => check_redis(&far),
        None => Ok(()),
    }
}

/// The cache that the environment asks for: the url in `STRATA_URL`; else, with the feature `redis`, the server in
/// `REDIS_URL` (behind moka if that is linked); else the best linked store in the process.
///
/// So a program changes its tiers by its features and its environment, not by its code.
///
/// # Errors
/// As [`connect`].
pub async fn from_env() -> Result<Tiered> {
    connect(&url_of_env()?).await
}

pub(crate) fn url_of_env() -> Result<String> {
    url_of(|name| std::env::var_os(name))
}

fn url_of(read: impl Fn(&str) -> Option<OsString>) -> Result<String> {
    // an empty variable is how many tools write "not set"
    let read = |name: &str| match read(name).filter(|text| !text.is_empty()) {
        Some(text) => text.into_string().map(Some).map_err(|_| config(format!("{name} is not valid utf-8"))),
        None => Ok(None),
    };
    if let Some(url) = read("STRATA_URL")? {
        return Ok(url);
    }
    if cfg!(feature = "redis")
        && let Some(url) = read("REDIS_URL")?
    {
        return Ok(if cfg!(feature = "moka") { format!("tiered:{url}") } else { url });
    }
    Ok(if cfg!(feature = "moka") { "moka:" } else { "memory:" }.to_owned())
}

/// What a url asks for, before it is known whether it is linked.
pub(crate) struct Plan {
    near: Option<Near>,
    /// The far store's url without our options; it may hold a password.
    pub(crate) far: Option<String>,
    settings: Settings,
}

#[derive(Debug, PartialEq, Eq)]
enum Near {
    Memory,
    Moka,
}

pub(crate) fn plan(url: &str) -> Result<Plan> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(unknown());
    };
    match scheme {
        "memory" => local(Near::Memory, rest),
        "moka" => local(Near::Moka, rest),
        far if is_far(far) => remote(None, url, Known::FAR),
        "tiered" => match rest.split_once(':') {
            Some((far, _)) if is_far(far) => remote(Some(Near::Moka), rest, Known::BOTH),
            _ => Err(config("tiered: is followed by the far store's url, as in tiered:redis://localhost:6379")),
        },
        _ => Err(unknown()),
    }
}

/// Whether a scheme is one of the far store's.
fn is_far(scheme: &str) -> bool {
    let plain = scheme.strip_suffix("+sentinel").or_else(|| scheme.strip_suffix("+cluster")).unwrap_or(scheme);
    matches!(plain, "redis" | "rediss" | "valkey" | "valkeys") || matches!(scheme, "unix" | "redis+unix" | "memcached")
}

fn local(near: Near, rest: &str) -> Result<Plan> {
    let query = match rest.strip_prefix('?') {
        Some(query) => query,
        None if rest.is_empty() => "",
        None => return Err(config("memory: and moka: take only options, as in moka:?bytes=64MiB")),
    };
    let (settings, _) = options::parse(query, Known::NEAR)?;
    Ok(Plan { near: Some(near), far: None, settings })
}

fn remote(near: Option<Near>, url: &str, known: Known) -> Result<Plan> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut settings, rest) = options::parse(query, known)?;
    if address.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("+cluster")) {
        // with one bucket, all keys would stand in one slot of one node
        settings.buckets.get_or_insert(CLUSTER_BUCKETS);
    }
    let far = if rest.is_empty() { address.to_owned() } else { format!("{address}?{rest}") };
    Ok(Plan { near, far: Some(far), settings })
}

#[cfg(feature = "moka")]
fn moka(tiers: TieredBuilder, bytes: u64) -> Result<TieredBuilder> {
    Ok(tiers.near(cache_moka::Moka::builder().bytes(bytes).build()))
}

#[cfg(not(feature = "moka"))]
fn moka(_: TieredBuilder, _: u64) -> Result<TieredBuilder> {
    Err(off("moka"))
}

#[cfg(feature = "redis")]
async fn redis(tiers: TieredBuilder, url: &str) -> Result<TieredBuilder> {
    Ok(tiers.far(cache_redis::Redis::connect(url).await.map_err(ours)?))
}

#[cfg(feature = "redis")]
fn check_redis(url: &str) -> Result<()> {
    cache_redis::Redis::builder().url(url).build().map(drop).map_err(ours)
}

/// The far store lists the options that it knows; ours are as likely meant.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) fn ours(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Config => {
            config(format!("{}; the tiers' own options are {}", error.message(), Known::BOTH.names().join(", ")))
        }
        _ => error,
    }
}

#[cfg(not(feature = "redis"))]
async fn redis(_: TieredBuilder, _: &str) -> Result<TieredBuilder> {
    Err(off("redis"))
}

#[cfg(not(feature = "redis"))]
fn check_redis(_: &str) -> Result<()> {
    Err(off("redis"))
}

#[cfg(feature = "memcached")]
async fn memcached(tiers: TieredBuilder, url: &str) -> Result<TieredBuilder> {
    // it sends no messages
    Ok(tiers.far(cache_memcached::Memcached::connect(url).await.map_err(ours)?).polling())
}

#[cfg(feature = "memcached")]
fn check_memcached(url: &str) -> Result<()> {
    cache_memcached::Memcached::builder().url(url).check().map_err(ours)
}

#[cfg(not(feature = "memcached"))]
async fn memcached(_: TieredBuilder, _: &str) -> Result<TieredBuilder> {
    Err(off("memcached"))
}

#[cfg(not(feature = "memcached"))]
fn check_memcached(_: &str) -> Result<()> {
    Err(off("memcached"))
}

pub(crate) fn off(feature: &str) -> Error {
    config(format!("the url needs the feature {feature}, which is off; enable it: cache-strata/{feature}"))
}

fn unknown() -> Error {
    // what looks like a scheme may be the user of a url without one, so it is not repeated
    config("scheme is not known; use memory:, moka:, redis://, rediss://, unix://, memcached:// or tiered:redis://")
}

pub(crate) fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("connect")
}
