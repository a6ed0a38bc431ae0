//! The recipes beside their floors: the same script sent by the bare client on one connection, or for lock and limiter
//! the shortest script that does it at all; one task and 64. In the process, the recipes over `Memory`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_strata::codec::Raw;
use cache_strata::recipe::session::{Lifetime, SessionId};
use cache_strata::recipe::{Counters, Leaderboards, Limit, Limits, Locks, Sessions, Values};
use cache_strata::{Memory, Redis};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use redis::Script;
use redis::aio::MultiplexedConnection;
use strata_benches::{bare_redis, redis, runtime, server};
use tokio::runtime::Runtime;

const HOUR: Duration = Duration::from_secs(3600);
const MEMBERS: u32 = 1000;

macro_rules! lua {
    ($($part:literal)+) => {
        concat!($(include_str!(concat!("../cache-redis/src/lua/", $part, ".lua"))),+)
    };
}

/// Every recipe over one store.
#[derive(Clone)]
struct Kit {
    counters: Counters,
    values: Values<Bytes>,
    boards: Leaderboards,
    sessions: Sessions<Bytes>,
    session: Arc<SessionId>,
    limits: Limits,
    locks: Locks,
}

macro_rules! kit {
    ($store:expr) => {{
        let store = $store;
        let sessions = Sessions::new(store.clone(), Raw, Lifetime::default()).expect("sessions");
        let session = sessions.create(Some("ada"), &Bytes::from(vec![7; 200])).await.expect("a session");
        let kit = Kit {
            counters: Counters::new(store.clone(), HOUR).expect("counters"),
            values: Values::new(store.clone(), Raw, HOUR).expect("values"),
            boards: Leaderboards::new(store.clone(), HOUR).expect("boards"),
            sessions,
            session: Arc::new(session),
            limits: Limits::new(store.clone(), Limit::per_second(1_000_000)).expect("limits"),
            locks: Locks::new(store),
        };
        kit.fill().await;
        kit
    }};
}

impl Kit {
    async fn fill(&self) {
        for i in 0..MEMBERS {
            self.boards.add("board", &format!("member {i}"), f64::from(i)).await.expect("added");
        }
        self.counters.set("stock", i64::MAX / 2).await.expect("set");
        self.values.set("value", &Bytes::from_static(b"a")).await.expect("set");
    }

    /// Every recipe once, each under its name.
    fn measure(&self, runtime: &Runtime, group: &mut BenchmarkGroup<'_, WallTime>, tasks: u64, name: &str) {
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("counter/{name}"), move || {
            let kit = kit.clone();
            async move { assert!(kit.counters.deduct("stock", 1).await.expect("an answer").is_ok()) }
        });
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("value/{name}"), move || {
            let kit = kit.clone();
            let a = Bytes::from_static(b"a");
            async move { kit.values.compare_and_swap("value", Some(&a), &a).await.expect("an answer").expect("swapped") }
        });
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("board increment/{name}"), move || {
            let kit = kit.clone();
            async move { assert!(kit.boards.increment("board", "member 7", 1.0).await.expect("a score") > 7.0) }
        });
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("board top 10/{name}"), move || {
            let kit = kit.clone();
            async move { assert_eq!(kit.boards.top("board", 10).await.expect("members").len(), 10) }
        });
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("session touch/{name}"), move || {
            let kit = kit.clone();
            async move { assert!(kit.sessions.touch(&kit.session).await.expect("an answer").is_some()) }
        });
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("limit/{name}"), move || {
            let kit = kit.clone();
            async move { assert!(kit.limits.take("limit", 1).await.is_ok()) }
        });
        let kit = self.clone();
        bench(runtime, group, tasks, &format!("lock and unlock/{name}"), move || {
            let kit = kit.clone();
            async move {
                let key = format!("lock:{}", fastrand::u64(..));
                let guard = kit.locks.try_acquire(&key, HOUR).await.expect("an answer").expect("free");
                guard.release().await.expect("released");
            }
        });
    }
}

