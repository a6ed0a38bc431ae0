//! The recipes beside their floors: the same script sent by the bare client on one connection, or for lock and limiter
//! the shortest that does it at all; one task and 64. In the process, the recipes over `Memory`. Ends with a table.

mod server;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_strata::codec::Raw;
use cache_strata::recipe::session::{Lifetime, SessionId};
use cache_strata::recipe::{Counters, Leaderboards, Limit, Limits, Locks, Sessions, Topic, Values};
use cache_strata::{Memory, Redis};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use redis::Script;
use redis::aio::MultiplexedConnection;
use strata_benches::{bare_redis, redis, runtime, server};
use tokio::runtime::Runtime;

const HOUR: Duration = Duration::from_secs(3600);
const MEMBERS: u32 = 1000;

macro_rules! lua {
    ($($part:literal)+) => {
        concat!($(include_str!(concat!("../../cache-redis/src/lua/", $part, ".lua"))),+)
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
    topic: Topic<Bytes>,
    heard: Topic<Bytes>,
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
            locks: Locks::new(store.clone()),
            topic: Topic::new(store.clone(), "topic", Raw).expect("a topic"),
            heard: Topic::new(store, "heard", Raw).expect("a topic"),
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
}

/// What is measured, and what for: the table's cells by recipe, tasks and contender.
struct Bench<'a, 'b> {
    runtime: &'a Runtime,
    group: &'a mut BenchmarkGroup<'b, WallTime>,
    tasks: u64,
    bare: &'a MultiplexedConnection,
    kits: [(&'static str, &'a Kit); 2],
}

impl Bench<'_, '_> {
    /// `call` in as many tasks at once; each gets its number.
    fn one<F, Fut>(&mut self, recipe: &'static str, contender: &'static str, call: F)
    where
        F: Fn(u64) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (runtime, tasks) = (self.runtime, self.tasks);
        self.group.bench_function(format!("{recipe}/{contender}"), |b| {
            b.iter_custom(|n| {
                let took = runtime.block_on(spread(tasks, n, call.clone()));
                table::note(recipe, tasks, contender, n, took);
                took
            });
        });
    }

    /// The same call of each kit.
    fn ours<F, Fut>(&mut self, recipe: &'static str, call: F)
    where
        F: Fn(Kit) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        for (name, kit) in self.kits {
            let (kit, call) = (kit.clone(), call.clone());
            self.one(recipe, name, move |_| call(kit.clone()));
        }
    }

    /// The same script, and arguments as our calls send them, on the bare connection.
    fn floor(&mut self, recipe: &'static str, body: &str, keys: &[&str], args: &[&str]) {
        let call = script(self.bare, body, keys, args);
        self.one(recipe, "floor", move |_| call());
    }

    /// Recipes that are a script.
    fn scripts(&mut self) {
        let hour = HOUR.as_millis().to_string();
        let most = i64::MAX.to_string();
        let count = lua!("integer" "count");
        self.floor("counter: deduct", count, &["stock"], &["-1", "1", &most, &hour, "0"]);
        self.ours("counter: deduct", async |kit| {
            assert!(kit.counters.deduct("stock", 1).await.expect("an answer").is_ok());
        });
        self.floor("value: compare and swap", lua!("exchange"), &["value"], &["1", "a", "1", "a", &hour]);
        self.ours("value: compare and swap", async |kit| {
            let a = Bytes::from_static(b"a");
            kit.values.compare_and_swap("value", Some(&a), &a).await.expect("an answer").expect("swapped");
        });
        self.floor("board: increment", lua!("board_raise"), &["board"], &["member 7", "1.0", &hour, "0"]);
        self.ours("board: increment", async |kit| {
            assert!(kit.boards.increment("board", "member 7", 1.0).await.expect("a score") > 7.0);
        });
        self.floor("board: top 10 of 1,000", lua!("board" "board_ranked"), &["board"], &["1", "0", "10"]);
        self.ours("board: top 10 of 1,000", async |kit| {
            assert_eq!(kit.boards.top("board", 10).await.expect("members").len(), 10);
        });
        let half = (HOUR / 2).as_millis().to_string();
        let keys = ["floor:{0}", "floor:{0}:data"];
        let payload = "x".repeat(200);
        let open =
            script(self.bare, lua!("time" "sessions" "session_open"), &keys, &["0", "ada", &payload, &half, &hour]);
        self.runtime.block_on(open());
        self.floor("session: touch", lua!("time" "sessions" "session_touch"), &keys, &["0", &half]);
        self.ours("session: touch", async |kit| {
            assert!(kit.sessions.touch(&kit.session).await.expect("an answer").is_some());
        });
    }

    /// Recipes whose floor is something shorter.
    fn shorter(&mut self) {
        let window =
            "local n=redis.call('INCR',KEYS[1]) if n==1 then redis.call('PEXPIRE',KEYS[1],ARGV[1]) end return n";
        self.floor("limit: take (floor: a fixed window)", window, &["floor:limit"], &["1000"]);
        self.ours("limit: take (floor: a fixed window)", async |kit| {
            assert!(kit.limits.take("limit", 1).await.is_ok());
        });
        let bare = self.bare.clone();
        self.one("lock and unlock (floor: SET NX, DEL)", "floor", move |_| {
            let mut bare = bare.clone();
            async move {
                let key = format!("floor:{}", fastrand::u64(..));
                let mut set = redis::cmd("SET");
                set.arg(&key).arg("token").arg("NX").arg("PX").arg(3_600_000);
                let _: redis::Value = set.query_async(&mut bare).await.expect("an answer");
                let _: u8 = redis::cmd("DEL").arg(&key).query_async(&mut bare).await.expect("an answer");
            }
        });
        self.ours("lock and unlock (floor: SET NX, DEL)", async |kit| {
            let key = format!("lock:{}", fastrand::u64(..));
            let guard = kit.locks.try_acquire(&key, HOUR).await.expect("an answer").expect("free");
            guard.release().await.expect("released");
        });
    }

    fn messages(&mut self) {
        let bare = self.bare.clone();
        self.one("publish to nobody", "floor", move |_| {
            let mut bare = bare.clone();
            async move {
                let n: u64 =
                    redis::cmd("PUBLISH").arg("topic").arg("m").query_async(&mut bare).await.expect("an answer");
                assert_eq!(n, 0);
            }
        });
        self.ours("publish to nobody", async |kit| {
            assert_eq!(kit.topic.publish(&Bytes::from_static(b"m")).await.expect("an answer"), 0);
        });
    }
}

