//! A lease that this process holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::envelope::flag;
use cache_core::{Claim, Frame, Header, Result, Stamp, State, Tags};

use crate::engine::batch::join_all;
use crate::engine::pauses::Why;
use crate::engine::{Engine, Far, Where};

/// A lease that is given back when it is dropped unfilled.
///
/// It is given back through the far store's breaker: while that is open, nothing is sent, and a lease runs out by itself.
pub(crate) struct Held {
    engine: Arc<Engine>,
    at: Where,
    pub(crate) token: Stamp,
    filled: bool,
    what: What,
}

/// What a lease is on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// A key, to fill it.
    Key,
    /// A key of its own, to be the one that refreshes a key.
    Refresh,
}

impl Held {
    /// The lease on a key that `token` was granted, or is asking for: giving back what was not granted is harmless.
    pub(crate) const fn new(engine: Arc<Engine>, at: Where, token: Stamp) -> Self {
        Self { engine, at, token, filled: false, what: What::Key }
    }

    /// As [`new`](Self::new), for the right to refresh the key whose right stands under `at.far`. After a refresh that
    /// failed nobody is granted it until the pause is over: one try of the origin in that time, by all processes together.
    pub(crate) const fn to_refresh(engine: Arc<Engine>, at: Where, token: Stamp) -> Self {
        Self { engine, at, token, filled: false, what: What::Refresh }
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

    /// How long nobody is to be granted it, if it is given back now.
    fn rest(&self) -> Option<Duration> {
        let (why, left) = self.engine.pauses.active(&self.at.near, self.engine.clock.now())?;
        // that somebody would not wait for a refresh says nothing of the origin
        (self.what == What::Key || matches!(why, Why::Failed(_))).then_some(left)
    }

    /// Gives it back, to rest for `rest`.
    async fn release(&self, far: &Far, rest: Option<Duration>) {
        let channel = &self.engine.line(&self.at).names.channel;
        let call = async {
            let leases = far.leases();
            match (rest, self.what) {
                (None, _) => leases.release(&self.at.far, self.token, channel).await,
                (Some(left), What::Key) => leases.rest(&self.at.far, self.token, left, channel).await,
                // there is no value under it that could rest: that there is nothing to do stands there instead
                (Some(left), What::Refresh) => {
                    leases.fill(&self.at.far, self.token, self.nothing(left), left, channel).await
                }
            }
        };
        // a lease that can't be given back runs out by itself
        let _: Result<bool> = far.call(&self.engine.clock, &self.engine.counters, call).await;
    }

    /// A frame without a value, to stand for `span`.
    fn nothing(&self, span: Duration) -> Bytes {
        let now = self.engine.time.ms(&self.engine.clock, self.engine.clock.now());
        let header = Header {
            state: State::Negative,
            flags: flag::NEGATIVE,
            stamp: self.token,
            // longer than it is there: nobody takes it over
            soft_exp: now.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)).saturating_add(60_000),
            created: now,
            ..Header::value()
        };
        Frame { header, tags: Tags::default(), payload: Bytes::new() }.to_bytes(&self.at.far)
    }

    /// Gives many back, in one round a line.
    pub(crate) fn give_back(held: Vec<Self>) {
        let Some(engine) = held.first().map(|held| Arc::clone(&held.engine)) else { return };
        let shift = engine.work.begin();
        let release = async move {
            let _shift = shift;
            let Some(far) = &engine.far else { return };
            let (rests, held): (Vec<_>, Vec<_>) =
                held.into_iter().map(|held| (held.rest(), held)).partition(|(rest, _)| rest.is_some());
            let _ = join_all(rests.iter().map(|(rest, held)| held.release(far, *rest))).await;
            let held: Vec<Self> = held.into_iter().map(|(_, held)| held).collect();
            for (line, state) in engine.lines.iter().enumerate() {
                let claims: Vec<Claim<'_>> = held.iter().filter(|held| held.line() == line).map(Self::claim).collect();
                if !claims.is_empty() {
                    // leases that can't be given back run out by themselves
                    let release = far.leases().release_many(&claims, &state.names.channel);
                    let _ = far.call_many(&engine, claims.len(), release).await;
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
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (engine, rest) = (Arc::clone(&self.engine), self.rest());
        let held = Self { engine, at: self.at.clone(), filled: true, ..*self };
        let shift = self.engine.work.begin();
        runtime.spawn(async move {
            let _shift = shift;
            if let Some(far) = &held.engine.far {
                held.release(far, rest).await;
            }
        });
    }
}
