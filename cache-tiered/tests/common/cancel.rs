//! Every public future of a cache, and scenes in which they are dropped: over memory in paused time here, over a server in the
//! workspace's tests.

#![allow(clippy::future_not_send, reason = "a scene stays in the thread of its test")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::{CacheService, Clock, ErrorKind, Frame, Stamp, State, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Consistency, Loaded, Origin, Policy, Sliding, Tiered, Update};

use super::{BOUND, eventually};

/// More polls than any call takes.
pub(crate) const MOST: usize = 200;
const HOLD: Duration = Duration::from_millis(200);

/// What a scene stands on: a far store of its own, or a namespace of its own in one.
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) namespace: String,
    /// Whether time passes as it does.
    pub(crate) real: bool,
    /// For looking at the far store.
    pub(crate) store: Arc<dyn CacheService>,
    pub(crate) connect: Connect,
}

/// Connects another process.
pub(crate) type Connect = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Arc<dyn CacheService>>>>>;

/// Polls a call at most so often, then drops it: at once, or a moment later. Says whether it ended before.
pub(crate) async fn cut(call: impl Future<Output = ()>, polls: usize, late: bool) -> bool {
    let mut call = Box::pin(call);
    let mut left = polls;
    let ended = std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    });
    let ended = ended.await;
    if late {
        // what it waits for goes on, and it is not told
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    ended
}

/// What is there when a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing, and another caller of this process loads the same key.
    Cold,
    /// The far store holds the value.
    Far,
    /// The near store holds it, and has to ask whether it still stands.
    Suspect,
    /// Another process loads.
    Leased,
    /// The far store holds it, and writes go there in the background, one at a time.
    Behind,
    /// There is only a near store.
    Alone,
    /// The near store holds it, and it is due to be refreshed in the background.
    Due,
    /// The near store holds it, and its sliding ttl is due to be made to count anew in the far store.
    Sliding,
}

impl Start {
    /// With what is due half of a ttl later, or, in real time, a moment.
    fn policy(self, real: bool) -> Policy {
        let due = if real { 0.0005 } else { 0.25 };
        match self {
            Self::Due => Policy::minutes(5).jitter(0.0).refresh_ahead(due).fail_safe(Duration::from_secs(600)),
            Self::Sliding => {
                let mut policy = Policy::minutes(5).jitter(0.0).sliding();
                let mut sliding = Sliding::default();
                sliding.after = due;
                policy.sliding = Some(sliding);
                policy
            }
            _ => Policy::minutes(5).fail_safe(Duration::from_secs(600)),
        }
    }
}

pub(crate) struct Scene {
    start: Start,
    ground: Ground,
    /// The process whose call is dropped, and another one.
    here: Tiered,
    there: Tiered,
    cache: Cache<String>,
    other: Cache<String>,
    /// The version of the row.
    row: Arc<AtomicU64>,
    others: tokio::task::JoinSet<()>,
}

fn typed(tiered: &Tiered, start: Start, real: bool) -> Cache<String> {
    tiered.cache("names").codec(Raw).policy(start.policy(real)).origin(Origin::default().at_most(1)).build().unwrap()
}

impl Scene {
    pub(crate) async fn new(start: Start, ground: Ground) -> Self {
        let near = || {
            let near = Tiered::builder().near(LocalMemory::new(1 << 20)).bound(BOUND);
            near.clock(ground.clock.clone()).namespace(&ground.namespace)
        };
        let here = match start {
            Start::Alone => near(),
            // a change elsewhere is then a gap, and puts all that is near to the test
            Start::Suspect => near().far((ground.connect)().await).polling(),
            Start::Behind => near().far((ground.connect)().await).background_writes(1),
            _ => near().far((ground.connect)().await),
        };
        let here = here.build().await.unwrap();
        let there = near().far((ground.connect)().await).build().await.unwrap();
        let row = Arc::new(AtomicU64::new(1));
        let (cache, other) = (typed(&here, start, ground.real), typed(&there, start, ground.real));
        let mut scene = Self { start, ground, here, there, cache, other, row, others: tokio::task::JoinSet::new() };
        match start {
            Start::Cold | Start::Alone => scene.begin(scene.cache.clone()).await,
            Start::Leased => scene.begin(scene.other.clone()).await,
            Start::Far | Start::Behind => drop(scene.other.get_or_load("k", scene.loader()).await.unwrap()),
            Start::Due | Start::Sliding => {
                scene.cache.get_or_load("k", scene.loader()).await.unwrap();
                // half of its ttl
                let due = if scene.ground.real { Duration::from_millis(200) } else { Duration::from_secs(150) };
                tokio::time::sleep(due).await;
            }
            Start::Suspect => {
                // generations are known from before the load, else nothing from before the epoch could be judged
                scene.there.invalidate_tag("t").await.unwrap();
                scene.cache.get_or_load("k", scene.loader()).await.unwrap();
                let epochs = scene.epochs();
                scene.other.invalidate("unrelated").await.unwrap();
                eventually("a new epoch", async || scene.epochs() > epochs).await;
            }
        }
        scene
    }

