//! Keeping a connection up: reconnect, watch, replace.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_core::ErrorKind;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::handshake::{Fresh, Place};
use super::heard::Ear;
use super::lane::{Shared, State};
use super::request::Failure;
use crate::error;

/// The shortest wait between two attempts with credentials that were refused.
const DENIED_WAIT: Duration = Duration::from_secs(5);

/// A connection under supervision.
pub(super) struct Tended {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: tokio::task::JoinHandle<()>,
    pub(super) generation: u64,
    pub(super) since: Instant,
    pub(super) place: Place,
}

/// Keeps a lane's connection up until told to stop.
pub(super) async fn supervise(shared: Arc<Shared>, mut tended: Option<Tended>, stop: CancellationToken) {
    let knobs = &shared.connector.config.knobs;
    let mut failures = 0_u32;
    let mut replaced = None;
    let mut ear: Option<Ear> = None;
    loop {
        let mut current = match tended.take() {
            Some(tended) => tended,
            None => match climb(&shared, &mut failures, &stop).await {
                Some(fresh) => shared.publish(fresh),
                None => return,
            },
        };
        // what was read on another connection is watched no more
        match (&mut ear, &shared.ears) {
            (Some(ear), _) => ear.mend(),
            (None, Some(ears)) => ear = Some(Ear::open(Arc::clone(ears))),
            (None, None) => {}
        }
        match tend(&shared, &mut current, &mut replaced, &stop).await {
            End::Stopped => {
                current.driver.abort();
                return;
            }
            End::Replaced(fresh) => {
                // the old driver goes on until the calls on it are answered
                tracing::info!(lane = shared.label, "connection replaced: the server takes no writes");
                tended = Some(shared.publish(*fresh));
            }
            End::Lost(why) => {
                current.driver.abort();
                tracing::warn!(lane = shared.label, why, "connection lost");
                if let Some(ear) = &mut ear {
                    ear.lose();
                }
                shared.down(why, Instant::now() + knobs.grace);
                // a connection that does not last is not a success
                failures = if current.since.elapsed() > knobs.backoff_max { 0 } else { failures.saturating_add(1) };
            }
        }
    }
}

/// Connects, for ever; `None` when stopped.
async fn climb(shared: &Shared, failures: &mut u32, stop: &CancellationToken) -> Option<Fresh> {
    let knobs = &shared.connector.config.knobs;
    let mut wait = backoff::wait(knobs.backoff_min, knobs.backoff_max, *failures);
    loop {
        let attempt = async {
            sleep(wait).await;
            shared.connect().await
        };
        let error = tokio::select! {
            () = stop.cancelled() => return None,
            fresh = attempt => match fresh {
                Ok(fresh) => return Some(fresh),
                Err(error) => error,
            },
        };
        *failures = failures.saturating_add(1);
        wait = backoff::wait(knobs.backoff_min, knobs.backoff_max, *failures);
        if error.kind() == ErrorKind::Denied {
            wait = wait.max(DENIED_WAIT);
        }
        if failures.is_power_of_two() {
            tracing::warn!(lane = shared.label, %error, failures, "can't connect, will go on trying");
        }
        shared.state.send_modify(|state| {
            // what is left of the grace stays, unless nothing was ever up
            let grace = match state {
                State::Down { grace, .. } if shared.generation.load(Ordering::Acquire) > 0 => *grace,
                _ => Instant::now(),
            };
            *state = State::Down { error: error.with_retry_after(wait), grace };
        });
    }
}

enum End {
    Stopped,
    Lost(&'static str),
    Replaced(Box<Fresh>),
}

/// Watches a connection until it ends.
async fn tend(shared: &Shared, current: &mut Tended, replaced: &mut Option<Instant>, stop: &CancellationToken) -> End {
    let beat = heartbeat(shared, current.connection.clone(), current.generation);
    let place = current.place.clone();
    let left = shared.connector.left(&place);
    tokio::pin!(beat, left);
    loop {
        tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            _ = &mut current.driver => return End::Lost("connection lost"),
            () = &mut beat => return End::Lost("connection lost"),
            () = &mut left => return End::Lost("the server is no longer the primary"),
            () = shared.alarm.notified() => {}
        }
        if shared.dead.load(Ordering::Acquire) == current.generation {
            return End::Lost("the server stopped answering");
        }
        if shared.unfit.load(Ordering::Acquire) != current.generation {
            continue;
        }
        let pause = shared.connector.config.knobs.backoff_max;
        if replaced.is_some_and(|last| last.elapsed() < pause) {
            // the next refused write raises the flag again
            shared.unfit.store(0, Ordering::Release);
            continue;
        }
        *replaced = Some(Instant::now());
        tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            _ = &mut current.driver => return End::Lost("connection lost"),
            fresh = shared.connect() => match fresh {
                Ok(fresh) => return End::Replaced(Box::new(fresh)),
                Err(error) => tracing::warn!(lane = shared.label, %error, "can't replace the connection"),
            },
        }
        shared.unfit.store(0, Ordering::Release);
    }
}

/// Asks a server for a sign of life, an idle one now and then, a silent one at once and until it gives one or is left;
/// ends when the connection is broken.
async fn heartbeat(shared: &Shared, mut connection: MultiplexedConnection, generation: u64) {
    let knobs = &shared.connector.config.knobs;
    let ping = redis::cmd("PING");
    loop {
        tokio::select! {
            () = sleep(knobs.heartbeat) => {}
            () = shared.silence() => {}
        }
        if shared.heard.swap(false, Ordering::AcqRel) && !shared.is_silent() {
            continue;
        }
        let (began, mark) = (Instant::now(), shared.mark());
        let answer = match timeout(knobs.timeout, connection.send_packed_command(&ping)).await {
            Ok(Ok(value)) => value.extract_error().map_err(Failure::Driver),
            Ok(Err(cause)) => Err(Failure::Driver(cause)),
            Err(_) => Err(Failure::Late),
        };
        if matches!(answer, Err(Failure::Late)) {
            shared.doubt(mark, generation);
        }
        shared.learn(&answer, generation, began);
        if matches!(&answer, Err(Failure::Driver(cause)) if error::is_broken(cause)) {
            return;
        }
    }
}
