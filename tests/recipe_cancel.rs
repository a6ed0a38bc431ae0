//! I6 for recipes: every public future of every recipe is dropped at every point at which it waits, over a real server and
//! embedded; no lock stays held, nobody stays in a line, no subscription stays open, and nothing is done by half.

#[path = "../cache-tiered/tests/common/mod.rs"]
mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::Memory;
use cache_redis::testkit::{Cluster, Server};
use cache_strata::codec::Raw;
use cache_strata::recipe::pubsub::{Events, Listening};
use cache_strata::recipe::session::{Lifetime, SessionId};
use cache_strata::recipe::{Counters, Leaderboards, Limit, Limits, Locks, Sessions, Topic, Values};
use cache_strata::{RecipeStore, connect_recipes};
use common::cancel::{MOST, cut};
use common::eventually;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use strata_tests::audit::Audit;
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

const HOUR: Duration = Duration::from_secs(3600);
/// Far beyond any patience here: a lock that is free before was given back.
const TTL: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_millis(4);

/// What a call is dropped on: keys of its own, as two processes see them.
struct Scene {
    name: String,
    here: Kit,
    there: Kit,
    /// Gives back what the other process holds, a moment later.
    freeing: Option<JoinHandle<()>>,
    id: SessionId,
    /// For looking at a single server.
    look: Option<MultiplexedConnection>,
}

/// Every recipe on one store.
struct Kit {
    locks: Locks,
    limits: Limits,
    sessions: Sessions<Bytes>,
    boards: Leaderboards,
    counters: Counters,
    values: Values<Bytes>,
    topic: Topic<Bytes>,
    store: Arc<dyn RecipeStore>,
}