    fn epochs(&self) -> u64 {
        self.here.metrics().get(cache_core::observe::Metric::EpochBump)
    }

    /// Lets another caller begin to load.
    async fn begin(&mut self, cache: Cache<String>) {
        let loader = self.loader();
        self.others.spawn(async move {
            // a close is the one thing that may end it
            let loaded = cache.get_or_load("k", loader).await;
            assert!(loaded.as_ref().is_ok_and(|v| v.starts_with('v')) || closed(&loaded), "{loaded:?}");
        });
        // it leads: the call that is dropped finds it
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
            if self.here.in_flight() + self.there.in_flight() > 0 {
                return;
            }
        }
        panic!("the other caller does not begin");
    }

    fn loader(
        &self,
    ) -> impl FnOnce() -> Pin<Box<dyn Future<Output = Result<String, std::io::Error>> + Send>> + Send + use<> {
        let row = Arc::clone(&self.row);
        move || {
            Box::pin(async move {
                let read = row.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(format!("v{read}"))
            })
        }
    }

    /// Nothing is left behind, and everything still works.
    pub(crate) async fn audit(mut self, what: &str) {
        while let Some(other) = self.others.join_next().await {
            other.unwrap_or_else(|_| panic!("{what}: another caller was not served"));
        }
        let quiet = async || {
            let open = |tiered: &Tiered| tiered.in_flight() + tiered.under_way() + tiered.pending_invalidations();
            open(&self.here) + open(&self.there) + self.here.pending_writes() == 0
        };
        eventually(&format!("{what}: nothing under way"), quiet).await;
        assert_eq!(self.leases().await, Vec::<String>::new(), "{what}: a lease is left");
        // a guard that was dropped runs out
        tokio::time::sleep(HOLD + BOUND * 2).await;
        // a busy machine may have cut one off
        eventually("both hear the far store", async || !self.here.is_cut_off() && !self.there.is_cut_off()).await;
        let far = if self.ground.real {
            self.far_value().await
        } else {
            self.other.with(Consistency::Fresh).get("k").await.unwrap().as_deref().cloned()
        };
        let closed = self.cache.get("k").await.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed);
        if closed {
            return;
        }
        if self.start != Start::Alone {
            let near = self.cache.get("k").await.unwrap();
            // what stands in the far store may be void by a tag; what is near stands there in any case
            let same = near.as_deref() == far.as_ref() || self.ground.real && near.is_none();
            assert!(same, "{what}: near is not what far holds: {near:?}, {far:?}");
        }
        self.row.store(2, Ordering::SeqCst);
        let writer = if self.start == Start::Alone { &self.cache } else { &self.other };
        writer.invalidate("k").await.unwrap();
        tokio::time::sleep(BOUND * 2).await;
        assert_eq!(*self.cache.get_or_load("k", self.loader()).await.unwrap(), "v2", "{what}");
        let fresh = self.cache.get_or_load("another", self.loader()).await;
        assert!(fresh.is_ok(), "{what}: a permit is lost: {fresh:?}");
    }

    /// The value that the far store holds.
    async fn far_value(&self) -> Option<String> {
        let key = format!("{}:k:names:k", self.ground.namespace);
        let found = self.ground.store.leases().unwrap().read(&key).await.unwrap()?;
        let frame = Frame::parse(&key, &found.frame).unwrap();
        (frame.header.state == State::Value).then(|| String::from_utf8(frame.payload.to_vec()).unwrap())
    }

    /// The keys that carry a lease, or would stay for ever.
    async fn leases(&self) -> Vec<String> {
        let (sweep, leases) = (self.ground.store.sweep().unwrap(), self.ground.store.leases().unwrap());
        let mut left = Vec::new();
        // values, and the rights to refresh them
        for kind in ["k", "r"] {
            for key in sweep.keys(&format!("{}:{kind}:", self.ground.namespace)).await.unwrap() {
                let Some(found) = leases.read(&key).await.unwrap() else { continue };
                let header = Frame::parse(&key, &found.frame).unwrap().header;
                let leased =
                    header.state == State::Lease || header.state == State::Stale && header.stamp != Stamp::NONE;
                if leased || found.left.is_none() {
                    left.push(key);
                }
            }
        }
        left
    }
}

