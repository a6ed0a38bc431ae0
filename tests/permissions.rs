//! The rights that `docs/permissions.md` names are enough.

use std::io;
use std::time::Duration;

use cache_redis::testkit::Server;
use cache_strata::codec::Postcard;
use cache_strata::recipe::limit::Algorithm;
use cache_strata::recipe::session::Lifetime;
use cache_strata::recipe::{Counters, Leaderboards, Limit, Limits, Locks, Sessions, Topic, Values};
use cache_strata::{Cache, Loaded, Policy, Tiered, Update};

/// What scripts write in capitals beside commands.
const ARGUMENTS: [&str; 3] = ["WITHSCORES", "LIMIT", "WRONGTYPE"];
const HOUR: Duration = Duration::from_secs(3600);

/// The rights that the page lists under `name`.
fn rights(name: &str) -> Vec<&'static str> {
    const PAGE: &str = include_str!("../docs/permissions.md");
    let line = PAGE.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("a line of the page");
    line.split_whitespace().collect()
}

/// A server with a user who has the rights of these names, and that user's url.
fn server(names: &[&str]) -> (Server, String) {
    let server = Server::spawn().unwrap();
    let mut user = vec!["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    names.iter().for_each(|name| user.extend(rights(name)));
    assert_eq!(server.cli(&user).unwrap(), "OK");
    let url = server.url().replacen("redis://", "redis://app:secret@", 1);
    (server, url)
}

fn nothing_was_denied(server: &Server) {
    let log = server.cli(&["ACL", "LOG"]).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let denied: Vec<&str> = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]).collect();
    // the page says that this is done without
    assert!(denied.iter().all(|object| *object == "config|get"), "denied: {denied:?}");
}

