//! Who is first today? A board a day that ends by itself.
//!
//! In the process; with `REDIS_URL`, on that server: nothing else changes.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use cache_strata::recipe::{Leaderboards, Window};
use cache_strata::recipes_from_env;

const DAILY: Window = Window::daily();

#[tokio::main]
async fn main() -> Result<()> {
    // the boards of the last week can be read
    run(Leaderboards::new(recipes_from_env().await?, DAILY.ttl(7))?).await
}

async fn run(boards: Leaderboards) -> Result<()> {
    let today = DAILY.key("example:points", SystemTime::now());
    for (player, points) in [("ada", 120.0), ("bob", 150.0), ("cyd", 120.0), ("dee", 80.0), ("eve", 10.0)] {
        boards.add(&today, player, points).await?;
    }
    boards.increment(&today, "dee", 100.0).await?;
    for standing in boards.top(&today, 3).await? {
        println!("{}. {} {}", standing.rank, standing.member, standing.score);
    }
    let beside = boards.around(&today, "ada", 1, 1).await?;
    let names: Vec<&str> = beside.iter().map(|standing| &*standing.member).collect();
    println!("around ada: {names:?}");
    ensure!(names == ["cyd", "ada", "eve"] && boards.rank(&today, "dee").await? == Some(1));
    Ok(())
}

#[cfg(test)]
#[tokio::test]
async fn it_runs_embedded_and_on_a_server() -> Result<()> {
    use cache_strata::connect_recipes;

    run(Leaderboards::new(connect_recipes("memory:").await?, DAILY.ttl(7))?).await?;
    let server = cache_redis::testkit::Server::spawn()?;
    run(Leaderboards::new(connect_recipes(&server.url()).await?, DAILY.ttl(7))?).await
}