fn closed<T>(result: &cache_core::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed)
}

pub(crate) type Call = fn(&Scene) -> Pin<Box<dyn Future<Output = ()> + '_>>;

/// Ends a call whose result does not matter here.
macro_rules! calls {
    ($($name:literal => |$scene:ident| $call:expr),+ $(,)?) => {
        &[$(($name, |$scene: &Scene| Box::pin(async move { let _ = $call; }))),+]
    };
}

/// What a loader of many keys answers.
type Answers = std::io::Result<Vec<(&'static str, std::io::Result<Loaded<String>>)>>;

/// A loader of many keys that takes a while.
fn many_with(
    row: &Arc<AtomicU64>,
) -> impl Fn(Vec<&'static str>) -> Pin<Box<dyn Future<Output = Answers> + Send>> + Send + Sync + 'static + use<> {
    let row = Arc::clone(row);
    move |keys| {
        let read = row.load(Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(keys.into_iter().map(|key| (key, Ok(Loaded::value(format!("v{read}"))))).collect())
        })
    }
}

pub(crate) const CALLS: &[(&str, Call)] = calls! {
    "get" => |s| s.cache.get("k").await,
    "lookup" => |s| s.cache.lookup("k").await,
    "get, fresh" => |s| s.cache.with(Consistency::Fresh).get("k").await,
    "get, strict" => |s| s.cache.with(Consistency::Strict).get("k").await,
    "get, bounded" => |s| s.cache.with(Consistency::Bounded(Duration::ZERO)).get("k").await,
    "get_or_load" => |s| s.cache.get_or_load("k", s.loader()).await,
    "get_or_load of what is nowhere" => |s| s.cache.get_or_load("nowhere", s.loader()).await,
    "get_or_load, fresh" => |s| s.cache.with(Consistency::Fresh).get_or_load("k", s.loader()).await,
    "find_or_load" => |s| {
        let load = s.loader();
        s.cache.find_or_load("k", || async move { load().await.map(Some) }).await
    },
    "load_with" => |s| {
        let load = s.loader();
        s.cache.load_with("k", || async move { load().await.map(|v| Loaded::value(v).tag("t")) }).await
    },
    "load_with, unstored" => |s| {
        let load = s.loader();
        s.cache.load_with("k", || async move { load().await.map(|v| Loaded::value(v).unstored()) }).await
    },
    "get_or_load that fails" => |s| {
        s.cache.get_or_load("gone", || async { Err::<String, _>(std::io::Error::other("down")) }).await
    },
    "get_many" => |s| s.cache.get_many(&["k", "l", "k"]).await,
    "get_many_or_load" => |s| {
        let row = Arc::clone(&s.row);
        let load = move |keys: Vec<&'static str>| {
            let read = row.load(Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<_, std::io::Error>(keys.into_iter().map(move |key| (key, format!("v{read}"))).collect::<Vec<_>>())
            }
        };
        s.cache.get_many_or_load(&["k", "l", "m"], load).await
    },
    "load_many_with" => |s| s.cache.load_many_with(&["k", "l", "k"], many_with(&s.row)).await,
    "load_many_with, fresh" => |s| {
        s.cache.with(Consistency::Fresh).load_many_with(&["k", "l"], many_with(&s.row)).await
    },
    "load_many_with of what is nowhere" => |s| s.cache.load_many_with(&["x", "y"], many_with(&s.row)).await,
    "load_many_with that fails" => |s| {
        let fails = |_: Vec<&'static str>| async {
            Err::<Vec<(&'static str, std::io::Result<Loaded<String>>)>, _>(std::io::Error::other("down"))
        };
        s.cache.load_many_with(&["gone", "k"], fails).await
    },
    "batched: get_or_load" => |s| s.cache.batched_with(many_with(&s.row)).get_or_load(&"k").await,
    "batched: find_or_load of what is nowhere" => |s| {
        s.cache.batched_with(many_with(&s.row)).find_or_load(&"nowhere").await
    },
    "batched: lookup_or_load" => |s| s.cache.batched_with(many_with(&s.row)).lookup_or_load(&"k").await,
    "batched: several at once" => |s| {
        let names = s.cache.batched_with(many_with(&s.row));
        tokio::join!(names.get_or_load(&"x"), names.get_or_load(&"k"), names.find_or_load(&"y"))
    },
    "batched: get_many_or_load" => |s| {
        s.cache.batched_with(many_with(&s.row)).get_many_or_load(&["k", "l", "x"]).await
    },
    "set" => |s| s.cache.set("k", "v1".into()).await,
    "store" => |s| s.cache.store("k", Loaded::value("v1".to_owned()).tag("t")).await,
    "set_versioned" => |s| s.cache.set_versioned("k", "v1".into(), 3).await,
    "update" => |s| s.cache.update("k", |_| Update::from("v1".to_owned())).await,
    "update that removes" => |s| s.cache.update("k", |_| Update::Remove).await,
    "expire" => |s| s.cache.expire("k").await,
    "expire_many" => |s| s.cache.expire_many(&["k", "l"]).await,
    "invalidate" => |s| s.cache.invalidate("k").await,
    "invalidate_many" => |s| s.cache.invalidate_many(&["k", "l"]).await,
    "invalidate_settled" => |s| s.cache.invalidate_settled("k").await,
    "write_guard" => |s| s.cache.write_guard(&["k"], HOLD).await,
    "write_guard, strict, commit" => |s| {
        // a process that is cut off for a moment at most: the hold outlasts what strict waits for, and is over when the scene
        // is looked at
        let tiers = Tiered::builder().far((s.ground.connect)().await).namespace(&s.ground.namespace);
        let tiers = tiers.bound(BOUND).outage(BOUND / 6).clock(s.ground.clock.clone());
        let cache = typed(&tiers.build().await.unwrap(), s.start, s.ground.real);
        let guard = cache.write_guard(&["k"], BOUND + BOUND / 2).await.unwrap();
        guard.strict().await.unwrap();
        guard.commit().await
    },
    "invalidate_tag" => |s| s.here.invalidate_tag("t").await,
    "clear" => |s| s.here.clear().await,
    "warm_up" => |s| s.cache.warm_up(&["k", "l"]).await,
    "warm_up_or_load" => |s| {
        let load = |keys: Vec<&'static str>| async move {
            Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, "v1".to_owned())).collect::<Vec<_>>())
        };
        s.cache.warm_up_or_load(&["k", "l"], load).await
    },
    "import" => |s| {
        let list = s.other.export(10);
        s.cache.import(&list).await
    },
    "close" => |s| s.here.close().await,
    "build" => |s| {
        let far = (s.ground.connect)().await;
        Tiered::builder().near(LocalMemory::new(1 << 20)).far(far).namespace(&s.ground.namespace).build().await
    },
    "bytes: get" => |s| CacheService::get(&s.here, "k").await,
    "bytes: get_many" => |s| CacheService::get_many(&s.here, &["k", "l"]).await,
    "bytes: set" => |s| CacheService::set(&s.here, "k", "v".into(), Duration::from_secs(60)).await,
    "bytes: delete_many" => |s| s.here.delete_many(&["k", "l"]).await,
};

/// Drops one call at every point at which it waits, on a new ground each time; how many points there were.
pub(crate) async fn cut_one(
    start: Start,
    (name, call): &(&str, Call),
    late: bool,
    mut ground: impl AsyncFnMut() -> Ground,
) -> usize {
    for polls in 0.. {
        assert!(polls < MOST, "{name} never ends");
        let scene = Scene::new(start, ground().await).await;
        let ended = cut(call(&scene), polls, late).await;
        scene.audit(&format!("{name}, dropped after {polls} polls, late {late}, {start:?}")).await;
        if ended {
            return polls;
        }
    }
    0
}
