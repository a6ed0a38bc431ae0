//! An axum application with `tower-sessions`: the store is ours, and the application does not know.
//!
//! In the process; with `REDIS_URL`, on that server.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::routing::{get, post};
use cache_strata::{TowerSessions, recipes_from_env};
use tower::ServiceExt;
use tower_sessions::{Session, SessionManagerLayer};

async fn visits(session: Session) -> Result<String, StatusCode> {
    let seen = session.get::<u32>("visits").await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.unwrap_or(0) + 1;
    session.insert("visits", seen).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(format!("visit {seen}"))
}

async fn login(session: Session) -> Result<(), StatusCode> {
    session.cycle_id().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn logout(session: Session) -> Result<(), StatusCode> {
    session.flush().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

fn app(store: TowerSessions) -> Router {
    let routes = Router::new().route("/", get(visits)).route("/login", post(login)).route("/logout", post(logout));
    routes.layer(SessionManagerLayer::new(store))
}

#[tokio::main]
async fn main() -> Result<()> {
    walk(TowerSessions::new(recipes_from_env().await?)).await
}

/// A browser's way through the application, each request by a process of its own.
async fn walk(store: TowerSessions) -> Result<()> {
    let (first, cookie) = ask(&store, "GET", "/", None).await?;
    let cookie = cookie.context("a first visit sets a cookie")?;
    let (second, _) = ask(&store, "GET", "/", Some(&cookie)).await?;
    println!("{first}, then {second}");
    ensure!((&*first, &*second) == ("visit 1", "visit 2"), "the session was lost");

    let (_, renewed) = ask(&store, "POST", "/login", Some(&cookie)).await?;
    let renewed = renewed.context("a login sets a new cookie")?;
    ensure!(renewed != cookie, "the id stayed");
    let (third, _) = ask(&store, "GET", "/", Some(&renewed)).await?;
    let (stranger, _) = ask(&store, "GET", "/", Some(&cookie)).await?;
    println!("with the new id {third}, with the old one {stranger}");
    ensure!((&*third, &*stranger) == ("visit 3", "visit 1"), "the old id still works");

    ask(&store, "POST", "/logout", Some(&renewed)).await?;
    let (after, _) = ask(&store, "GET", "/", Some(&renewed)).await?;
    ensure!(after == "visit 1", "the session outlived the logout");
    let (forged, _) = ask(&store, "GET", "/", Some("id=AAAAAAAAAAAAAAAAAAAAAA")).await?;
    ensure!(forged == "visit 1", "a made-up id has a session");
    Ok(())
}

/// The body of the answer, and the cookie that it sets.
async fn ask(
    store: &TowerSessions,
    method: &str,
    path: &str,
    cookie: Option<&str>,
) -> Result<(String, Option<String>)> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let answer = app(store.clone()).oneshot(request.body(Body::empty())?).await?;
    ensure!(answer.status() == StatusCode::OK, "{} {path}: {}", method, answer.status());
    let set = answer.headers().get(header::SET_COOKIE).map(|cookie| cookie.to_str()).transpose()?;
    let cookie = set.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
    let body = to_bytes(answer.into_body(), 1 << 16).await?;
    Ok((String::from_utf8(body.to_vec())?, cookie))
}

#[cfg(test)]
#[tokio::test]
async fn it_runs_embedded_and_on_a_server() -> Result<()> {
    use cache_strata::{CacheService, Memory, Redis};

    let memory = Memory::new();
    walk(TowerSessions::new(memory.clone()).prefix("shop")?).await?;
    ensure!(!memory.is_empty(), "it was kept somewhere else");
    let server = cache_redis::testkit::Server::spawn()?;
    let redis = Redis::connect(server.url()).await?;
    walk(TowerSessions::new(redis.clone()).prefix("shop")?).await?;
    let keys = redis.sweep().context("a sweep")?.keys("shop:").await?;
    ensure!(!keys.is_empty(), "it was kept somewhere else");
    for key in keys {
        let left: i64 = server.cli(&["PTTL", &key])?.parse()?;
        ensure!(left > 0, "{key} has no ttl");
    }
    Ok(())
}
