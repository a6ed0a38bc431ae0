//! Broadcast tracking: a connection on which the server names every key written under some prefixes, kept up for ever.

use std::sync::Arc;

use cache_core::Result;
use tokio::time::{Instant, sleep, timeout};

use super::backoff;
use super::handshake::{Connector, Place};
use super::heard::{Ear, Ears, Tracker};
use super::pushes::{Pushes, Said};
use crate::config::Endpoint;
use crate::error;
use crate::tracking::NO_RESP3;

/// A connection that is tracked, and where it leads.
pub(super) type Joined = (Pushes, Place);

/// Tracks every key under `prefixes`; returns once the server confirmed it.
pub(super) async fn open(connector: Arc<Connector>, prefixes: Vec<String>) -> Result<Tracker> {
    let ears = Arc::new(Ears::default());
    let tracker = ears.attend(prefixes.clone());
    let joined = join(&connector, &prefixes, &ears).await.map_err(|error| error.with_operation("subscribe"))?;
    let task = tokio::spawn(async move { supervise(&connector, &prefixes, &ears, Some(joined), || {}).await });
    Ok(tracker.with(task))
}

/// Keeps a tracked connection up for ever, the one that is `joined` first; what it hears goes to `ears`. `lost` is
/// called whenever it is lost.
pub(super) async fn supervise(
    connector: &Connector,
    prefixes: &[String],
    ears: &Arc<Ears>,
    joined: Option<Joined>,
    lost: impl Fn() + Send,
) {
    let mut ear = if joined.is_some() { Ear::open(Arc::clone(ears)) } else { Ear::deaf(Arc::clone(ears)) };
    let mut joined = joined;
    let mut failures = 0;
    loop {
        let (mut pushes, place) = match joined.take() {
            Some(joined) => joined,
            None => {
                let joined = rejoin(connector, prefixes, ears, failures).await;
                ear.mend();
                joined
            }
        };
        let since = Instant::now();
        tokio::select! {
            () = listen(connector, &mut pushes, ears) => {}
            () = connector.left(&place) => {}
        }
        drop(pushes);
        tracing::warn!(endpoint = %place.endpoint, "tracking lost");
        ear.lose();
        lost();
        failures = u32::from(since.elapsed() < connector.config.knobs.backoff_max);
    }
}

async fn rejoin(connector: &Connector, prefixes: &[String], ears: &Ears, mut failures: u32) -> Joined {
    let knobs = &connector.config.knobs;
    loop {
        sleep(backoff::wait(knobs.backoff_min, knobs.backoff_max, failures)).await;
        match join(connector, prefixes, ears).await {
            Ok(joined) => return joined,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "can't track keys, will go on trying");
                }
            }
        }
    }
}

/// Opens a connection and asks for pushes, all within the connect timeout.
pub(super) async fn join(connector: &Connector, prefixes: &[String], ears: &Ears) -> Result<Joined> {
    let work = async {
        let (stream, place) = connector.stream().await?;
        let mut pushes = Pushes::new(stream);
        confirm(connector, &place.endpoint, prefixes, ears, &mut pushes).await?;
        Ok((pushes, place))
    };
    connector.within(work).await
}

/// What was asked at the start of a connection, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Hello,
    Role,
    Tracking,
}

async fn confirm(
    connector: &Connector,
    endpoint: &Endpoint,
    prefixes: &[String],
    ears: &Ears,
    pushes: &mut Pushes,
) -> Result<()> {
    let config = &connector.config;
    let mut hello = redis::cmd("HELLO");
    hello.arg(3);
    if let Some(password) = &config.password {
        hello.arg("AUTH").arg(config.username.as_deref().unwrap_or("default")).arg(&password.0);
    }
    // without NOLOOP: our writes come over other connections, and some servers track nothing under it.
    // pushes name keys of every database, so none is selected
    let mut track = redis::cmd("CLIENT");
    track.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in prefixes {
        track.arg("PREFIX").arg(prefix);
    }
    let mut packed = hello.get_packed_command();
    let mut asked = vec![Asked::Hello];
    if connector.target.is_checked() {
        packed.extend(redis::cmd("INFO").arg("replication").get_packed_command());
        asked.push(Asked::Role);
    }
    packed.extend(track.get_packed_command());
    asked.push(Asked::Tracking);
    let lost = |e: &std::io::Error| error::io(e, &endpoint.to_string());
    pushes.write(&packed).await.map_err(|e| lost(&e))?;
    let mut asked = asked.into_iter();
    let mut next = asked.next();
    while let Some(now) = next {
        match pushes.read().await.map_err(|e| lost(&e))? {
            Said::Key(key) => {
                ears.key(&key);
                continue;
            }
            Said::All => {
                ears.all();
                continue;
            }
            Said::Reply(text) if now == Asked::Role => connector.target.check(&String::from_utf8_lossy(&text))?,
            Said::Reply(_) => {}
            Said::Error(text) if now == Asked::Role && text.starts_with(b"NOPERM") => {}
            Said::Error(text) => return Err(refused(&text, now)),
        }
        next = asked.next();
    }
    Ok(())
}

/// Why the server doesn't track, by its error's code.
fn refused(text: &[u8], asked: Asked) -> cache_core::Error {
    let text = String::from_utf8_lossy(text);
    let code = text.split(' ').next().unwrap_or("");
    match code {
        "ERR" | "NOPROTO" if asked == Asked::Hello => error::config(NO_RESP3),
        "ERR" if asked == Asked::Tracking => {
            error::config("the server has no broadcast tracking; set tracking to reads or to off")
        }
        _ => error::server(code, ""),
    }
}

/// Notes what is pushed until the connection breaks or stops answering.
async fn listen(connector: &Connector, pushes: &mut Pushes, ears: &Ears) {
    let knobs = &connector.config.knobs;
    let ping = redis::cmd("PING").get_packed_command();
    let patience = knobs.timeout * knobs.rebuild_after;
    let mut asked = false;
    loop {
        match timeout(if asked { patience } else { knobs.heartbeat }, pushes.read()).await {
            Ok(Ok(said)) => {
                asked = false;
                match said {
                    Said::Key(key) => ears.key(&key),
                    Said::All => ears.all(),
                    Said::Reply(_) => {}
                    Said::Error(_) => return,
                }
            }
            Ok(Err(_)) => return,
            Err(_) if asked => return,
            Err(_) => {
                asked = true;
                if !matches!(timeout(patience, pushes.write(&ping)).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}