/// A call of `body` on `bare`.
fn script(
    bare: &MultiplexedConnection,
    body: &str,
    keys: &[&str],
    args: &[&str],
) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Clone + Send + 'static {
    let owned = |texts: &[&str]| Arc::new(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>());
    let (script, bare, keys, args) = (Arc::new(Script::new(body)), bare.clone(), owned(keys), owned(args));
    move || {
        let (script, mut bare) = (Arc::clone(&script), bare.clone());
        let (keys, args) = (Arc::clone(&keys), Arc::clone(&args));
        Box::pin(async move {
            let mut call = script.prepare_invoke();
            for key in keys.iter() {
                call.key(key);
            }
            for arg in args.iter() {
                call.arg(arg);
            }
            let _: redis::Value = call.invoke_async(&mut bare).await.expect("an answer");
        })
    }
}

async fn spread<F, Fut>(tasks: u64, n: u64, call: F) -> Duration
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let call = call.clone();
        set.spawn(async move {
            for _ in 0..n.div_ceil(tasks) {
                call(task).await;
            }
        });
    }
    while let Some(done) = set.join_next().await {
        done.expect("a task");
    }
    begun.elapsed()
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(table::SAMPLES)
        // the table has medians; intervals are for a look
        .nresamples(1000)
        .without_plots()
        .measurement_time(Duration::from_millis(1200))
        .warm_up_time(Duration::from_millis(300))
        .configure_from_args();
    let runtime = runtime();
    let server = server();
    let (bare, store, remote, embedded) = runtime.block_on(async {
        let store: Redis = redis(&server).await;
        (bare_redis(&server).await, store.clone(), kit!(store), kit!(Memory::new()))
    });
    for tasks in [1, 64] {
        let mut group = criterion.benchmark_group(format!("recipes/{tasks} tasks"));
        group.throughput(Throughput::Elements(1));
        let kits = [("Redis", &remote), ("Memory", &embedded)];
        let mut bench = Bench { runtime: &runtime, group: &mut group, tasks, bare: &bare, kits };
        bench.scripts();
        bench.shorter();
        bench.messages();
        bench.heard(&server.url());
        bench.commands(&store, &server.url());
    }
    // a test runs each call once, which is no measurement
    if std::env::args().any(|argument| argument == "--bench") {
        table::print();
    }
    criterion.final_summary();
}
