//! What every process does: read, write, and keep the book.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cache_strata::{Answer, Cache, Freshness, Moka, Policy, Tier, Tiered, codec};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::catalogue::{Catalogue, PROBE, PRODUCTS, Product, Writer};
use crate::ledger::{Ack, Ledger, Page, now};
use crate::workload::Workload;

/// One near hit in so many is timed.
pub(crate) const SAMPLE: u64 = 64;
/// How often the other process looks at the probe.
pub(crate) const LOOK: Duration = Duration::from_micros(200);

const REST: Duration = Duration::from_millis(10);
const PROBING: Duration = Duration::from_millis(50);
/// How long the load of the stampede takes beside its query, so that everybody arrives while it runs.
const SLOW: Duration = Duration::from_millis(100);

/// What a process is told at its start.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// 0 is the process that was started by hand.
    pub(crate) index: usize,
    pub(crate) tasks: usize,
    pub(crate) writers: usize,
    pub(crate) near_bytes: u64,
    pub(crate) data: PathBuf,
    pub(crate) trace: Option<PathBuf>,
    /// The far store's url, which may hold a password.
    pub(crate) far: Option<String>,
    pub(crate) namespace: String,
    /// When the book begins.
    pub(crate) start: u64,
    /// The wall clock then, in ms.
    pub(crate) start_ms: u64,
}

/// When things happen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) stampede: u64,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// What a process found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Reads by tier: near, far, origin.
    pub(crate) reads: [u64; 3],
    /// Latencies in ns and how often, by tier; a sample for near.
    pub(crate) latencies: [Vec<(u64, u64)>; 3],
    pub(crate) failed: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) queries: u64,
    pub(crate) stampede_loads: u64,
    pub(crate) metrics: BTreeMap<String, u64>,
    pub(crate) page: Page,
    /// The versions of the probe, each with the time when it was first read here.
    pub(crate) probes: Vec<(u32, u64)>,
    /// Changed products read at the end, and how many were not as the database has them.
    pub(crate) audit: (u64, u64),
    pub(crate) drained: bool,
}

/// Latencies of one tier.
pub(crate) type Latencies = Histogram<u64>;

/// An empty histogram: up to a minute, two digits.
pub(crate) fn latencies() -> Result<Latencies> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 2)?)
}

/// What one task saw.
struct Seen {
    reads: [u64; 3],
    latencies: [Latencies; 3],
    failed: u64,
    first_error: Option<String>,
}

/// A process at work. It lives as long as the process, so that tasks and loaders just refer to it.
#[derive(Debug)]
pub(crate) struct Shop {
    setup_index: usize,
    setup_start_ms: u64,
    tasks: usize,
    writers: usize,
    tiers: Tiered,
    products: Cache<Product, u32>,
    slow: Cache<Product, u32>,
    catalogue: Catalogue,
    workload: Workload,
    ledger: Ledger,
    stop: AtomicBool,
    done: AtomicU64,
}

