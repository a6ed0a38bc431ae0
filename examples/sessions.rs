//! How do I log a user in, keep the session alive while it is used, and log out every device at once?
//!
//! In the process; with `REDIS_URL`, on that server: nothing else changes.

use anyhow::{Context, Result, ensure};
use cache_strata::recipe::Sessions;
use cache_strata::recipe::session::{Lifetime, SessionId};
use cache_strata::{codec, recipes_from_env};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Visit {
    device: String,
    basket: Vec<u32>,
}

#[tokio::main]
async fn main() -> Result<()> {
    // 30 minutes untouched, 24 hours at most
    run(Sessions::new(recipes_from_env().await?, codec::Json, Lifetime::default())?).await
}

async fn run(sessions: Sessions<Visit>) -> Result<()> {
    let visit = |device: &str, basket: &[u32]| Visit { device: device.to_owned(), basket: basket.to_vec() };
    // a visitor fills a basket, and logs in: a new id, so that nobody who planted the old one is logged in too
    let visitor = sessions.create(None, &visit("laptop", &[7])).await?;
    let laptop = sessions.rotate_as(&visitor, "ada", &visit("laptop", &[7])).await?.context("the visitor is there")?;
    let phone = sessions.create(Some("ada"), &visit("phone", &[])).await?;
    ensure!(sessions.get(&visitor).await?.is_none(), "the visitor's id still works");

    // what a request does first: the id from the cookie, the session prolonged
    let cookie = laptop.expose();
    let id = SessionId::parse(&cookie).context("no id of ours")?;
    let session = sessions.touch(&id).await?.context("logged out")?;
    println!("{:?} is here with {} things", session.user, session.data.basket.len());

    for session in sessions.list("ada").await? {
        println!("ada is logged in on her {}, session {}", session.data.device, session.name);
    }
    // after a change of password only the device at hand stays
    ensure!(sessions.destroy_others("ada", &laptop).await? >= 1 && sessions.get(&phone).await?.is_none());
    println!("logged out everywhere: {} sessions", sessions.destroy_all("ada").await?);
    ensure!(sessions.touch(&laptop).await?.is_none());
    Ok(())
}

#[cfg(test)]
#[tokio::test]
async fn it_runs_embedded_and_on_a_server() -> Result<()> {
    use cache_strata::connect_recipes;

    run(Sessions::new(connect_recipes("memory:").await?, codec::Json, Lifetime::default())?).await?;
    let server = cache_redis::testkit::Server::spawn()?;
    run(Sessions::new(connect_recipes(&server.url()).await?, codec::Json, Lifetime::default())?).await
}
