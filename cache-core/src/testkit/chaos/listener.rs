//! A listener behind faults.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::faults::{Faults, World};
use crate::{BusEvent, Listener};

/// How many events wait for a reader before the listener behind the faults has to keep them.
const BUFFER: usize = 256;

/// Takes events as they arrive, whether anybody reads or not: what arrives during a fault is lost.
pub(super) struct Muffled {
    events: mpsc::Receiver<BusEvent>,
    pump: AbortHandle,
}

impl Muffled {
    /// `world` must have been watched from before `inner` was subscribed.
    pub(super) fn new(inner: Box<dyn Listener>, world: watch::Receiver<World>, faults: Arc<Faults>) -> Self {
        let (out, events) = mpsc::channel(BUFFER);
        let pump = tokio::spawn(pump(inner, world, faults, out)).abort_handle();
        Self { events, pump }
    }
}

impl Drop for Muffled {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

#[async_trait]
impl Listener for Muffled {
    async fn next(&mut self) -> Option<BusEvent> {
        self.events.recv().await
    }
}

async fn pump(
    mut inner: Box<dyn Listener>,
    mut world: watch::Receiver<World>,
    faults: Arc<Faults>,
    out: mpsc::Sender<BusEvent>,
) {
    let (mut parted, mut cuts) = (false, 0);
    loop {
        let now = *world.borrow_and_update();
        let cut = now.cuts != cuts && !parted;
        cuts = now.cuts;
        // a partition that came and went unseen is told all the same
        if cut && out.send(BusEvent::Lost).await.is_err() {
            return;
        }
        if (cut || parted) && !now.parted && out.send(BusEvent::Restored).await.is_err() {
            return;
        }
        parted = now.parted;
        let event = tokio::select! {
            biased;
            // the sender lives in `faults`
            _ = world.changed() => continue,
            event = inner.next() => event,
        };
        let now = *world.borrow();
        let message = matches!(event, Some(BusEvent::Message { .. } | BusEvent::Foreign { .. }));
        match event {
            None => return,
            Some(_) if now.parted || (now.muted && message) => faults.drop_message(),
            Some(event) => {
                if out.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}
