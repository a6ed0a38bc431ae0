//! A subscription over the network: a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use cache_core::{Bus, BusEvent, Line, Listener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::Link;
use super::weather::Ill;

/// How long it takes until a broken connection is tried again.
const BACKOFF: Duration = Duration::from_millis(50);

/// One push in so many arrives while they are lost.
const LOSSY: u32 = 8;

struct Push {
    arrives: Instant,
    /// How often the connection had been cut when it left.
    cuts: u64,
    event: BusEvent,
}

pub(super) struct Pushes {
    link: Link,
    arriving: UnboundedReceiver<Push>,
    next: Option<Push>,
    pump: AbortHandle,
}

impl Pushes {
    /// Takes over `inner`, which the server opened for `lines`.
    pub(super) fn new(link: Link, inner: Box<dyn Listener>, lines: Vec<Line>) -> Self {
        let (out, arriving) = unbounded_channel();
        let pump = tokio::spawn(pump(link.clone(), inner, lines, out)).abort_handle();
        Self { link, arriving, next: None, pump }
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

#[async_trait]
impl Listener for Pushes {
    async fn next(&mut self) -> Option<BusEvent> {
        loop {
            if self.next.is_none() {
                self.next = Some(self.arriving.recv().await?);
            }
            let arrives = self.next.as_ref()?.arrives;
            sleep_until(arrives).await;
            self.link.weather.over(Ill::Pushes).await;
            self.link.running().await;
            let push = self.next.take()?;
            // what was under way when the connection broke is lost
            let broken = push.cuts != self.link.weather.cuts();
            if !(broken && matches!(push.event, BusEvent::Message { .. } | BusEvent::Foreign { .. })) {
                return Some(push.event);
            }
        }
    }
}

/// Sends what the server publishes on its way, and makes the connection anew when it broke.
async fn pump(link: Link, mut inner: Box<dyn Listener>, lines: Vec<Line>, out: UnboundedSender<Push>) {
    let weather = &link.weather;
    let mut last = Instant::now();
    let mut cuts = weather.cuts();
    loop {
        let event = tokio::select! {
            biased;
            () = weather.cut_since(cuts) => None,
            event = inner.next() => event,
        };
        let Some(event) = event else {
            if out.send(Push { arrives: last, cuts, event: BusEvent::Lost }).is_err() {
                return;
            }
            loop {
                sleep(BACKOFF + weather.travel()).await;
                weather.over(Ill::Refused).await;
                weather.over(Ill::Requests).await;
                weather.over(Ill::Frozen).await;
                if let Ok(listener) = link.server().subscribe(&lines).await {
                    inner = listener;
                    break;
                }
            }
            cuts = weather.cuts();
            last = last.max(Instant::now() + weather.travel());
            if out.send(Push { arrives: last, cuts, event: BusEvent::Restored }).is_err() {
                return;
            }
            continue;
        };
        let lossy = weather.has(Ill::Lossy) && matches!(event, BusEvent::Message { .. });
        if lossy && weather.rng().u32(..LOSSY) > 0 {
            continue;
        }
        last = last.max(Instant::now() + weather.travel());
        if out.send(Push { arrives: last, cuts, event }).is_err() {
            return;
        }
    }
}
