//! The conformance suite over every backend and wrapper: one test for each row and case.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use cache_core::CacheService;
use cache_core::memory::{LocalMemory, Memory};
use cache_core::testkit::{Chaos, Subject};
use cache_memcached::testkit::Server as MemcachedServer;
use cache_redis::testkit::{Cluster, Server};
use cache_strata::{Memcached, Moka, Redis, Tiered, Tracking};
use libtest_mimic::{Arguments, Failed, Trial};
use strata_tests::allowed::Allowed;
use strata_tests::audit::Audit;
use tokio::runtime::Runtime;

/// The stores under test. A row is a name and a subject; its cases show as `name::subject::case`.
type Rows = Vec<(&'static str, Subject)>;

fn embedded() -> Rows {
    let (memory, moka) = (Memory::new(), Moka::new());
    vec![
        ("memory", Subject::new(memory.clone()).with_second(memory).with_local(|b| Arc::new(LocalMemory::new(b)))),
        // a small buffer, so that the slow listener overflows it
        ("arc_memory", Subject::new(shared(Memory::builder().buffer(1000).build()))),
        ("chaos_memory", Subject::new(Chaos::new(Memory::new()))),
        (
            "moka",
            Subject::new(moka.clone()).with_second(moka).with_local(|b| Arc::new(Moka::builder().bytes(b).build())),
        ),
        ("arc_moka", Subject::new(shared(Moka::new()))),
    ]
}

/// What the rows connect to: a deadline that a busy machine keeps.
fn url(server: &Server) -> String {
    server.patient_url()
}

async fn redis(server: &Server) -> Result<Rows> {
    let audit = Audit::connect(&server.url()).await?;
    let audited = |subject: Subject| {
        let audit = audit.clone();
        subject.with_audit(move |id| Box::pin(audit.clone().every_key_has_a_ttl(id)))
    };
    let connect = || Redis::connect(url(server));
    let resp2 = Redis::builder().url(url(server)).resp2();
    Ok(vec![
        ("redis", audited(Subject::new(connect().await?).with_second(connect().await?))),
        ("arc_redis", audited(Subject::new(shared(connect().await?)))),
        ("resp2_redis", audited(Subject::new(resp2.connect().await?).with_second(connect().await?))),
        ("chaos_redis", audited(Subject::new(Chaos::new(connect().await?)))),
    ])
}

/// A server that says what others write, alone and under the engine.
async fn tracked(server: &Server, broadcasts: bool) -> Result<Rows> {
    let connect = async |tracking| Redis::builder().url(url(server)).tracking(tracking).connect().await;
    let handles = |tiered: Tiered| Subject::new(tiered.clone()).with_second(tiered);
    let build = async |tracking| {
        anyhow::Ok(handles(Tiered::builder().near(Moka::new()).far(connect(tracking).await?).build().await?))
    };
    let (bcast, reads) = (Tracking::Bcast, Tracking::Reads);
    let mut rows = vec![
        ("reads_redis", Subject::new(connect(reads).await?).with_second(connect(reads).await?)),
        ("tiered_moka_reads_redis", build(reads).await?),
    ];
    if broadcasts {
        rows.push(("bcast_redis", Subject::new(connect(bcast).await?).with_second(connect(bcast).await?)));
        rows.push(("tiered_moka_bcast_redis", build(bcast).await?));
    }
    Ok(rows)
}

/// The engine over each pair of stores. The second handle is a clone: another process may lag by the bound.
async fn tiered(server: &Server) -> Result<Rows> {
    let handles = |tiered: Tiered| Subject::new(tiered.clone()).with_second(tiered);
    let local = || LocalMemory::new(64 << 20);
    let connect = || Redis::connect(url(server));
    let build = Tiered::builder;
    Ok(vec![
        ("tiered_memory", handles(build().near(local()).build().await?)),
        ("tiered_moka", handles(build().near(Moka::new()).build().await?)),
        ("tiered_memory_memory", handles(build().near(local()).far(Memory::new()).build().await?)),
        ("tiered_moka_memory", handles(build().near(Moka::new()).far(Memory::new()).build().await?)),
        ("tiered_moka_redis", handles(build().near(Moka::new()).far(connect().await?).build().await?)),
        ("tiered_memory_redis", handles(build().near(local()).far(connect().await?).build().await?)),
        ("tiered_redis", handles(build().far(connect().await?).build().await?)),
        ("arc_tiered_moka_redis", Subject::new(shared(build().near(Moka::new()).far(connect().await?).build().await?))),
        ("arc_tiered_moka_memory", Subject::new(shared(build().near(Moka::new()).far(Memory::new()).build().await?))),
    ])
}

/// A cluster, alone and under the engine with a line of changes for each of some buckets.
async fn cluster(cluster: &Cluster) -> Result<Rows> {
    let connect = || Redis::connect(cluster.patient_url());
    let tiered = Tiered::builder().near(Moka::new()).far(connect().await?).buckets(16).build().await?;
    Ok(vec![
        ("cluster_redis", Subject::new(connect().await?).with_second(connect().await?)),
        ("tiered_moka_cluster", Subject::new(tiered.clone()).with_second(tiered)),
    ])
}

/// A memcached, alone and under an engine that polls.
async fn memcached(server: &MemcachedServer) -> Result<Rows> {
    let connect = || Memcached::connect(server.patient_url());
    let tiered = Tiered::builder().near(Moka::new()).far(connect().await?).polling().build().await?;
    Ok(vec![
        ("memcached", Subject::new(connect().await?).with_second(connect().await?)),
        ("arc_memcached", Subject::new(shared(connect().await?))),
        ("chaos_memcached", Subject::new(Chaos::new(connect().await?))),
        ("tiered_moka_memcached", Subject::new(tiered.clone()).with_second(tiered)),
    ])
}

fn shared(store: impl CacheService) -> Arc<dyn CacheService> {
    Arc::new(store)
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let server = Server::spawn().context("the rows on Redis need a redis-server")?;
    let make = server.make()?;
    // what came before sharded channels, and what forms clusters another way, has no such rows
    let clusters = make.release() >= (7, 0) && make.name != "dragonfly";
    let nodes = if clusters { Some(Cluster::spawn().context("starting a cluster")?) } else { None };
    let mut rows = runtime.block_on(async { embedded() });
    rows.extend(runtime.block_on(redis(&server)).context("connecting to the redis-server")?);
    rows.extend(runtime.block_on(tiered(&server)).context("building tiered caches")?);
    if make.release() >= (6, 0) {
        let broadcasts = make.name != "dragonfly";
        rows.extend(runtime.block_on(tracked(&server, broadcasts)).context("tracking keys")?);
    }
    if let Some(nodes) = &nodes {
        rows.extend(runtime.block_on(cluster(nodes)).context("connecting to the cluster")?);
    }

    let other = MemcachedServer::spawn().context("the rows on memcached need a memcached")?;
    rows.extend(runtime.block_on(memcached(&other)).context("connecting to the memcached")?);

    let mut ignored = BTreeMap::new();
    let mut tests = Vec::new();
    for (row, subject) in &rows {
        for trial in subject.trials() {
            let name = format!("{row}::{}", trial.name());
            let reason = trial.ignored();
            if let Some(reason) = reason {
                ignored.insert(name.clone(), reason);
            }
            let runtime = Arc::clone(&runtime);
            let test = Trial::test(name, move || runtime.block_on(trial.run()).map_err(Failed::from));
            tests.push(test.with_ignored_flag(reason.is_some()));
        }
    }
    if !arguments.list {
        // the harness has no place for a reason
        ignored.iter().for_each(|(name, reason)| println!("{name} can't run: {reason}"));
    }
    let names = rows.iter().map(|(row, _)| (*row).to_owned()).collect();
    tests.push(Trial::test("driver::ignored_cases_are_the_allowed_ones", move || {
        let faults =
            Allowed::parse(include_str!("allowed_ignored.txt"))?.faults(&ignored.into_keys().collect(), &names);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
    }));
    Ok(libtest_mimic::run(&arguments, tests).exit_code())
}
