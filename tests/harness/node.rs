//! A node of a history: a process with a cache, readers and a writer, that writes down what it sees.

use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use cache_core::testkit::chaos::Chaos;
use cache_core::{Clock, codec::Postcard};
use cache_strata::{Cache, Moka, Policy, Redis, Tiered};

use crate::origin::Origin;
use crate::record::{Op, Record, Source, write_all};
use crate::settings::{Settings, VARIABLE};

pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) origin: Origin,
    pub(crate) cache: Cache<u64, u16>,
    chaos: Option<Chaos<Redis>>,
    pub(crate) clock: Clock,
    records: Mutex<Vec<Record>>,
}

pub(crate) fn run() -> Result<()> {
    let settings: Settings = serde_json::from_str(&std::env::var(VARIABLE)?)?;
    break_rule(settings.mutation.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let node = Arc::new(Node::connect(settings).await?);
        println!("ready");
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        if let Some(chaos) = node.chaos.clone() {
            std::thread::spawn(move || {
                std::io::stdin().lock().lines().map_while(Result::ok).for_each(|harm| obey(&chaos, &harm));
            });
        }
        node.play().await?;
        write_all(&node.settings.records, &node.records.lock().unwrap_or_else(PoisonError::into_inner))?;
        println!("done {:?}", node.cache.tiered().metrics());
        anyhow::Ok(())
    })
}

/// Does what the controller says to the connection with the far store.
fn obey(chaos: &Chaos<Redis>, line: &str) {
    let (harm, argument) = line.split_once(' ').unwrap_or((line, ""));
    let on = argument == "on";
    match harm {
        "part" => chaos.partition(on),
        "mute" => chaos.mute(on),
        "hang" if on => chaos.hang(),
        "hang" => chaos.unhang(),
        "slow" => chaos.slow_replies(Duration::from_millis(argument.parse().unwrap_or_default())),
        _ => {}
    }
}

#[cfg(feature = "mutate")]
fn break_rule(name: Option<&str>) -> Result<()> {
    use cache_tiered::coherence::mutate::{Mutation, set};
    let Some(name) = name else { return Ok(()) };
    let found = Mutation::ALL.iter().find(|m| format!("{m:?}") == name);
    set(Some(*found.with_context(|| format!("no mutation {name}"))?));
    Ok(())
}

#[cfg(not(feature = "mutate"))]
fn break_rule(name: Option<&str>) -> Result<()> {
    anyhow::ensure!(name.is_none(), "mutations need a build with the feature `mutate`");
    Ok(())
}

impl Node {
    async fn connect(settings: Settings) -> Result<Self> {
        let origin = Origin::connect(&settings.origin).await.context("the origin")?;
        let far = Redis::connect(&settings.far).await.context("the far store")?;
        let near = Moka::builder().bytes(16 << 20).build();
        let chaos = (settings.harmed || settings.late_ms > 0).then(|| Chaos::new(far.clone()));
        let tiers = Tiered::builder().near(near);
        let tiers = match &chaos {
            None => tiers.far(far),
            Some(chaos) => {
                chaos.scatter_replies(Duration::from_millis(settings.late_ms));
                tiers.far(chaos.clone())
            }
        };
        let tiered = tiers
            .namespace("history")
            .buckets(settings.buckets)
            .bound(settings.bound())
            .outage(settings.outage())
            .lease(Duration::from_millis(1000))
            .build()
            .await?;
        let policy = Policy::minutes(2).hard_timeout(Duration::from_secs(5));
        let cache = tiered.cache("counters").keyed::<u16>().codec(Postcard).policy(policy).build()?;
        Ok(Self { settings, origin, cache, chaos, clock: Clock::system(), records: Mutex::new(Vec::new()) })
    }

    /// Reads and writes until the end, then reads everything once more in the quiet.
    async fn play(self: &Arc<Self>) -> Result<()> {
        let begun = self.clock.now();
        let mut tasks = tokio::task::JoinSet::new();
        for reader in 0..self.settings.readers {
            let node = Arc::clone(self);
            let seed = self.settings.seed ^ u64::from(reader) << 32 ^ u64::from(self.settings.process) << 48;
            tasks.spawn(node.read_loop(begun, fastrand::Rng::with_seed(seed)));
        }
        let node = Arc::clone(self);
        let seed = self.settings.seed ^ 0xabcd ^ u64::from(self.settings.process) << 48;
        tasks.spawn(async move { node.write_loop(begun, fastrand::Rng::with_seed(seed)).await });
        while let Some(done) = tasks.join_next().await {
            done?;
        }
        // past every bound, and past the recovery of what was not acknowledged
        let settle = self.settings.bound() * 2 + self.settings.outage() + Duration::from_secs(1);
        tokio::time::sleep(settle).await;
        for key in 0..self.settings.keys() {
            self.read(key, Op::Last, Duration::ZERO).await;
            let version = self.origin.read(&[key]).await?[0];
            let now = self.clock.now().as_nanos();
            self.note(Record { op: Op::Truth, source: Source::Origin, key, version, invoked: now, returned: now });
        }
        Ok(())
    }

    pub(crate) fn note(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}