#[test]
fn what_scripts_call_is_listed() {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../cache-redis/src/lua");
    let (listed, mut seen) = (rights("commands"), 0);
    for script in std::fs::read_dir(scripts).unwrap() {
        let path = script.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.starts_with("--"));
        for call in code.filter(|line| line.contains("call(")).flat_map(|line| line.split('\'').skip(1).step_by(2)) {
            if call.len() < 3 || !call.bytes().all(|byte| byte.is_ascii_uppercase()) || ARGUMENTS.contains(&call) {
                continue;
            }
            let command = format!("+{}", call.to_lowercase());
            assert!(listed.contains(&&*command), "{command} of {}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} calls");
}

async fn use_all_of_the_tiers(tiered: &Tiered) {
    let cache: Cache<String> = tiered.cache("names").policy(Policy::minutes(5).fail_safe(HOUR)).build().unwrap();
    let say = |text: &'static str| async move || Ok::<_, io::Error>(Loaded::value(text.to_owned()).tag("t"));
    cache.load_with("k", say("v")).await.unwrap();
    cache.set("set", "v".into()).await.unwrap();
    cache.set_versioned("versioned", "v".into(), 1).await.unwrap();
    cache.update("set", |_| Update::from("w".to_owned())).await.unwrap();
    cache.find_or_load("nothing", || async { Ok::<_, io::Error>(None) }).await.unwrap();
    let many =
        |keys: Vec<&'static str>| async { Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key.to_owned()))) };
    for result in cache.get_many_or_load(&["many", "more"], many).await {
        result.unwrap();
    }
    let fresh = cache.with(cache_strata::Consistency::Strict);
    assert!(fresh.get("k").await.unwrap().is_some());
    assert!(fresh.time_left("k").await.unwrap().is_some());
    cache.write_guard(&["guarded"], HOUR).await.unwrap().commit().await.unwrap();
    cache.expire("k").await.unwrap();
    let failing = async || Err::<Loaded<String>, _>(io::Error::other("down"));
    assert!(cache.load_with("k", failing).await.unwrap().value.is_some(), "its fallback");
    cache.load_with("tagged", say("v")).await.unwrap();
    tiered.invalidate_tag("t").await.unwrap();
    assert!(cache.get("tagged").await.unwrap().is_none());
    cache.invalidate("set").await.unwrap();
    tiered.clear().await.unwrap();
    assert_eq!(cache.load_with("later", say("again")).await.unwrap().value.unwrap().as_str(), "again");
    assert!(tiered.close().await);
}

#[tokio::test]
async fn the_rights_of_the_tiers_are_enough() {
    let (server, url) = server(&["tiers", "commands"]);
    // another process holds what it loads, and hears of changes
    let tiered = cache_strata::connect(&format!("tiered:{url}?bound=300ms")).await.unwrap();
    use_all_of_the_tiers(&tiered).await;
    let far_only = cache_strata::connect(&url).await.unwrap();
    use_all_of_the_tiers(&far_only).await;
    nothing_was_denied(&server);
}

#[tokio::test]
async fn the_rights_of_tracking_are_enough() {
    for tracking in ["bcast", "reads"] {
        let (server, url) = server(&["tiers", "commands", "tracking"]);
        let tiered = cache_strata::connect(&format!("tiered:{url}?tracking={tracking}")).await.unwrap();
        use_all_of_the_tiers(&tiered).await;
        nothing_was_denied(&server);
    }
}

#[tokio::test]
async fn the_rights_of_the_recipes_are_enough() {
    let (server, url) = server(&["recipes", "commands"]);
    let store = cache_strata::connect_recipes(&url).await.unwrap();
    let store = || std::sync::Arc::clone(&store);
    for locks in [Locks::new(store()), Locks::new(store()).fair()] {
        let lock = locks.acquire("shop:lock", HOUR).await.unwrap();
        assert!(locks.try_acquire("shop:lock", HOUR).await.unwrap().is_none());
        lock.release().await.unwrap();
    }
    for (n, algorithm) in
        [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log].into_iter().enumerate()
    {
        let limits = Limits::new(store(), Limit::per_minute(2).by(algorithm)).unwrap();
        let key = format!("shop:limit:{n}");
        assert!(limits.take(&key, 1).await.unwrap().allowed);
        assert!(!limits.take(&key, 2).await.unwrap().allowed);
        assert_eq!(limits.peek(&key).await.unwrap().remaining, 1);
        limits.reset(&key).await.unwrap();
    }
    let sessions: Sessions<u64> =
        Sessions::new(store(), Postcard, Lifetime::default()).unwrap().prefix("shop").unwrap();
    let id = sessions.create(Some("ada"), &7).await.unwrap();
    let id = sessions.rotate_as(&id, "ada", &8).await.unwrap().unwrap();
    assert_eq!(sessions.touch(&id).await.unwrap().unwrap().data, 8);
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
    sessions.destroy_others("ada", &id).await.unwrap();
    assert_eq!(sessions.destroy_all("ada").await.unwrap(), 1);
    let boards = Leaderboards::new(store(), HOUR).unwrap();
    boards.add("shop:board", "ada", 1.0).await.unwrap();
    boards.increment("shop:board", "bob", 2.0).await.unwrap();
    assert_eq!(boards.top("shop:board", 2).await.unwrap().len(), 2);
    assert_eq!(boards.around("shop:board", "ada", 1, 1).await.unwrap().len(), 2);
    assert_eq!(boards.rank("shop:board", "ada").await.unwrap(), Some(2));
    let counters = Counters::new(store(), HOUR).unwrap();
    counters.set("shop:{c}:1", 3).await.unwrap();
    counters.set("shop:{c}:2", 0).await.unwrap();
    counters.increment("shop:{c}:1", 1, 10).await.unwrap().unwrap();
    counters.deduct("shop:{c}:1", 1).await.unwrap().unwrap();
    counters.transfer("shop:{c}:1", "shop:{c}:2", 1).await.unwrap().unwrap();
    let values: Values<u64> = Values::new(store(), Postcard, HOUR).unwrap();
    values.set("shop:value", &7).await.unwrap();
    assert_eq!(values.get("shop:value").await.unwrap(), Some(7));
    let topic: Topic<u64> = Topic::new(store(), "shop:topic", Postcard).unwrap();
    let mut events = topic.subscribe().await.unwrap();
    topic.publish(&7).await.unwrap();
    assert!(events.next().await.is_some());
    nothing_was_denied(&server);
}
