//! How do I let each user ask so many times, over all processes, and tell them when to come back? A limit, as a layer
//! before an axum application, and by hand.
//!
//! In the process; with `REDIS_URL`, on that server: nothing else changes.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::get;
use cache_strata::recipe::limit::{Algorithm, Away, LimitStore};
use cache_strata::recipe::{Limit, Limits};
use cache_strata::{LimitLayer, recipes_from_env};
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<()> {
    run(recipes_from_env().await?).await
}

async fn run(store: impl LimitStore + Clone) -> Result<()> {
    // three at once, then one every twenty seconds; while the store is away each of four processes gives a quarter
    let share = NonZeroU32::new(4).unwrap_or(NonZeroU32::MIN);
    let limits = Limits::new(store.clone(), Limit::per_minute(3))?.when_away(Away::Local { share });
    let layer = LimitLayer::new(limits, |request| {
        let user = request.headers.get("x-user")?.to_str().ok()?;
        Some(format!("limit:{user}"))
    });
    let app = Router::new().route("/", get(async || "hello")).layer(layer.named("api"));
    for left in ["2", "1", "0"] {
        let (status, fields) = ask(&app, "ada").await?;
        let told = fields["ratelimit"].to_str()?;
        println!("{status}, {told}");
        ensure!(status == StatusCode::OK && told.starts_with(&format!("\"api\";r={left};")), "{status} {told}");
    }
    let (status, fields) = ask(&app, "ada").await?;
    println!("{status}, come back in {} s", fields["retry-after"].to_str()?);
    ensure!(status == StatusCode::TOO_MANY_REQUESTS, "{status}");
    ensure!(ask(&app, "bob").await?.0 == StatusCode::OK, "bob pays for ada");

    // by hand, exact in any window, and dear calls cost more
    let exports = Limits::new(store, Limit::new(10, Duration::from_secs(3600)).by(Algorithm::Log))?;
    let large = exports.take("exports:ada", 8).await?;
    let another = exports.take("exports:ada", 8).await?;
    println!("a large export: {}; another: {}, in {:?}", large.allowed, another.allowed, another.retry_after);
    ensure!(large.allowed && !another.allowed && exports.peek("exports:ada").await?.remaining == 2, "{another:?}");
    Ok(())
}

async fn ask(app: &Router, user: &str) -> Result<(StatusCode, HeaderMap)> {
    let request = Request::builder().uri("/").header("x-user", user).body(Body::empty())?;
    let answer = app.clone().oneshot(request).await?;
    Ok((answer.status(), answer.headers().clone()))
}

#[cfg(test)]
#[tokio::test]
async fn it_runs_embedded_and_on_a_server() -> Result<()> {
    use cache_strata::connect_recipes;

    run(connect_recipes("memory:").await?).await?;
    let server = cache_redis::testkit::Server::spawn()?;
    run(connect_recipes(&server.url()).await?).await
}