/// Together in one slot of a cluster.
fn key(name: &str, what: &str) -> String {
    format!("{{{name}}}:{what}")
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

impl Kit {
    fn new(store: &Arc<dyn RecipeStore>, name: &str) -> Self {
        let store = || Arc::clone(store);
        Self {
            locks: Locks::new(store()),
            limits: Limits::new(store(), Limit::per_minute(1000)).unwrap(),
            sessions: Sessions::new(store(), Raw, Lifetime::default()).unwrap().prefix(name).unwrap(),
            boards: Leaderboards::new(store(), HOUR).unwrap(),
            counters: Counters::new(store(), HOUR).unwrap(),
            values: Values::new(store(), Raw, HOUR).unwrap(),
            topic: Topic::new(store(), key(name, "topic"), Raw).unwrap(),
            store: store(),
        }
    }

    fn fair(&self) -> Locks {
        self.locks.clone().fair()
    }
}

impl Scene {
    async fn new(ground: &Ground, name: String, call: &str) -> Self {
        let (here, there) = (Kit::new(&ground.here, &name), Kit::new(&ground.there, &name));
        let id = there.sessions.create(Some("ada"), &text("1")).await.unwrap();
        there.sessions.create(Some("ada"), &text("1")).await.unwrap();
        there.counters.set(&key(&name, "a"), 100).await.unwrap();
        there.counters.set(&key(&name, "b"), 0).await.unwrap();
        there.values.set(&key(&name, "value"), &text("old")).await.unwrap();
        there.boards.add(&key(&name, "board"), "ada", 1.0).await.unwrap();
        let mut scene = Self { name, here, there, freeing: None, id, look: ground.look.clone() };
        if call.contains("held") {
            let guard = scene.there.locks.try_acquire(&scene.key("lock"), TTL).await.unwrap();
            let guard = guard.expect("nobody else has it");
            scene.freeing = Some(tokio::spawn(async move {
                sleep(HOLD).await;
                guard.release().await.expect("a lock that nobody else may have");
            }));
        }
        scene
    }

    fn key(&self, what: &str) -> String {
        key(&self.name, what)
    }

    /// Nothing is left behind by a call that was dropped, and everything still works.
    async fn audit(mut self, what: &str) {
        if let Some(freeing) = self.freeing.take() {
            freeing.await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let (lock, Self { here, there, .. }) = (self.key("lock"), &self);
        if let Some(look) = &self.look {
            let mut look = look.clone();
            let empty = async || {
                let fields: Vec<String> = redis::cmd("HKEYS").arg(&lock).query_async(&mut look).await.unwrap();
                fields.iter().all(|field| field == "f")
            };
            eventually(&format!("{what}: neither a holder nor a line"), empty).await;
        }
        // who stands in line would be skipped after 5 s
        let free = timeout(Duration::from_secs(4), async {
            loop {
                match there.fair().try_acquire(&lock, TTL).await.unwrap() {
                    Some(guard) => return guard,
                    None => sleep(Duration::from_millis(2)).await,
                }
            }
        });
        let guard = free.await.unwrap_or_else(|_| panic!("{what}: the lock is held, or somebody stands in line"));
        guard.release().await.unwrap();
        let guard = timeout(SOON, here.locks.acquire(&lock, TTL)).await.expect(what).expect(what);
        guard.release().await.unwrap();

        let used = 1000 - here.limits.peek(&self.key("limit")).await.expect(what).remaining;
        assert!(used <= 3, "{what}: {used} taken");
        assert!(here.limits.take(&self.key("limit"), 1).await.expect(what).allowed);

        let listed = there.sessions.list("ada").await.expect(what);
        assert!(listed.len() <= 3, "{what}: {} sessions", listed.len());
        for session in &listed {
            assert!([text("1"), text("2")].contains(&session.data), "{what}: a session by half");
        }
        let alive = here.sessions.get(&self.id).await.expect(what).is_some();
        // a login may end with the visitor's session gone, never with one of the user by its old id
        if what.contains("rotate,") {
            assert_eq!(listed.len(), 2, "{what}: a session is lost, or doubled");
        }
        let id = here.sessions.create(Some("ada"), &text("2")).await.expect(what);
        let others = there.sessions.destroy_others("ada", &id).await.expect(what);
        assert_eq!(others, listed.len() as u64, "{what}: the list and the data differ");
        assert!(!alive || here.sessions.get(&self.id).await.expect(what).is_none());

        let count = async |what| here.counters.get(&self.key(what)).await.expect("it can be read").unwrap_or_default();
        let (a, b) = (count("a").await, count("b").await);
        if what.contains("transfer") {
            assert_eq!(a + b, 100, "{what}: by half");
        }
        assert_eq!(here.counters.add(&self.key("a"), 1).await.expect(what), a + 1);

        let value = here.values.get(&self.key("value")).await.expect(what);
        assert!(value.is_none() || [text("old"), text("new")].contains(&value.unwrap()), "{what}");
        here.values.set(&self.key("value"), &text("new")).await.expect(what);
        let standing = here.boards.top(&self.key("board"), 10).await.expect(what);
        assert!(standing.len() <= 2, "{what}");
        here.boards.add(&self.key("board"), "bob", 2.0).await.expect(what);

        let mut events = timeout(SOON, here.topic.subscribe()).await.expect(what).expect(what);
        there.topic.publish(&text("x")).await.expect(what);
        assert!(timeout(SOON, events.next()).await.expect(what).is_some());
        drop(events);
        let unheard = async || there.topic.publish(&text("x")).await.unwrap() == 0;
        eventually(&format!("{what}: no subscription is left"), unheard).await;
    }
}

type Call = fn(&Scene) -> Pin<Box<dyn Future<Output = ()> + '_>>;

/// Calls whose results do not matter here.
macro_rules! calls {
    ($($name:literal => |$scene:ident| $call:expr),+ $(,)?) => {
        &[$(($name, |$scene: &Scene| Box::pin(async move { let _ = $call; }))),+]
    };
}

/// One event of a subscription that is told something, then dropped.
async fn one_event(scene: &Scene, mut events: Events<Bytes>) {
    scene.there.topic.publish(&text("x")).await.unwrap();
    events.next().await;
}

const CALLS: &[(&str, Call)] = calls! {
    "lock: try_acquire" => |s| s.here.locks.try_acquire(&s.key("lock"), TTL).await,
    "lock: acquire" => |s| s.here.locks.acquire(&s.key("lock"), TTL).await,
    "lock: acquire, fair" => |s| s.here.fair().acquire(&s.key("lock"), TTL).await,
    "lock: try_acquire, held" => |s| s.here.fair().try_acquire(&s.key("lock"), TTL).await,
    "lock: acquire, held" => |s| s.here.locks.acquire(&s.key("lock"), TTL).await,
    "lock: acquire, fair, held" => |s| s.here.fair().acquire(&s.key("lock"), TTL).await,
    "lock: acquire_within, fair, held, for less" => |s| {
        s.here.fair().acquire_within(&s.key("lock"), TTL, HOLD / 2).await
    },
    "lock: with_lock" => |s| s.here.locks.with_lock(&s.key("lock"), TTL, |_| sleep(HOLD / 4)).await,
    "lock: with_lock, fair, held" => |s| s.here.fair().with_lock(&s.key("lock"), TTL, |_| sleep(HOLD / 4)).await,
    "lock: extend" => |s| {
        let guard = s.here.locks.acquire(&s.key("lock"), TTL).await.unwrap();
        guard.extend(TTL * 2).await
    },
    "lock: release" => |s| s.here.locks.acquire(&s.key("lock"), TTL).await.unwrap().release().await,
    "limit: take" => |s| s.here.limits.take(&s.key("limit"), 1).await,
    "limit: peek" => |s| s.here.limits.peek(&s.key("limit")).await,
    "limit: reset" => |s| s.here.limits.reset(&s.key("limit")).await,
    "session: create" => |s| s.here.sessions.create(Some("ada"), &text("2")).await,
    "session: get" => |s| s.here.sessions.get(&s.id).await,
    "session: touch" => |s| s.here.sessions.touch(&s.id).await,
    "session: save" => |s| s.here.sessions.save(&s.id, &text("2")).await,
    "session: rotate" => |s| s.here.sessions.rotate(&s.id).await,
    "session: rotate_as" => |s| s.here.sessions.rotate_as(&s.id, "ada", &text("2")).await,
    "session: destroy" => |s| s.here.sessions.destroy(&s.id).await,
    "session: destroy_named" => |s| s.here.sessions.destroy_named("ada", s.id.name()).await,
    "session: destroy_all" => |s| s.here.sessions.destroy_all("ada").await,
    "session: destroy_others" => |s| s.here.sessions.destroy_others("ada", &s.id).await,
    "session: list" => |s| s.here.sessions.list("ada").await,
    "board: add" => |s| s.here.boards.add(&s.key("board"), "bob", 3.0).await,
    "board: add_best" => |s| s.here.boards.add_best(&s.key("board"), "ada", 3.0).await,
    "board: increment" => |s| s.here.boards.increment(&s.key("board"), "ada", 3.0).await,
    "board: remove" => |s| s.here.boards.remove(&s.key("board"), "ada").await,
    "board: count" => |s| s.here.boards.count(&s.key("board")).await,
    "board: top" => |s| s.here.boards.top(&s.key("board"), 3).await,
    "board: page" => |s| s.here.boards.page(&s.key("board"), 0, 3).await,
    "board: standing" => |s| s.here.boards.standing(&s.key("board"), "ada").await,
    "board: rank" => |s| s.here.boards.rank(&s.key("board"), "ada").await,
    "board: score" => |s| s.here.boards.score(&s.key("board"), "ada").await,
    "board: around" => |s| s.here.boards.around(&s.key("board"), "ada", 1, 1).await,
    "board: by_score" => |s| s.here.boards.by_score(&s.key("board"), 0.0..=9.0, 3).await,
    "counter: get" => |s| s.here.counters.get(&s.key("a")).await,
    "counter: add" => |s| s.here.counters.add(&s.key("a"), 1).await,
    "counter: increment" => |s| s.here.counters.increment(&s.key("a"), 1, 200).await,
    "counter: deduct" => |s| s.here.counters.deduct(&s.key("a"), 1).await,
    "counter: transfer" => |s| s.here.counters.transfer(&s.key("a"), &s.key("b"), 7).await,
    "counter: set" => |s| s.here.counters.set(&s.key("a"), 1).await,
    "counter: get_and_set" => |s| s.here.counters.get_and_set(&s.key("a"), 1).await,
    "counter: set_if_absent" => |s| s.here.counters.set_if_absent(&s.key("a"), 1).await,
    "counter: compare_and_swap" => |s| s.here.counters.compare_and_swap(&s.key("a"), Some(100), 1).await,
    "value: get" => |s| s.here.values.get(&s.key("value")).await,
    "value: set" => |s| s.here.values.set(&s.key("value"), &text("new")).await,
    "value: get_and_set" => |s| s.here.values.get_and_set(&s.key("value"), &text("new")).await,
    "value: set_if_absent" => |s| s.here.values.set_if_absent(&s.key("value"), &text("new")).await,
    "value: set_if_present" => |s| s.here.values.set_if_present(&s.key("value"), &text("new")).await,
    "value: compare_and_swap" => |s| {
        s.here.values.compare_and_swap(&s.key("value"), Some(&text("old")), &text("new")).await
    },
    "value: compare_and_delete" => |s| s.here.values.compare_and_delete(&s.key("value"), &text("old")).await,
    "topic: publish" => |s| s.here.topic.publish(&text("x")).await,
    "topic: subscribe" => |s| s.here.topic.subscribe().await,
    "topic: next" => |s| one_event(s, s.here.topic.subscribe().await.unwrap()).await,
    "listening: open" => |s| {
        let listening = Listening::new(Arc::clone(&s.here.store), Raw).channel(s.key("topic"));
        one_event(s, listening.open().await.unwrap()).await;
    },
    "listening: open, patterns" => |s| {
        let listening = Listening::new(Arc::clone(&s.here.store), Raw).pattern(s.key("top*"));
        one_event(s, listening.open().await.unwrap()).await;
    },
};

/// Where recipes are kept: as two processes reach it.
struct Ground {
    here: Arc<dyn RecipeStore>,
    there: Arc<dyn RecipeStore>,
    look: Option<MultiplexedConnection>,
}

impl Ground {
    async fn of(url: &str) -> Self {
        let (here, there) = (connect_recipes(url).await.unwrap(), connect_recipes(url).await.unwrap());
        Self { here, there, look: None }
    }

    fn embedded() -> Self {
        let here: Arc<dyn RecipeStore> = Arc::new(Memory::new());
        Self { there: Arc::clone(&here), here, look: None }
    }
}

/// Every call, dropped everywhere, each time on keys of its own; all at once, for most of their time is spent waiting.
#[expect(clippy::future_not_send, reason = "polled by the test alone, on one thread")]
async fn cut_everywhere(ground: Arc<Ground>) -> usize {
    let cutting = async {
        let mut calls = JoinSet::new();
        for (index, (name, call)) in CALLS.iter().enumerate() {
            for late in [false, true] {
                let ground = Arc::clone(&ground);
                calls.spawn_local(async move {
                    for polls in 0.. {
                        assert!(polls < MOST, "{name} never ends");
                        let scene = Scene::new(&ground, format!("{index}-{late}-{polls}"), name).await;
                        let ended = cut(call(&scene), polls, late).await;
                        scene.audit(&format!("{name}, dropped after {polls} polls, late {late}")).await;
                        if ended {
                            return polls;
                        }
                    }
                    0
                });
            }
        }
        calls.join_all().await.into_iter().sum()
    };
    LocalSet::new().run_until(cutting).await
}

#[tokio::test]
async fn i6_a_dropped_call_of_a_recipe_leaves_nothing_behind_embedded() {
    let points = cut_everywhere(Arc::new(Ground::embedded())).await;
    assert!(points >= 2 * CALLS.len(), "only {points} points");
}

#[tokio::test]
async fn i6_a_dropped_call_of_a_recipe_leaves_nothing_behind_over_a_server() {
    let server = Server::spawn().unwrap();
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
    let client = redis::Client::open(server.url()).unwrap();
    let look = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let mut ground = Ground::of(&server.patient_url()).await;
    ground.look = Some(look.clone());
    let ground = Arc::new(ground);
    let points = cut_everywhere(Arc::clone(&ground)).await;
    assert!(points >= 4 * CALLS.len(), "only {points} points");
    let audit = Audit::connect(&server.url()).await.expect("the server answers");
    audit.every_key_has_a_ttl(String::new()).await.expect("nothing stays for ever");
    let unheard = async || {
        let channels: Vec<String> = redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut look.clone()).await.unwrap();
        let patterns: u64 = redis::cmd("PUBSUB").arg("NUMPAT").query_async(&mut look.clone()).await.unwrap();
        channels.is_empty() && patterns == 0
    };
    // one that nobody needs any more is kept for 10 s
    let ended = timeout(SOON * 3, async {
        while !unheard().await {
            sleep(HOLD).await;
        }
    });
    ended.await.expect("no subscription is left, though the store is still there");
    drop(ground);
}

#[tokio::test]
async fn i6_a_dropped_call_of_a_recipe_leaves_nothing_behind_over_a_cluster() {
    let cluster = Cluster::spawn().unwrap();
    let ground = Ground::of(&cluster.patient_url()).await;
    let points = cut_everywhere(Arc::new(ground)).await;
    assert!(points >= 4 * CALLS.len(), "only {points} points");
}
