//! How do I count to a limit, sell a stock and move points without a race? With one call each.
//!
//! In the process; with `REDIS_URL`, on that server: nothing else changes.

use std::time::Duration;

use anyhow::{Result, ensure};
use cache_strata::recipe::Counters;
use cache_strata::recipes_from_env;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::main]
async fn main() -> Result<()> {
    run(Counters::new(recipes_from_env().await?, DAY)?).await
}

async fn run(counters: Counters) -> Result<()> {
    counters.set("stock:lamp", 3).await?;
    let mut sales = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let counters = counters.clone();
        sales.spawn(async move { counters.deduct("stock:lamp", 1).await });
    }
    let mut sold = 0;
    while let Some(sale) = sales.join_next().await {
        sold += i32::from(sale??.is_ok());
    }
    println!("ten customers, three lamps: {sold} sold");
    ensure!(sold == 3, "a lamp was sold twice");

    counters.set("uploads:ada", 9).await?;
    println!("ninth upload was fine, the tenth too: {:?}", counters.increment("uploads:ada", 1, 10).await?);
    let eleventh = counters.increment("uploads:ada", 1, 10).await?;
    println!("the eleventh: {eleventh:?}");
    ensure!(eleventh.is_err(), "the limit was passed");

    // in a cluster the braces keep both keys together, so that the transfer is one step
    counters.set("{shop}:points:ada", 50).await?;
    counters.set("{shop}:points:bob", 0).await?;
    let after = counters.transfer("{shop}:points:ada", "{shop}:points:bob", 20).await??;
    println!("after a gift of 20: {after:?}");
    ensure!(after.from + after.to == 50, "points were lost");
    Ok(())
}

#[cfg(test)]
#[tokio::test]
async fn it_runs_embedded_and_on_a_server() -> Result<()> {
    use cache_strata::connect_recipes;

    run(Counters::new(connect_recipes("memory:").await?, DAY)?).await?;
    let server = cache_redis::testkit::Server::spawn()?;
    run(Counters::new(connect_recipes(&server.url()).await?, DAY)?).await
}
