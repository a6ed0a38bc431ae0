//! What each call of each recipe costs in round trips, counted at the socket: one, unless the call says otherwise.

use std::time::Duration;

use bytes::Bytes;
use cache_core::testkit::{PATIENT, within};
use cache_redis::testkit::Server;
use cache_redis::{Command, Script, Value};
use cache_strata::codec::Raw;
use cache_strata::recipe::limit::{Algorithm, Source};
use cache_strata::recipe::pubsub::{Event, Reach};
use cache_strata::recipe::session::Lifetime;
use cache_strata::recipe::{Counters, Leaderboards, Limit, Limits, Locks, Sessions, Topic, Values};
use cache_strata::{Error, Redis};
use strata_tests::relay::Relay;

const HOUR: Duration = Duration::from_secs(3600);

async fn up() -> (Server, Relay, Redis) {
    let server = Server::spawn().unwrap();
    let relay = Relay::spawn(server.address()).await.unwrap();
    // no heartbeat comes in between
    let redis = Redis::connect(format!("{}?{PATIENT}&heartbeat=1m", relay.url())).await.unwrap();
    (server, relay, redis)
}

/// The answer of `call`, which is `trips` round trips.
async fn costs<T, E: std::fmt::Debug>(
    relay: &Relay,
    what: &str,
    trips: u64,
    call: impl Future<Output = Result<T, E>>,
) -> T {
    let before = relay.trips();
    let answer = call.await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(relay.trips() - before, trips, "{what}");
    answer
}

/// Each call with its price, in order: `relay; name => price, call;`.
macro_rules! prices {
    ($relay:expr; $($name:literal => $price:literal, $call:expr;)+) => {
        $(let _ = costs($relay, $name, $price, $call).await;)+
    };
}

#[tokio::test]
async fn counters_values_and_boards() {
    let (_server, relay, redis) = up().await;
    let counters = Counters::new(redis.clone(), HOUR).unwrap();
    let values = Values::new(redis.clone(), Raw, HOUR).unwrap();
    let boards = Leaderboards::new(redis, HOUR).unwrap();
    let text = Bytes::from_static(b"x");
    prices! { &relay;
        "set" => 1, counters.set("a", 5);
        "get" => 1, counters.get("a");
        "add" => 1, counters.add("a", 1);
        "get_and_set" => 1, counters.get_and_set("a", 5);
        "set_if_absent" => 1, counters.set_if_absent("a", 5);
        "compare_and_swap" => 1, counters.compare_and_swap("a", Some(5), 9);
        "increment" => 1, counters.increment("a", 1, 3);
        "deduct" => 1, counters.deduct("a", 1);
        "transfer" => 1, counters.transfer("a", "b", 1);

        "set a value" => 1, values.set("v", &text);
        "get a value" => 1, values.get("v");
        "get_and_set a value" => 1, values.get_and_set("v", &text);
        "set_if_absent a value" => 1, values.set_if_absent("v", &text);
        "set_if_present a value" => 1, values.set_if_present("v", &text);
        "compare_and_swap a value" => 1, values.compare_and_swap("v", Some(&text), &text);
        "compare_and_delete" => 1, values.compare_and_delete("v", &text);

        "add to a board" => 1, boards.add("board", "ada", 1.0);
        "add_best" => 1, boards.add_best("board", "ada", 2.0);
        "increment on a board" => 1, boards.increment("board", "ada", 2.0);
        "top" => 1, boards.top("board", 5);
        "page" => 1, boards.page("board", 1, 5);
        "standing" => 1, boards.standing("board", "ada");
        "rank" => 1, boards.rank("board", "ada");
        "score" => 1, boards.score("board", "ada");
        "around" => 1, boards.around("board", "ada", 1, 1);
        "by_score" => 1, boards.by_score("board", 0.0..=1.0, 9);
        "count" => 1, boards.count("board");
        "remove" => 1, boards.remove("board", "ada");
    }
}

#[tokio::test]
async fn sessions() {
    let (_server, relay, redis) = up().await;
    let (sessions, text) = (Sessions::new(redis, Raw, Lifetime::default()).unwrap(), Bytes::from_static(b"x"));
    let visitor = costs(&relay, "create", 1, sessions.create(None, &text)).await;
    let id = costs(&relay, "rotate_as", 2, sessions.rotate_as(&visitor, "ada", &text)).await.unwrap();
    let id = costs(&relay, "rotate", 1, sessions.rotate(&id)).await.unwrap();
    prices! { &relay;
        "get" => 1, sessions.get(&id);
        "touch" => 1, sessions.touch(&id);
        "save" => 1, sessions.save(&id, &text);
        "list" => 1, sessions.list("ada");
        "destroy_others" => 1, sessions.destroy_others("ada", &id);
        "destroy_named" => 1, sessions.destroy_named("ada", id.name());
        "destroy" => 1, sessions.destroy(&id);
        "destroy_all" => 1, sessions.destroy_all("ada");
    }
}

