//! Can the same code run over any tiers? It can: the url decides.
//!
//! ```text
//! cargo run --example swap_by_url
//! cargo run --example swap_by_url -- memory: "moka:?bytes=8MiB"
//! cargo run --example swap_by_url --features redis -- redis://localhost:6379 tiered:redis://localhost:6379
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use cache_strata::{Policy, Tiered, codec};

#[tokio::main]
async fn main() -> Result<()> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls.push("memory:".to_owned());
    }
    for url in &urls {
        application(&cache_strata::connect(url).await?).await?;
        println!("the same code ran over tiers of the scheme {}", url.split(':').next().unwrap_or_default());
    }
    Ok(())
}

/// All that an application knows of its cache.
async fn application(tiers: &Tiered) -> Result<()> {
    let names = tiers.cache::<String>("swap_by_url").keyed::<u64>().codec(codec::Postcard).policy(Policy::minutes(1));
    let names = names.build()?;
    names.invalidate(&42).await?;

    let queries = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let queries = Arc::clone(&queries);
        let ada = async move || {
            queries.fetch_add(1, Ordering::Relaxed);
            Ok::<_, io::Error>("Ada".to_owned())
        };
        ensure!(*names.get_or_load(&42, ada).await? == "Ada");
    }
    ensure!(queries.load(Ordering::Relaxed) == 1, "three reads cost one query");

    names.set(&42, "Ada Lovelace".to_owned()).await?;
    ensure!(names.get(&42).await?.is_some_and(|name| *name == "Ada Lovelace"));
    names.invalidate(&42).await?;
    ensure!(names.get(&42).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn it_runs_over_what_is_embedded() -> Result<()> {
    application(&cache_strata::connect("memory:").await?).await?;
    #[cfg(feature = "moka")]
    application(&cache_strata::connect("moka:").await?).await?;
    Ok(())
}
