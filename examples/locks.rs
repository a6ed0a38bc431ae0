//! How do I let one worker at a time do something, and keep one that froze from writing late? A lock for the first, its
//! fence for the second: the database refuses a number below the last one it saw.
//!
//! In the process; with `REDIS_URL`, on that server: nothing else changes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use cache_strata::recipe::Locks;
use cache_strata::recipes_from_env;
use rusqlite::Connection;

const TTL: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    run(Locks::new(recipes_from_env().await?)).await
}

/// Pays order 7 in the name of the hold with this fence; `false`: a later holder was there.
fn pay(shop: &Mutex<Connection>, state: &str, fence: u64) -> Result<bool> {
    let shop = shop.lock().unwrap_or_else(PoisonError::into_inner);
    let update = "UPDATE orders SET state = ?1, fence = ?2 WHERE id = 7 AND fence <= ?2";
    Ok(shop.execute(update, (state, i64::try_from(fence)?))? == 1)
}

async fn run(locks: Locks) -> Result<()> {
    let shop = Connection::open_in_memory()?;
    shop.execute_batch("CREATE TABLE orders (id, state, fence); INSERT INTO orders VALUES (7, 'new', 0)")?;
    let shop = Mutex::new(shop);

    // held while the work runs, renewed, and given back; dropped with the lock if that is lost
    let paid = locks.with_lock("order:7", TTL, async |hold| pay(&shop, "authorized", hold.fence())).await??;
    println!("under the lock: written {paid}");
    ensure!(paid, "nobody else was there");

    // a worker that freezes: its ttl passes, and it does not know
    let frozen = locks.clone().max_hold(Duration::ZERO).acquire("order:7", Duration::from_millis(50)).await?;
    let fence = frozen.fence();
    frozen.lost().cancelled().await;
    let next = locks.acquire("order:7", TTL).await?;
    let (first, late) = (pay(&shop, "paid by the next", next.fence())?, pay(&shop, "paid twice", fence)?);
    next.release().await?;
    println!("the next holder wrote: {first}; the frozen one, late: {late}");
    let shop = shop.into_inner().unwrap_or_else(PoisonError::into_inner);
    let state: String = shop.query_row("SELECT state FROM orders WHERE id = 7", (), |row| row.get(0))?;
    drop(shop);
    ensure!(first && !late && state == "paid by the next", "the order is {state}");

    let busy = locks.acquire("order:8", TTL).await?;
    ensure!(locks.try_acquire("order:8", TTL).await?.is_none(), "two have it");
    busy.release().await?;
    Ok(())
}

#[cfg(test)]
#[tokio::test]
async fn it_runs_embedded_and_on_a_server() -> Result<()> {
    use cache_strata::connect_recipes;

    run(Locks::new(connect_recipes("memory:").await?)).await?;
    run(Locks::new(connect_recipes("memory:").await?).fair()).await?;
    let server = cache_redis::testkit::Server::spawn()?;
    run(Locks::new(connect_recipes(&server.url()).await?)).await
}