#[tokio::test]
async fn locks() {
    let (_server, relay, redis) = up().await;
    for locks in [Locks::new(redis.clone()), Locks::new(redis).fair()] {
        let guard = costs(&relay, "try_acquire", 1, locks.try_acquire("k", HOUR)).await.unwrap();
        assert!(costs(&relay, "try_acquire in vain", 1, locks.try_acquire("k", HOUR)).await.is_none());
        costs(&relay, "extend", 1, guard.extend(HOUR)).await;
        costs(&relay, "release", 1, guard.release()).await;
        let guard = costs(&relay, "acquire what is free", 1, locks.acquire("k", HOUR)).await;
        costs(&relay, "release", 1, guard.release()).await;
        costs(&relay, "with_lock: take, give back", 2, locks.with_lock("k", HOUR, async |_| ())).await;
    }
}

#[tokio::test]
async fn limits() {
    let (_server, relay, redis) = up().await;
    for algorithm in [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log] {
        let limits = Limits::new(redis.clone(), Limit::new(1, HOUR).by(algorithm)).unwrap();
        costs(&relay, "peek", 1, limits.peek("k")).await;
        assert!(costs(&relay, "take", 1, limits.take("k", 1)).await.allowed);
        let denied = costs(&relay, "a denial", 1, limits.take("k", 1)).await;
        assert_eq!((denied.allowed, denied.source), (false, Source::Store));
        for _ in 0..100 {
            let again = costs(&relay, "a denial that is known", 0, limits.take("k", 1)).await;
            assert_eq!((again.allowed, again.source), (false, Source::Remembered));
        }
        costs(&relay, "reset", 1, limits.reset("k")).await;
    }
}

#[tokio::test]
async fn messages() {
    let (server, relay, redis) = up().await;
    let direct = Redis::connect(server.patient_url()).await.unwrap();
    for (channel, reach) in [("c", Reach::Everywhere), ("shard", Reach::Shard)] {
        let here: Topic<Bytes> = Topic::new(redis.clone(), channel, Raw).unwrap().reach(reach);
        let there: Topic<Bytes> = Topic::new(direct.clone(), channel, Raw).unwrap().reach(reach);
        assert_eq!(costs(&relay, "publish", 1, here.publish(&"to nobody".into())).await, 0);
        let mut events = here.subscribe().await.unwrap();
        let hear = async {
            for i in 0..100 {
                there.publish(&i.to_string().into()).await?;
                let heard = within("a message", events.next()).await;
                assert_eq!(heard, Some(Event::Message { channel: channel.into(), value: i.to_string().into() }));
            }
            Ok::<_, Error>(())
        };
        costs(&relay, "a hundred messages that are heard", 0, hear).await;
    }
}

#[tokio::test]
async fn scripts_pipelines_transactions_and_health() {
    let (server, relay, redis) = up().await;
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    costs(&relay, "preload", 1, redis.preload(&[&script])).await;
    costs(&relay, "a script", 1, redis.script(&script).key("n").run::<i64>()).await;
    server.cli(&["SCRIPT", "FLUSH"]).unwrap();
    costs(&relay, "a script that the server lost", 2, redis.script(&script).key("n").run::<i64>()).await;
    costs(&relay, "a script", 1, redis.script(&script).key("n").run::<i64>()).await;
    costs(&relay, "a command", 1, redis.command::<Value>(Command::new("GET").key("n"))).await;
    let pipeline = (0..100).fold(redis.pipeline(), |pipeline, _| pipeline.then(Command::new("INCR").key("n")));
    let replies = costs(&relay, "a pipeline", 1, pipeline.send()).await;
    assert_eq!(replies.len(), 100);
    let transaction = || {
        redis.transaction(["n"]).run(|attempt| async move {
            let n: i64 = attempt.read(Command::new("GET").key("n")).await?;
            attempt.queue(Command::new("SET").key("n").arg(n + 1))?;
            attempt.queue(Command::new("SET").key("m").arg(n))
        })
    };
    // the first one opens a connection of its own
    let _ = transaction().await.unwrap();
    let done = costs(&relay, "a transaction: watch, read, commit", 3, transaction()).await;
    assert_eq!(done.attempts, 1);
    costs(&relay, "ping", 1, redis.ping()).await;
}
