//! What a node writes, and how it tells the others.

use std::time::Duration;

use cache_core::Result;
use cache_strata::Update;

use crate::keys::{Kind, kind, owner, tag};
use crate::node::Node;
use crate::reader::row;
use crate::record::{Op, Record, Source};

/// Longer than any transaction of a node that is not stopped in it.
const HOLD: Duration = Duration::from_secs(2);

/// How the others are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Invalidate,
    InvalidateMany,
    Guard,
    Tag(u16),
    Set,
    SetVersioned,
    Update,
}

impl Node {
    /// Writes until the quiet tail, one write after another.
    pub(crate) async fn write_loop(&self, begun: cache_core::Tick, mut rng: fastrand::Rng) {
        let end = Duration::from_secs_f64(self.settings.seconds - self.settings.tail);
        while self.clock.now().since(begun) < end {
            let key = if rng.u8(..) < 200 { rng.u16(..self.settings.hot) } else { self.sparse(&mut rng) };
            let key = if self.may_write(key) { key } else { self.settings.hot - 3 };
            let (telling, keys) = self.choose(key, &mut rng);
            self.write(telling, &keys, &mut rng).await;
            tokio::time::sleep(Duration::from_millis(rng.u64(5..60))).await;
        }
    }

    fn may_write(&self, key: u16) -> bool {
        kind(key) != Kind::Put || owner(key, self.settings.nodes) == self.settings.process
    }

    fn choose(&self, key: u16, rng: &mut fastrand::Rng) -> (Telling, Vec<u16>) {
        let all = || 0..self.settings.keys();
        match (kind(key), rng.u8(..)) {
            (Kind::Plain, 200..) => {
                let mut keys = vec![key];
                keys.extend((0..rng.usize(1..5)).map(|_| rng.u16(all())).filter(|key| kind(*key) != Kind::Put));
                keys.sort_unstable();
                keys.dedup();
                (Telling::InvalidateMany, keys)
            }
            (Kind::Guarded, 150..) => (Telling::Guard, vec![key]),
            (Kind::Tagged(group), 180..) if self.settings.tags => {
                (Telling::Tag(group), all().filter(|key| kind(*key) == Kind::Tagged(group)).collect())
            }
            (Kind::Put, 64..128) => (Telling::Set, vec![key]),
            (Kind::Put, 128..192) => (Telling::SetVersioned, vec![key]),
            (Kind::Put, 192..) => (Telling::Update, vec![key]),
            _ => (Telling::Invalidate, vec![key]),
        }
    }

    /// Commits the next version of each key, tells the others, and notes how that ended.
    async fn write(&self, telling: Telling, keys: &[u16], rng: &mut fastrand::Rng) {
        let invoked = self.clock.now().as_nanos();
        let guarded: Vec<&u16> = keys.iter().collect();
        let guard = match telling {
            Telling::Guard => match self.cache.write_guard(&guarded, HOLD).await {
                Ok(guard) => Some(guard),
                // nothing is committed then
                Err(_) => return,
            },
            _ => None,
        };
        let Ok(versions) = self.origin.write(keys).await else { return };
        let op = match guard {
            Some(guard) => {
                tokio::time::sleep(Duration::from_millis(rng.u64(..5))).await;
                told(&guard.commit().await)
            }
            None => self.tell(telling, keys, &versions).await,
        };
        let returned = self.clock.now().as_nanos();
        for (key, version) in keys.iter().zip(versions) {
            self.note(Record { op, source: Source::Origin, key: *key, version, invoked, returned });
        }
    }

    async fn tell(&self, telling: Telling, keys: &[u16], versions: &[u64]) -> Op {
        let (key, version) = (keys[0], versions[0]);
        match telling {
            Telling::Invalidate | Telling::Guard => told(&self.cache.invalidate(&key).await),
            Telling::InvalidateMany => told(&self.cache.invalidate_many(&keys.iter().collect::<Vec<_>>()).await),
            Telling::Tag(group) => told(&self.cache.tiered().invalidate_tag(&tag(group)).await),
            Telling::Set => put(&self.cache.store(&key, row(key, version)).await),
            Telling::Update => {
                let updated = self.cache.update(&key, |_| Update::Store(row(key, version))).await;
                if updated.is_err() {
                    // it may have ended before it asked for anything, and the row is changed: as an application has to
                    let _ = self.cache.invalidate(&key).await;
                }
                put(&updated.map(drop))
            }
            Telling::SetVersioned => {
                let row_version = u32::try_from(version).unwrap_or(u32::MAX);
                // where a load was quicker it says no, which is heard as well
                put(&self.cache.set_versioned(&key, version, row_version).await.map(drop))
            }
        }
    }
}

fn told(done: &Result<()>) -> Op {
    if done.is_ok() { Op::Write } else { Op::Tried }
}

fn put(done: &Result<()>) -> Op {
    if done.is_ok() { Op::Write } else { Op::Loose }
}
