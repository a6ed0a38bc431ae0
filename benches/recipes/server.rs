//! Messages that are heard, and what a server alone has: scripts, pipelines and transactions of one's own.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cache_redis::{Command, Script};
use cache_strata::Redis;
use cache_strata::recipe::pubsub::{Event, Overflow};
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;

use super::table::note;
use super::{Bench, spread};

/// How many commands a pipeline has.
const PIECES: u32 = 10;

impl Bench<'_, '_> {
    /// Messages from their publishers to one subscriber.
    pub(super) fn heard(&mut self, url: &str) {
        let (runtime, tasks, recipe) = (self.runtime, self.tasks, "publish, and hear");
        let bare = self.bare.clone();
        self.group.bench_function(format!("{recipe}/floor"), |b| {
            b.iter_custom(|n| {
                let bare = bare.clone();
                let took = runtime.block_on(async {
                    let client = redis::Client::open(url).expect("a url");
                    let mut subscriber = client.get_async_pubsub().await.expect("a subscriber");
                    subscriber.subscribe("floor:heard").await.expect("subscribed");
                    let (room, more) = room();
                    let begun = Instant::now();
                    let publish = spread(tasks, n, move |_| {
                        let (mut bare, room) = (bare.clone(), Arc::clone(&room));
                        async move {
                            room.acquire().await.expect("room").forget();
                            let mut publish = redis::cmd("PUBLISH");
                            let _: u64 =
                                publish.arg("floor:heard").arg("m").query_async(&mut bare).await.expect("an answer");
                        }
                    });
                    let hear = async {
                        let mut messages = subscriber.on_message();
                        for _ in 0..heard(tasks, n) {
                            assert!(messages.next().await.is_some());
                            more.add_permits(1);
                        }
                    };
                    tokio::join!(publish, hear);
                    begun.elapsed()
                });
                note(recipe, tasks, "floor", n, took);
                took
            });
        });
        for (name, kit) in self.kits {
            let topic = kit.heard.clone();
            self.group.bench_function(format!("{recipe}/{name}"), |b| {
                b.iter_custom(|n| {
                    let took = runtime.block_on(async {
                        let listening = topic.listening().buffer(1 << 20, 1 << 28).overflow(Overflow::DropNewest);
                        let mut events = listening.open().await.expect("subscribed");
                        let topic = topic.clone();
                        let (room, more) = room();
                        let begun = Instant::now();
                        let publish = spread(tasks, n, move |_| {
                            let (topic, room) = (topic.clone(), Arc::clone(&room));
                            async move {
                                room.acquire().await.expect("room").forget();
                                assert!(topic.publish(&Bytes::from_static(b"m")).await.is_ok());
                            }
                        });
                        let hear = async {
                            for _ in 0..heard(tasks, n) {
                                assert!(matches!(events.next().await, Some(Event::Message { .. })));
                                more.add_permits(1);
                            }
                        };
                        tokio::join!(publish, hear);
                        begun.elapsed()
                    });
                    note(recipe, tasks, name, n, took);
                    took
                });
            });
        }
    }

    /// What a server alone has.
    pub(super) fn commands(&mut self, store: &Redis, url: &str) {
        let text = "return redis.call('INCR',KEYS[1])";
        self.floor("a script of one's own", text, &["n"], &[]);
        let (own, redis) = (Arc::new(Script::new(text)), store.clone());
        self.one("a script of one's own", "Redis", move |_| {
            let (own, redis) = (Arc::clone(&own), redis.clone());
            async move { assert!(redis.script(&own).key("n").run::<i64>().await.expect("a number") > 0) }
        });
        let (recipe, bare, redis) = ("pipeline of 10 INCR", self.bare.clone(), store.clone());
        self.one(recipe, "floor", move |_| {
            let mut bare = bare.clone();
            async move {
                let mut pipe = redis::pipe();
                for _ in 0..PIECES {
                    pipe.cmd("INCR").arg("n");
                }
                let replies: Vec<i64> = pipe.query_async(&mut bare).await.expect("numbers");
                assert_eq!(replies.len(), PIECES as usize);
            }
        });
        self.one(recipe, "Redis", move |_| {
            let redis = redis.clone();
            async move {
                let incr = || Command::new("INCR").key("n");
                let pipeline = (0..PIECES).fold(redis.pipeline(), |pipeline, _| pipeline.then(incr()));
                assert_eq!(pipeline.send().await.expect("replies").len(), PIECES as usize);
            }
        });
        let (recipe, redis) = ("transaction: WATCH, GET, MULTI SET EXEC", store.clone());
        let own: Vec<MultiplexedConnection> = self.runtime.block_on(async {
            let client = redis::Client::open(url).expect("a url");
            let mut own = Vec::new();
            for _ in 0..self.tasks {
                own.push(client.get_multiplexed_async_connection().await.expect("a connection"));
            }
            own
        });
        let own = Arc::new(own);
        self.one(recipe, "floor", move |task| {
            let mut own = own[usize::try_from(task).unwrap_or(0)].clone();
            async move {
                let key = format!("floor:tx:{task}");
                let _: () = redis::cmd("WATCH").arg(&key).query_async(&mut own).await.expect("watched");
                let held: Option<u64> = redis::cmd("GET").arg(&key).query_async(&mut own).await.expect("an answer");
                let mut pipe = redis::pipe();
                pipe.atomic().cmd("SET").arg(&key).arg(held.unwrap_or(0) + 1).ignore();
                let _: () = pipe.query_async(&mut own).await.expect("committed");
            }
        });
        self.one(recipe, "Redis", move |task| {
            let redis = redis.clone();
            async move {
                let key = format!("tx:{task}");
                let key = key.as_str();
                let done = redis.transaction([key]).run(|attempt| async move {
                    let held: Option<i64> = attempt.read(Command::new("GET").key(key)).await?;
                    attempt.queue(Command::new("SET").key(key).arg(held.unwrap_or(0) + 1))
                });
                assert_eq!(done.await.expect("committed").attempts, 1);
            }
        });
    }
}

/// Room for messages on their way, so that a publisher does not outrun its subscriber.
fn room() -> (Arc<Semaphore>, Arc<Semaphore>) {
    let room = Arc::new(Semaphore::new(128));
    (Arc::clone(&room), room)
}

/// How many messages `spread` publishes.
fn heard(tasks: u64, n: u64) -> usize {
    usize::try_from(n.div_ceil(tasks) * tasks).unwrap_or(usize::MAX)
}
