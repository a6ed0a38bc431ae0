//! Hearing of failovers from a sentinel, instead of finding out.

use std::sync::Arc;
use std::time::Duration;

use cache_core::Result;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::backoff;
use super::sentinel::{Watchers, address, login};
use super::stream;
use super::wire::{Frame, Wire};
use crate::config::{Config, Endpoint};
use crate::error;

const CHANNEL: &str = "+switch-master";

/// The primary that was replaced last, and when that was heard.
///
/// A planned failover leaves the old primary writable for ten seconds: what is written to it then is lost.
#[derive(Debug)]
pub(crate) struct Switches {
    left: watch::Receiver<Option<(Endpoint, Instant)>>,
    task: AbortHandle,
}

impl Switches {
    /// Listens to one sentinel at a time until dropped.
    pub(crate) fn listen(watchers: Arc<Watchers>, config: Config) -> Self {
        let (sender, left) = watch::channel(None);
        let task = tokio::spawn(follow(watchers, config, sender)).abort_handle();
        Self { left, task }
    }

    /// Ends when the server at `endpoint`, which was named as primary at `since`, was replaced after that.
    pub(crate) async fn replaced(&self, endpoint: &Endpoint, since: Instant) {
        let mut left = self.left.clone();
        let gone = left.wait_for(|left| left.as_ref().is_some_and(|(old, at)| old == endpoint && *at >= since));
        if gone.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Switches {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(watchers: Arc<Watchers>, config: Config, left: watch::Sender<Option<(Endpoint, Instant)>>) {
    let knobs = &config.knobs;
    let mut known = None;
    let mut failures = 0_u32;
    loop {
        for sentinel in &watchers.sentinels.endpoints {
            sleep(backoff::wait(knobs.backoff_min, knobs.backoff_max, failures)).await;
            let mut replace = |now: Endpoint| {
                let before = known.replace(now);
                if let Some(before) = before.filter(|before| known.as_ref() != Some(before)) {
                    tracing::info!(old = %before, "the sentinels have replaced the primary");
                    left.send_replace(Some((before, Instant::now())));
                }
            };
            let opened = timeout(knobs.connect_timeout, open(&watchers, sentinel, &config)).await;
            let Ok(Ok((mut wire, now))) = opened else {
                failures = failures.saturating_add(1);
                continue;
            };
            failures = 1;
            replace(now);
            while let Some((name, now)) = next(&mut wire, knobs.heartbeat, knobs.connect_timeout).await {
                if name == watchers.sentinels.master {
                    replace(now);
                }
            }
        }
    }
}

/// Subscribes at `sentinel`, then asks it: nothing falls between the two.
async fn open(watchers: &Watchers, sentinel: &Endpoint, config: &Config) -> Result<(Wire, Endpoint)> {
    let lost = |e: &std::io::Error| error::io(e, &sentinel.to_string());
    let mut wire = Wire::new(stream::open(sentinel, config.tls.as_ref(), &config.knobs).await?);
    let mut packed = login(watchers.sentinels.username.as_deref(), watchers.sentinels.password.as_ref());
    packed.extend(redis::cmd("SUBSCRIBE").arg(CHANNEL).get_packed_command());
    wire.write(&packed).await.map_err(|e| lost(&e))?;
    loop {
        match wire.read().await.map_err(|e| lost(&e))? {
            Frame::Line(_) => {}
            Frame::Error(_) => return Err(error::unexpected("connect")),
            Frame::Parts(_) => break,
        }
    }
    let now = watchers.ask(sentinel, config).await?;
    Ok((wire, now))
}

/// The next switch: a primary's name and its new address. `None` once the connection is broken or silent.
async fn next(wire: &mut Wire, quiet: Duration, patience: Duration) -> Option<(String, Endpoint)> {
    let ping = redis::cmd("PING").get_packed_command();
    let mut asked = false;
    loop {
        let frame = match timeout(if asked { patience } else { quiet }, wire.read()).await {
            Ok(frame) => frame.ok()?,
            Err(_) if asked => return None,
            Err(_) => {
                asked = true;
                timeout(patience, wire.write(&ping)).await.ok()?.ok()?;
                continue;
            }
        };
        asked = false;
        let Frame::Parts(parts) = frame else { continue };
        let [kind, _, payload] = parts.as_slice() else { continue };
        if kind != "message" {
            continue;
        }
        let words: Vec<&[u8]> = payload.split(|byte| *byte == b' ').collect();
        if let [name, _, _, host, port] = words.as_slice()
            && let Some(now) = address(host, port)
        {
            return Some((String::from_utf8_lossy(name).into_owned(), now));
        }
    }
}
