//! The suite of each recipe over every store that has it: embedded, a server, a cluster.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use cache_core::memory::Memory;
use cache_core::recipe::counter::CounterStore;
use cache_core::recipe::leaderboard::BoardStore;
use cache_core::recipe::pubsub::PubSubStore;
use cache_core::recipe::session::SessionStore;
use cache_core::recipe::value::ValueStore;
use cache_core::testkit::recipe::{Case, counter, leaderboard, limit, lock, pubsub, session, value};
use cache_redis::testkit::{Cluster, Server};
use cache_strata::Redis;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// The stores: a row each.
struct Stores {
    memory: Memory,
    redis: Redis,
    cluster: Redis,
}

/// The tests of one recipe over one store, as `row::recipe::case`.
fn trials<S: ?Sized + Send + Sync + 'static>(
    runtime: &Arc<Runtime>,
    row: &str,
    recipe: &str,
    cases: &'static [Case<S>],
    store: &Arc<S>,
) -> Vec<Trial> {
    let trial = |case: &'static Case<S>| {
        let (runtime, store) = (Arc::clone(runtime), Arc::clone(store));
        Trial::test(format!("{row}::{recipe}::{}", case.name), move || {
            runtime.block_on(case.run(store)).map_err(|fault| Failed::from(format!("{}: {fault}", case.promise)))
        })
    };
    cases.iter().map(trial).collect()
}

/// The tests of a recipe over every store.
macro_rules! recipe {
    ($tests:ident, $runtime:expr, $stores:expr, $name:literal: $cases:path, $store:ty) => {
        let memory: Arc<$store> = Arc::new($stores.memory.clone());
        $tests.extend(trials($runtime, "memory", $name, $cases, &memory));
        let redis: Arc<$store> = Arc::new($stores.redis.clone());
        $tests.extend(trials($runtime, "redis", $name, $cases, &redis));
        let cluster: Arc<$store> = Arc::new($stores.cluster.clone());
        $tests.extend(trials($runtime, "cluster", $name, $cases, &cluster));
    };
}

fn tests(runtime: &Arc<Runtime>, stores: &Stores) -> Vec<Trial> {
    let mut tests = Vec::new();
    recipe!(tests, runtime, stores, "value": value::CASES, dyn ValueStore);
    recipe!(tests, runtime, stores, "counter": counter::CASES, dyn CounterStore);
    recipe!(tests, runtime, stores, "limit": limit::CASES, dyn limit::Subject);
    recipe!(tests, runtime, stores, "lock": lock::CASES, dyn lock::Subject);
    recipe!(tests, runtime, stores, "leaderboard": leaderboard::CASES, dyn BoardStore);
    recipe!(tests, runtime, stores, "session": session::CASES, dyn SessionStore);
    recipe!(tests, runtime, stores, "pubsub": pubsub::CASES, dyn PubSubStore);
    tests
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let server = Server::spawn().context("the rows on Redis need a redis-server")?;
    let nodes = Cluster::spawn().context("starting a cluster")?;
    let stores = runtime.block_on(async {
        anyhow::Ok(Stores {
            memory: Memory::new(),
            redis: Redis::connect(server.patient_url()).await?,
            cluster: Redis::connect(nodes.patient_url()).await?,
        })
    })?;
    Ok(libtest_mimic::run(&arguments, tests(&runtime, &stores)).exit_code())
}
