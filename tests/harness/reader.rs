//! What a node reads.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cache_strata::{Answer, Freshness, Loaded, Tier};

use crate::keys::{Kind, kind, tag};
use crate::node::Node;
use crate::record::{Op, Record, Source};

/// What is loaded and put.
pub(crate) fn row(key: u16, version: u64) -> Loaded<u64> {
    let row = Loaded::value(version);
    match kind(key) {
        Kind::Tagged(group) => row.tag(&tag(group)),
        Kind::Put => row.row(u32::try_from(version).unwrap_or(u32::MAX)),
        Kind::Plain | Kind::Guarded => row,
    }
}

type Rows = Vec<(u16, Result<Loaded<u64>, redis::RedisError>)>;
type Loading = Pin<Box<dyn Future<Output = Result<Rows, redis::RedisError>> + Send>>;

impl Node {
    /// Reads until the end.
    pub(crate) async fn read_loop(self: Arc<Self>, begun: cache_core::Tick, mut rng: fastrand::Rng) {
        let end = Duration::from_secs_f64(self.settings.seconds);
        while self.clock.now().since(begun) < end {
            // some hot keys for the races, many sparse ones on which a lost message shows
            let key = if rng.u8(..) < 160 { rng.u16(..self.settings.hot) } else { self.sparse(&mut rng) };
            let slow = Duration::from_millis(rng.u64(..=self.settings.slow_ms));
            match rng.u8(..) {
                0..16 => {
                    for _ in 0..20 {
                        let slow = Duration::from_millis(rng.u64(..=self.settings.slow_ms));
                        self.read(key, Op::Read, slow).await;
                    }
                }
                16..32 => {
                    let mut keys = vec![key];
                    keys.extend((0..rng.usize(1..6)).map(|_| rng.u16(..self.settings.keys())));
                    self.read_many(&keys, slow).await;
                }
                _ => self.read(key, Op::Read, slow).await,
            }
            tokio::time::sleep(Duration::from_micros(rng.u64(..1500))).await;
        }
    }

    pub(crate) fn sparse(&self, rng: &mut fastrand::Rng) -> u16 {
        self.settings.hot + rng.u16(..self.settings.sparse)
    }

    /// Reads a key; a load pauses for `slow` before the origin is read, and half as long after it.
    pub(crate) async fn read(self: &Arc<Self>, key: u16, op: Op, slow: Duration) {
        let invoked = self.clock.now().as_nanos();
        let node = Arc::clone(self);
        let load = move || async move { Ok::<_, redis::RedisError>(row(key, node.load(&[key], slow).await?[0])) };
        let Ok(answer) = self.cache.load_with(&key, load).await else { return };
        let returned = self.clock.now().as_nanos();
        self.note_read(op, key, &answer, invoked, returned);
    }

    /// Reads some keys in one call.
    async fn read_many(self: &Arc<Self>, keys: &[u16], slow: Duration) {
        let invoked = self.clock.now().as_nanos();
        let node = Arc::clone(self);
        let load = move |keys: Vec<u16>| -> Loading {
            let node = Arc::clone(&node);
            Box::pin(async move {
                let versions = node.load(&keys, slow).await?;
                Ok(keys.into_iter().zip(versions).map(|(key, version)| (key, Ok(row(key, version)))).collect())
            })
        };
        let answers = self.cache.load_many_with(keys, load).await;
        let returned = self.clock.now().as_nanos();
        for (key, answer) in keys.iter().zip(answers) {
            if let Ok(answer) = answer {
                self.note_read(Op::Read, *key, &answer, invoked, returned);
            }
        }
    }

    /// Reads the origin, as a loader does.
    async fn load(&self, keys: &[u16], slow: Duration) -> Result<Vec<u64>, redis::RedisError> {
        let invoked = self.clock.now().as_nanos();
        tokio::time::sleep(slow).await;
        let versions = self.origin.read(keys).await?;
        tokio::time::sleep(slow / 2).await;
        let returned = self.clock.now().as_nanos();
        for (key, version) in keys.iter().zip(&versions) {
            let version = *version;
            self.note(Record { op: Op::Load, source: Source::Origin, key: *key, version, invoked, returned });
        }
        Ok(versions)
    }

    fn note_read(&self, op: Op, key: u16, answer: &Answer<u64>, invoked: u64, returned: u64) {
        let source = match (answer.tier, answer.freshness) {
            (_, Freshness::Stale(_)) => Source::Unconfirmed,
            (Tier::Near, _) => Source::Near,
            (Tier::Far, _) => Source::Far,
            (Tier::Origin, _) => Source::Origin,
        };
        if let Some(version) = &answer.value {
            self.note(Record { op, source, key, version: **version, invoked, returned });
        }
    }
}
