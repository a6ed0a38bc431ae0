//! A lease that this process holds.

use std::sync::Arc;

use cache_core::{Claim, Stamp};

use crate::engine::batch::join_all;
use crate::engine::{Engine, Where};

/// A lease that is given back when it is dropped unfilled.
pub(crate) struct Held {
    engine: Arc<Engine>,
    at: Where,
    pub(crate) token: Stamp,
    filled: bool,
}

impl Held {
    /// The lease on a key that `token` was granted, or is asking for: giving back what was not granted is harmless.
    pub(crate) const fn new(engine: Arc<Engine>, at: Where, token: Stamp) -> Self {
        Self { engine, at, token, filled: false }
    }

    /// The key and the token.
    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim { key: &self.at.far, token: self.token }
    }

    /// The index of the key's line.
    pub(crate) const fn line(&self) -> usize {
        self.at.line
    }

    /// There is nothing to give back.
    pub(crate) fn over(mut self) {
        self.filled = true;
    }

    /// Gives many back, in one round a line.
    pub(crate) fn give_back(held: Vec<Self>) {
        let Some(engine) = held.first().map(|held| Arc::clone(&held.engine)) else { return };
        let shift = engine.work.begin();
        let release = async move {
            let _shift = shift;
            let Some(far) = &engine.far else { return };
            let now = engine.clock.now();
            let (rests, held): (Vec<_>, Vec<_>) = held
                .into_iter()
                .map(|held| (engine.pauses.active(&held.at.near, now).map(|(_, left)| left), held))
                .partition(|(rest, _)| rest.is_some());
            let resting = rests.iter().filter_map(|(rest, held)| {
                let channel = &engine.line(&held.at).names.channel;
                Some(far.leases().rest(&held.at.far, held.token, (*rest)?, channel))
            });
            let _ = join_all(resting).await;
            let held: Vec<Self> = held.into_iter().map(|(_, held)| held).collect();
            for (line, state) in engine.lines.iter().enumerate() {
                let claims: Vec<Claim<'_>> = held.iter().filter(|held| held.line() == line).map(Self::claim).collect();
                if !claims.is_empty() {
                    // leases that can't be given back run out by themselves
                    let _ = far.leases().release_many(&claims, &state.names.channel).await;
                }
            }
            rests.into_iter().map(|(_, held)| held).chain(held).for_each(Self::over);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.filled {
            return;
        }
        let (engine, at, token) = (Arc::clone(&self.engine), self.at.clone(), self.token);
        let shift = engine.work.begin();
        let rest = engine.pauses.active(&at.near, engine.clock.now()).map(|(_, left)| left);
        let release = async move {
            let _shift = shift;
            if let Some(far) = &engine.far {
                let channel = &engine.line(&at).names.channel;
                // a lease that can't be given back runs out by itself
                let _ = match rest {
                    Some(left) => far.leases().rest(&at.far, token, left, channel).await,
                    None => far.leases().release(&at.far, token, channel).await,
                };
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}