/// The same scripts, and arguments as our calls send them, on one bare connection.
fn floors(runtime: &Runtime, group: &mut BenchmarkGroup<'_, WallTime>, tasks: u64, bare: &MultiplexedConnection) {
    let hour = HOUR.as_millis().to_string();
    let script = |body: &str, keys: &[&str], args: &[&str]| {
        let script = Arc::new(Script::new(body));
        let (bare, keys, args) = (bare.clone(), owned(keys), owned(args));
        move || {
            let (script, mut bare) = (Arc::clone(&script), bare.clone());
            let (keys, args) = (Arc::clone(&keys), Arc::clone(&args));
            async move {
                let mut call = script.prepare_invoke();
                for key in keys.iter() {
                    call.key(key);
                }
                for arg in args.iter() {
                    call.arg(arg);
                }
                let _: redis::Value = call.invoke_async(&mut bare).await.expect("an answer");
            }
        }
    };
    let most = i64::MAX.to_string();
    let count = script(lua!("integer" "count"), &["stock"], &["-1", "1", &most, &hour, "0"]);
    bench(runtime, group, tasks, "counter/floor: the script", count);
    let swap = script(lua!("exchange"), &["value"], &["1", "a", "1", "a", &hour]);
    bench(runtime, group, tasks, "value/floor: the script", swap);
    let raise = script(lua!("board_raise"), &["board"], &["member 7", "1.0", &hour, "0"]);
    bench(runtime, group, tasks, "board increment/floor: the script", raise);
    let top = script(lua!("board" "board_ranked"), &["board"], &["1", "0", "10"]);
    bench(runtime, group, tasks, "board top 10/floor: the script", top);
    let (place, name, half) = ("floor:{0}", "0", (HOUR / 2).as_millis().to_string());
    let keys = [place, "floor:{0}:data"];
    let open = script(lua!("time" "sessions" "session_open"), &keys, &[name, "ada", &"x".repeat(200), &half, &hour]);
    runtime.block_on(open());
    let touch = script(lua!("time" "sessions" "session_touch"), &keys, &[name, &half]);
    bench(runtime, group, tasks, "session touch/floor: the script", touch);
    let window = "local n=redis.call('INCR',KEYS[1]) if n==1 then redis.call('PEXPIRE',KEYS[1],ARGV[1]) end return n";
    bench(runtime, group, tasks, "limit/floor: a fixed window", script(window, &["floor:limit"], &["1000"]));
    let bare = bare.clone();
    bench(runtime, group, tasks, "lock and unlock/floor: SET NX, DEL", move || {
        let mut bare = bare.clone();
        async move {
            let key = format!("floor:{}", fastrand::u64(..));
            let mut set = redis::cmd("SET");
            set.arg(&key).arg("token").arg("NX").arg("PX").arg(3_600_000);
            let _: redis::Value = set.query_async(&mut bare).await.expect("an answer");
            let _: u8 = redis::cmd("DEL").arg(&key).query_async(&mut bare).await.expect("an answer");
        }
    });
}

fn owned(texts: &[&str]) -> Arc<Vec<String>> {
    Arc::new(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// `call` in `tasks` tasks at once.
fn bench<F, Fut>(runtime: &Runtime, group: &mut BenchmarkGroup<'_, WallTime>, tasks: u64, name: &str, call: F)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    group.bench_function(name, |b| b.iter_custom(|n| runtime.block_on(spread(tasks, n, call.clone()))));
}

async fn spread<F, Fut>(tasks: u64, n: u64, call: F) -> Duration
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let call = call.clone();
        set.spawn(async move {
            for _ in 0..n.div_ceil(tasks) {
                call().await;
            }
        });
    }
    while set.join_next().await.is_some() {}
    begun.elapsed()
}

fn recipes(c: &mut Criterion) {
    let runtime = runtime();
    let server = server();
    let (bare, remote, embedded) = runtime.block_on(async {
        let store: Redis = redis(&server).await;
        (bare_redis(&server).await, kit!(store), kit!(Memory::new()))
    });
    for tasks in [1, 64] {
        let mut group = c.benchmark_group(format!("recipes/{tasks} tasks"));
        group.throughput(Throughput::Elements(1));
        floors(&runtime, &mut group, tasks, &bare);
        remote.measure(&runtime, &mut group, tasks, "Redis");
        embedded.measure(&runtime, &mut group, tasks, "Memory");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = recipes
}
criterion_main!(benches);