impl Shop {
    /// Opens everything.
    pub(crate) async fn open(setup: Setup) -> Result<&'static Self> {
        let near = Moka::builder().bytes(setup.near_bytes).build();
        let mut tiers = Tiered::builder().near(near).namespace(setup.namespace);
        if let Some(url) = &setup.far {
            // an application has the feature `redis` on and says cache_strata::connect("tiered:redis://..."); here the
            // backend comes from the examples' own dependencies, so that the tour needs no feature
            tiers = tiers.far(cache_redis::Redis::connect(url).await.context("connecting to the far store")?);
        }
        let tiers = tiers.build().await?;
        let products = tiers.cache("products").keyed().codec(codec::Postcard).schema("product v1");
        let slow = tiers.cache("slow").keyed().codec(codec::Postcard).schema("product v1");
        let shop = Self {
            setup_index: setup.index,
            setup_start_ms: setup.start_ms,
            tasks: setup.tasks,
            writers: setup.writers,
            products: products.policy(Policy::minutes(5)).build()?,
            slow: slow.policy(Policy::minutes(5)).build()?,
            tiers,
            catalogue: Catalogue::open(&setup.data),
            workload: match &setup.trace {
                Some(path) => Workload::trace(path, PRODUCTS, setup.index)?,
                None => Workload::zipf(PRODUCTS, setup.index),
            },
            ledger: Ledger::new(setup.start),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
        };
        Ok(Box::leak(Box::new(shop)))
    }

    /// What is read, for people.
    pub(crate) fn workload(&self) -> &str {
        &self.workload.what
    }

    /// D.
    pub(crate) fn bound(&self) -> Duration {
        self.tiers.bound()
    }

    /// How many reads were answered so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The product as the cache has it, from whatever tier; the book is kept.
    async fn read(&'static self, id: u32) -> Result<(Answer<Product>, u64)> {
        let began = self.ledger.begin(id);
        let answer = self.products.load_with(&id, async move || self.load(id).await).await?;
        let version = answer.value.as_ref().map_or(0, |product| product.version);
        self.ledger.end(id, began, version, matches!(answer.freshness, Freshness::Stale(_)));
        Ok((answer, began.at))
    }

    /// The loader.
    async fn load(&'static self, id: u32) -> Result<cache_strata::Loaded<Product>> {
        let product = self.catalogue.load(id).await?;
        let version = product.version;
        Ok(cache_strata::Loaded::value(product).row(version))
    }

    /// Many tasks of every process miss one key at the same moment. How many loads this process ran.
    pub(crate) async fn stampede(&'static self, at: u64) -> Result<u64> {
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let mut tasks = JoinSet::new();
        for _ in 0..self.tasks {
            tasks.spawn(async move {
                sleep_until(at).await;
                let load = async move || {
                    LOADS.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(SLOW).await;
                    self.catalogue.load(1).await
                };
                self.slow.get_or_load(&1, load).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(LOADS.load(Ordering::SeqCst))
    }

    /// The work: tasks that read, writers that change and invalidate, and the probe.
    pub(crate) async fn work(&'static self, times: Times) -> Result<Findings> {
        let stampede_loads = self.stampede(times.stampede).await?;
        sleep_until(times.begin).await;
        let (metrics, queries) = (self.tiers.metrics(), self.catalogue.queries());

        let mut readers = JoinSet::new();
        for _ in 0..self.tasks {
            readers.spawn(self.reader(times.end));
        }
        let mut writers = JoinSet::new();
        for _ in 0..self.writers {
            writers.spawn(self.writer(times.end, REST, || self.workload.any()));
        }
        let watch = if self.setup_index == 0 {
            writers.spawn(self.writer(times.end, PROBING, || PROBE));
            None
        } else {
            let runtime = tokio::runtime::Handle::current();
            Some(std::thread::spawn(move || self.watch(&runtime)))
        };

        let mut findings = Findings {
            reads: [0; 3],
            latencies: Default::default(),
            failed: 0,
            first_error: None,
            queries: 0,
            stampede_loads,
            metrics: BTreeMap::new(),
            page: Page::default(),
            probes: Vec::new(),
            audit: (0, 0),
            drained: false,
        };
        let mut merged = [latencies()?, latencies()?, latencies()?];
        while let Some(seen) = readers.join_next().await {
            let seen = seen??;
            for ((sum, merged), (reads, latencies)) in
                findings.reads.iter_mut().zip(&mut merged).zip(seen.reads.iter().zip(&seen.latencies))
            {
                *sum += reads;
                merged.add(latencies)?;
            }
            findings.failed += seen.failed;
            findings.first_error = findings.first_error.or(seen.first_error);
        }
        while let Some(done) = writers.join_next().await {
            done??;
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watch) = watch {
            findings.probes = tokio::task::spawn_blocking(|| watch.join())
                .await?
                .map_err(|_| anyhow::anyhow!("the thread that watches the probe panicked"))??;
        }
        let counted = self.tiers.metrics().since(&metrics);
        findings.metrics = counted.iter().map(|(metric, n)| (metric.name().to_owned(), n)).collect();
        findings.queries = self.catalogue.queries() - queries;
        findings.latencies = merged
            .map(|tier| tier.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect());
        Ok(findings)
    }

    async fn reader(&'static self, end: u64) -> Result<Seen> {
        let latencies = [latencies()?, latencies()?, latencies()?];
        let mut seen = Seen { reads: [0; 3], latencies, failed: 0, first_error: None };
        while now() < end {
            let mut count = 0;
            for id in self.workload.chunk() {
                count += 1;
                match self.read(id).await {
                    Ok((answer, began)) => {
                        let tier = answer.tier as usize;
                        seen.reads[tier] += 1;
                        // timing every near hit would be a good part of its time
                        if answer.tier != Tier::Near || seen.reads[tier].is_multiple_of(SAMPLE) {
                            seen.latencies[tier].saturating_record(now().saturating_sub(began));
                        }
                    }
                    Err(error) => {
                        seen.failed += 1;
                        seen.first_error.get_or_insert_with(|| format!("{error:#}"));
                    }
                }
            }
            self.done.fetch_add(count, Ordering::Relaxed);
            // near hits never wait, so nobody else would get a turn
            tokio::task::yield_now().await;
        }
        Ok(seen)
    }

    /// Changes products in the database, then invalidates them.
    async fn writer(&'static self, end: u64, rest: Duration, pick: impl Fn() -> u32 + Send + 'static) -> Result<()> {
        let mut writer = self.catalogue.writer()?;
        while now() < end {
            let id = pick();
            let version;
            (writer, version) = change(writer, id).await?;
            let called = now();
            // unacknowledged: invalid here, and retried for the others; only what was acknowledged is promised
            if self.products.invalidate(&id).await.is_ok() {
                self.ledger.acknowledge(Ack { id, version, called, returned: now() })?;
            }
            tokio::time::sleep(rest).await;
        }
        Ok(())
    }

    /// Looks at the probe again and again, from a thread of its own so that busy tasks don't delay it.
    fn watch(&'static self, runtime: &tokio::runtime::Handle) -> Result<Vec<(u32, u64)>> {
        let mut versions: Vec<(u32, u64)> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let (answer, began) = runtime.block_on(self.read(PROBE))?;
            if versions.last().is_none_or(|(version, _)| *version < answer.row) {
                versions.push((answer.row, began));
            }
            std::thread::sleep(LOOK);
        }
        Ok(versions)
    }

    /// Reads everything that was changed once more, when nobody writes any more and the bound is over: now the cache
    /// must have what the database has. Completes and closes the book.
    pub(crate) async fn audit(&'static self, mut findings: Findings) -> Result<Findings> {
        let changed = tokio::task::spawn_blocking(|| self.catalogue.changed(self.setup_start_ms)).await??;
        for (id, version) in changed {
            let (answer, _) = self.read(id).await?;
            findings.audit.0 += 1;
            findings.audit.1 += u64::from(answer.row != version);
        }
        findings.page = self.ledger.page();
        findings.drained = self.tiers.close_within(Duration::from_secs(5)).await;
        Ok(findings)
    }
}

async fn change(mut writer: Writer, id: u32) -> Result<(Writer, u32)> {
    let change = move || {
        let now_ms = cache_strata::core::Clock::system().unix_ms();
        writer.change(id, now_ms).map(|version| (writer, version))
    };
    tokio::task::spawn_blocking(change).await?
}

async fn sleep_until(at: u64) {
    tokio::time::sleep(Duration::from_nanos(at.saturating_sub(now()))).await;
}
