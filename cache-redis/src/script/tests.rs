use cache_core::{Atomic, Bus, Change, Lease, Leases, Line, NodeId, Stamp};

use crate::Redis;
use crate::testkit::Server;

use super::*;

/// How often the server ran `command`.
fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let field = format!("cmdstat_{command}:calls=");
    let calls = stats.lines().find_map(|line| line.strip_prefix(&field)?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

#[tokio::test]
async fn scripts_are_loaded_ahead_and_a_flush_costs_one_round_trip() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    let bytes = bytes::Bytes::from_static;
    let span = std::time::Duration::from_secs(5);
    let line = Line { seq: "s".into(), channel: "c".into(), tags: "t".into() };
    for flushed in [false, true] {
        let run = async || {
            assert_eq!(redis.add("n", 2, span).await.unwrap() % 2, 0);
            assert!(!redis.compare_and_set("c", &bytes(b"a"), bytes(b"b"), span).await.unwrap());
            assert!(!redis.compare_and_delete("c", &bytes(b"a")).await.unwrap());
            assert!(redis.change(&line, NodeId(1), &["k"], Change::Delete).await.unwrap().n > 0);
            assert!(redis.bump(&line, NodeId(1), 1, 1, span).await.unwrap() > 0);
            assert_eq!(redis.generations(&line, &[1], 1, span).await.unwrap().bumps.len(), 1);
            assert!(redis.beat(&line).await.unwrap().seq.is_some());
            assert_eq!(redis.lease("k", Stamp(1), span).await.unwrap(), Lease::Granted);
            redis.wait("k", Stamp(1)).await.unwrap();
            assert!(redis.renew("k", Stamp(1), span).await.unwrap());
            assert!(redis.fill("k", Stamp(1), bytes(b"x"), span, "c").await.unwrap());
            assert!(!redis.refresh("k", Stamp(1), bytes(b"y"), span).await.unwrap());
            assert!(!redis.release("k", Stamp(1), "c").await.unwrap());
        };
        if flushed {
            server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        }
        run().await;
        let texts = calls(&server, "eval");
        assert_eq!(texts > 0, flushed, "{texts} texts were sent");
        run().await;
        assert_eq!(calls(&server, "eval"), texts, "a text is sent once");
    }
}

#[test]
fn texts_differ_and_stay_within_the_limits_of_all_servers() {
    let mut hashes: Vec<_> = BODIES.iter().map(|body| redis::Script::new(body).get_hash().to_owned()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), BODIES.len());
    for body in BODIES {
        // a number joined to a text has 14 digits only, and a shebang is not understood by all
        assert!(!body.starts_with("#!"), "{body}");
        assert!(!body.contains("tostring"), "{body}");
    }
}
