//! A program that isn't ours writes the keys of caches that read them: nobody serves what it replaced for longer than a
//! push takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cache_strata::Loaded;

use super::*;

const KEYS: usize = 8;

/// A row of the database: its version, and when each version was the newest that the foreign program had made known.
#[derive(Default)]
struct Row {
    version: AtomicU64,
    known: Mutex<BTreeMap<u64, Instant>>,
}

impl Row {
    /// How old `version` was, for a read that began at `begun`.
    fn age(&self, version: u64, begun: Instant) -> Duration {
        let known = self.known.lock().unwrap();
        let next = known.range(version + 1..).next().map(|(_, at)| begun.saturating_duration_since(*at));
        next.unwrap_or_default()
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    reads: u64,
    near: u64,
    oldest: Duration,
}

/// Lets two caches read while a plain client writes; with `cuts`, the tracked connections are cut again and again.
async fn play(tracking: Tracking, cuts: bool, span: Duration) -> Seen {
    let server = Server::spawn().unwrap();
    let nodes = [node(&server, tracking).await, node(&server, tracking).await];
    let rows: [Arc<Row>; KEYS] = std::array::from_fn(|_| Arc::default());
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    let client = redis::Client::open(server.url()).unwrap();
    let mut other = client.get_multiplexed_async_connection().await.unwrap();
    let (rows, stop, seen) = (&rows, &stop, &seen);
    let readers = nodes.iter().map(|(_, cache)| async move {
        let mut at = 0;
        while !stop.load(Ordering::Relaxed) {
            at = (at + 1) % KEYS;
            let begun = Instant::now();
            let row = Arc::clone(&rows[at]);
            let load =
                async move || Ok::<_, std::io::Error>(Loaded::value(row.version.load(Ordering::SeqCst).to_string()));
            // cut off in the middle of a call, it fails
            if let Ok(answer) = cache.load_with(&*format!("k{at}"), load).await {
                let age = rows[at].age(answer.value.unwrap().parse().unwrap(), begun);
                let mut seen = seen.lock().unwrap();
                seen.reads += 1;
                seen.near += u64::from(answer.tier == Tier::Near);
                seen.oldest = seen.oldest.max(age);
            }
            tokio::task::yield_now().await;
        }
    });
    let writer = async {
        let end = Instant::now() + span;
        let mut n = 0;
        while Instant::now() < end {
            n += 1;
            let at = fastrand::usize(..KEYS);
            let key = format!("strata:k:names:k{at}");
            let version = rows[at].version.fetch_add(1, Ordering::SeqCst) + 1;
            let command = match n % 5 {
                0 => redis::cmd("SET").arg(&key).arg("foreign").to_owned(),
                1 => redis::cmd("RENAME").arg(&key).arg("elsewhere").to_owned(),
                2 => redis::cmd("PEXPIREAT").arg(&key).arg(1).to_owned(),
                3 => redis::cmd("EVAL").arg("return redis.call('DEL',KEYS[1])").arg(1).arg(&key).to_owned(),
                _ => redis::cmd("DEL").arg(&key).to_owned(),
            };
            // a key that is missing is not renamed
            let _ = command.query_async::<redis::Value>(&mut other).await;
            rows[at].known.lock().unwrap().insert(version, Instant::now());
            if cuts && n % 50 == 0 {
                kill_tracked(&server);
            }
            sleep(Duration::from_millis(1)).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(readers), writer);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    println!("{tracking:?}, cuts {cuts}: {seen:?}");
    seen
}

#[tokio::test]
async fn no_reader_serves_what_a_foreign_writer_replaced_for_longer_than_a_push_takes() {
    for tracking in EACH {
        for cuts in [false, true] {
            let seen = play(tracking, cuts, Duration::from_secs(3)).await;
            assert!(seen.oldest < SOON, "{tracking:?}, cuts {cuts}: {seen:?}");
            assert!(seen.near > 100, "{tracking:?}: {seen:?}");
        }
    }
    // and without tracking it would show
    assert!(play(Tracking::Off, false, 2 * SOON).await.oldest > SOON);
}
