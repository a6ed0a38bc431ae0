//! [`SessionStore`] of a [`Memory`].

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::memory::Memory;
use crate::memory::objects::Object;
use crate::memory::state::State;
use crate::recipe::session::{Held, SessionStore, Times};
use crate::{Result, Tick};

/// Bytes counted for a session beside its owner and payload: name, times, slot.
const SLOT: usize = 160;

/// The sessions of one place.
#[derive(Default)]
struct Place {
    sessions: HashMap<Box<str>, Kept>,
    bytes: usize,
}

struct Kept {
    owner: Box<str>,
    /// For those who ask.
    times: Times,
    /// The same for the store, by the clock that is never set.
    expires: Tick,
    ends: Tick,
    payload: Bytes,
}

impl Object for Place {
    fn weight(&self) -> usize {
        self.bytes + self.sessions.len() * SLOT
    }
}

impl Place {
    fn insert(&mut self, name: &str, kept: Kept) {
        self.bytes += kept.bytes();
        self.sessions.insert(name.into(), kept);
    }

    fn remove(&mut self, name: &str) -> Option<Kept> {
        let kept = self.sessions.remove(name)?;
        self.bytes -= kept.bytes();
        Some(kept)
    }

    fn trim(&mut self, now: Tick) {
        self.sessions.retain(|_, kept| {
            if kept.expires <= now {
                self.bytes -= kept.bytes();
            }
            kept.expires > now
        });
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.owner.len() + self.payload.len()
    }

    fn prolong(&mut self, state: &State, idle_ms: u64) {
        self.expires = (state.now() + Duration::from_millis(idle_ms)).min(self.ends);
        self.times.expires = state.unix_ms().saturating_add(idle_ms).min(self.times.ends);
    }

    fn held(&self) -> Held {
        Held { times: self.times, owner: self.owner.to_string(), payload: self.payload.clone() }
    }
}

/// Changes the sessions of a place, those that have ended dropped before.
fn change<T>(state: &mut State, place: &str, body: impl FnOnce(&mut Place, &State) -> Result<T>) -> Result<T> {
    let mut held = state.take_object::<Place>(place)?.map(|(held, _)| held).unwrap_or_default();
    held.trim(state.now());
    let result = body(&mut held, state);
    if let Some(last) = held.sessions.values().map(|kept| kept.expires).max() {
        state.put_object(place, held, last);
    }
    result
}

#[async_trait]
impl SessionStore for Memory {
    async fn open(
        &self,
        place: &str,
        name: &str,
        owner: &str,
        payload: Bytes,
        idle_ms: u64,
        absolute_ms: u64,
    ) -> Result<()> {
        self.run("open", |state| {
            change(state, place, |held, state| {
                state.fits(held.weight() + payload.len() + owner.len() + SLOT)?;
                let (now, created) = (state.now(), state.unix_ms());
                let times = Times { created, expires: created, ends: created.saturating_add(absolute_ms) };
                let ends = now + Duration::from_millis(absolute_ms);
                let mut kept = Kept { owner: owner.into(), times, expires: now, ends, payload };
                kept.prolong(state, idle_ms);
                held.insert(name, kept);
                Ok(())
            })
        })
    }

    async fn look(&self, place: &str, name: &str) -> Result<Option<Held>> {
        self.run("look", |state| {
            let now = state.now();
            let Some(held) = state.object::<Place>(place)? else { return Ok(None) };
            Ok(held.sessions.get(name).filter(|kept| kept.expires > now).map(Kept::held))
        })
    }

    async fn touch(&self, place: &str, name: &str, idle_ms: u64) -> Result<Option<Held>> {
        self.run("touch", |state| {
            change(state, place, |held, state| {
                let Some(kept) = held.sessions.get_mut(name) else { return Ok(None) };
                kept.prolong(state, idle_ms);
                Ok(Some(kept.held()))
            })
        })
    }

    async fn save(&self, place: &str, name: &str, payload: Bytes, idle_ms: u64) -> Result<bool> {
        self.run("save", |state| {
            change(state, place, |held, state| {
                if !held.sessions.contains_key(name) {
                    return Ok(false);
                }
                state.fits(held.weight() + payload.len())?;
                let Some(mut kept) = held.remove(name) else { return Ok(false) };
                kept.payload = payload;
                kept.prolong(state, idle_ms);
                held.insert(name, kept);
                Ok(true)
            })
        })
    }

    async fn rename(&self, place: &str, name: &str, to: &str, idle_ms: u64) -> Result<bool> {
        self.run("rename", |state| {
            change(state, place, |held, state| {
                let Some(mut kept) = held.remove(name) else { return Ok(false) };
                kept.prolong(state, idle_ms);
                held.insert(to, kept);
                Ok(true)
            })
        })
    }

    async fn end(&self, place: &str, name: &str) -> Result<bool> {
        self.run("end", |state| change(state, place, |held, _| Ok(held.remove(name).is_some())))
    }

    async fn end_all(&self, place: &str, except: Option<&str>) -> Result<u64> {
        self.run("end_all", |state| {
            change(state, place, |held, _| {
                let kept = except.and_then(|name| Some((name, held.remove(name)?)));
                let ended = held.sessions.len() as u64;
                *held = Place::default();
                if let Some((name, kept)) = kept {
                    held.insert(name, kept);
                }
                Ok(ended)
            })
        })
    }

    async fn list(&self, place: &str) -> Result<Vec<(String, Held)>> {
        self.run("list", |state| {
            change(state, place, |held, _| {
                let mut all: Vec<_> = held.sessions.iter().collect();
                all.sort_by_key(|(name, kept)| (kept.expires, *name));
                Ok(all.into_iter().map(|(name, kept)| (name.to_string(), kept.held())).collect())
            })
        })
    }
}

#[cfg(test)]
mod tests;
