//! The first connection: who is let in, and how mistakes read.

use std::time::{Duration, Instant};

use cache_core::testkit::PATIENT;
use cache_core::{CacheService, ErrorKind, Reply};

use super::TTL;
use crate::Redis;
use crate::testkit::{Direction, Proxy, Server};

const SECRET: &str = "hunter2-Zx9";

async fn works(redis: &Redis) {
    redis.set("a", "1".into(), TTL).await.unwrap();
    assert_eq!(redis.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    let mut sub = redis.link().subscribe(vec!["c".to_owned()]).await.unwrap();
    let _: u64 = redis.link().call("test", redis::cmd("PUBLISH").arg("c").arg("hi")).await.unwrap();
    assert!(sub.next().await.is_some());
}

#[tokio::test]
async fn resp3_is_spoken_and_resp2_where_hello_is_unknown() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    works(&redis).await;
    assert!(info(&redis).await.contains(" resp=3"), "{}", info(&redis).await);

    let old = Server::builder().args(&["--rename-command", "HELLO", ""]).spawn().unwrap();
    let redis = Redis::connect(old.patient_url()).await.unwrap();
    works(&redis).await;
    assert!(info(&redis).await.contains(" resp=2"), "{}", info(&redis).await);

    let error = Redis::connect(format!("{}?{PATIENT}&protocol=resp3", old.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let redis = Redis::builder().url(server.patient_url()).resp2().connect().await.unwrap();
    assert!(info(&redis).await.contains(" resp=2"));
}

#[tokio::test]
async fn the_refusal_of_resp3_is_remembered() {
    let old = Server::builder().args(&["--rename-command", "HELLO", ""]).spawn().unwrap();
    let redis = Redis::connect(old.patient_url()).await.unwrap();
    let attempts = || {
        let stats = old.cli(&["INFO", "stats"]).unwrap();
        stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")?.trim().parse::<u64>().ok())
    };
    let before = attempts().unwrap();
    redis.set("a", vec![0; 100_000].into(), TTL).await.unwrap();
    // one connection for the large value and one for each question
    assert_eq!(attempts().unwrap(), before + 2);
}

#[tokio::test]
async fn passwords_over_both_protocols() {
    for hidden in [false, true] {
        let mut builder = Server::builder().password(SECRET);
        if hidden {
            builder = builder.args(&["--rename-command", "HELLO", ""]);
        }
        let server = builder.spawn().unwrap();
        works(&Redis::connect(server.patient_url()).await.unwrap()).await;

        let wrong = format!("redis://:{SECRET}x@{}?{PATIENT}", server.address());
        let error = Redis::connect(&wrong).await.unwrap_err();
        assert_eq!((error.kind(), error.reply()), (ErrorKind::Denied, Some(Reply::WrongPass)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");

        let error = Redis::connect(format!("redis://{}?{PATIENT}", server.address())).await.unwrap_err();
        assert_eq!((error.kind(), error.reply()), (ErrorKind::Denied, Some(Reply::NoAuth)), "{error:?}");
        assert!(error.to_string().contains("password"), "{error}");
    }
}

#[tokio::test]
async fn an_acl_user_needs_no_more_than_its_keys() {
    let lines = format!(
        "user default off\nuser admin on >admin ~* &* +@all\nuser app on >{SECRET} ~app:* &c +@read +@write +@connection +subscribe +publish -@dangerous\n"
    );
    let server = Server::builder().acl(lines, "admin", "admin").spawn().unwrap();
    let redis = Redis::connect(format!("redis://app:{SECRET}@{}?{PATIENT}", server.address())).await.unwrap();
    redis.set("app:a", "1".into(), TTL).await.unwrap();
    assert_eq!(redis.link().run(), 0, "INFO is not allowed");
    for error in [redis.get("other").await.unwrap_err(), redis.get_many(&["app:a", "other"]).await.unwrap_err()] {
        assert_eq!((error.kind(), error.reply()), (ErrorKind::Denied, Some(Reply::NoPerm)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("other"), "{error:?}");
    }
    redis.link().subscribe(vec!["c".to_owned()]).await.unwrap();
    let error = redis.link().subscribe(vec!["d".to_owned()]).await.unwrap_err();
    assert_eq!(error.reply(), Some(Reply::NoPerm), "{error:?}");
    assert!(!format!("{redis:?}").contains(SECRET), "{redis:?}");
}

#[tokio::test]
async fn databases_are_kept_apart() {
    let server = Server::spawn().unwrap();
    let zero = Redis::connect(server.patient_url()).await.unwrap();
    let two = Redis::connect(format!("{}/2?{PATIENT}", server.url())).await.unwrap();
    two.set("a", vec![1; 100_000].into(), TTL).await.unwrap();
    assert_eq!(zero.get("a").await.unwrap(), None);
    assert_eq!(two.get("a").await.unwrap().map(|v| v.len()), Some(100_000));
    let error = Redis::connect(format!("{}/999?{PATIENT}", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("db"), "{error}");
}

#[tokio::test]
async fn unix_sockets() {
    let server = Server::builder().unix_socket().spawn().unwrap();
    let path = server.socket().unwrap();
    works(&Redis::connect(format!("redis+unix://{}?{PATIENT}", path.display())).await.unwrap()).await;
    works(&Redis::connect(format!("unix://{}?{PATIENT}&db=1", path.display())).await.unwrap()).await;
    works(&Redis::builder().unix(&path).connect_timeout(Duration::from_secs(10)).connect().await.unwrap()).await;
    let error = Redis::connect("unix:///no/such.sock").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no socket at /no/such.sock"), "{error}");
}

#[tokio::test]
async fn what_does_not_answer_is_named_in_time() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Redis::connect(format!("redis://127.0.0.1:{port}?{PATIENT}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port} refused; check")), "{error}");

    let error = Redis::connect("redis://no-such-host.invalid").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("check its name") || error.to_string().contains("within"), "{error}");

    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    proxy.stall(Direction::Both);
    let began = Instant::now();
    let builder = Redis::builder().url(proxy.url()).connect_timeout(Duration::from_millis(150));
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("within 150 ms"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_of_another_kind_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = Redis::connect(format!("redis://127.0.0.1:{port}?{PATIENT}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("not of the redis protocol"), "{error}");
}

#[tokio::test]
async fn server_errors_are_typed_and_hold_no_text_of_ours() {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    redis.set("zebra", "1".into(), TTL).await.unwrap();
    let _: () = redis.link().call("test", redis::cmd("LPUSH").arg("list").arg(1)).await.unwrap();
    let eval = |body: &str| redis::cmd("EVAL").arg(body).arg(1).arg("zebra").clone();
    for (cmd, kind, reply) in [
        (redis::cmd("GET").arg("list").clone(), ErrorKind::Conflict, Some(Reply::WrongType)),
        (redis::cmd("EVALSHA").arg("0".repeat(40)).arg(0).clone(), ErrorKind::Other, Some(Reply::NoScript)),
        (redis::cmd("ZEBRA").arg("zebra").clone(), ErrorKind::Config, None),
        (eval("return redis.error_reply('zebra '..KEYS[1])"), ErrorKind::Other, None),
        (eval("return redis.error_reply('OOM zebra')"), ErrorKind::Overloaded, Some(Reply::OutOfMemory)),
        (eval("return redis.error_reply('LOADING zebra')"), ErrorKind::Unavailable, Some(Reply::Loading)),
        (eval("return redis.error_reply('BUSY zebra')"), ErrorKind::Unavailable, Some(Reply::Busy)),
        (eval("return redis.error_reply('MISCONF zebra')"), ErrorKind::Unavailable, Some(Reply::Misconfigured)),
        (eval("return redis.error_reply('NOREPLICAS zebra')"), ErrorKind::Unavailable, Some(Reply::NoReplicas)),
        (eval("return redis.error_reply('MASTERDOWN zebra')"), ErrorKind::Unavailable, Some(Reply::MasterDown)),
        (eval("return redis.error_reply('CLUSTERDOWN zebra')"), ErrorKind::Unavailable, Some(Reply::ClusterDown)),
        (eval("return redis.error_reply('TRYAGAIN zebra')"), ErrorKind::Unavailable, Some(Reply::TryAgain)),
        (eval("return redis.error_reply('CROSSSLOT zebra')"), ErrorKind::Invalid, Some(Reply::CrossSlot)),
        (eval("return redis.error_reply('MOVED 1 zebra:1')"), ErrorKind::Config, Some(Reply::Moved)),
        (eval("return redis.error_reply('ASK 1 zebra:1')"), ErrorKind::Unavailable, Some(Reply::Ask)),
        (eval("return redis.call('INCR', KEYS[1]..'x', 'zebra')"), ErrorKind::Other, None),
        (redis::cmd("INCRBY").arg("zebra").arg(i64::MAX).clone(), ErrorKind::Conflict, None),
    ] {
        let single = redis.link().call::<redis::Value>("test", &cmd).await.unwrap_err();
        let mut pipe = redis::pipe();
        pipe.cmd("PING").add_command(cmd.clone());
        let piped = redis.link().pipe::<redis::Value>("test", &pipe).await.unwrap_err();
        for error in [single, piped] {
            assert_eq!((error.kind(), error.reply()), (kind, reply), "{error:?}");
            assert_eq!((error.operation(), error.store()), (Some("test"), Some("redis")));
            let text = format!("{error} {error:?}").to_lowercase();
            assert!(!text.contains("zebra"), "{text}");
        }
    }
    // still usable
    assert_eq!(redis.get("zebra").await.unwrap().as_deref(), Some(&b"1"[..]));
}

async fn info(redis: &Redis) -> String {
    redis.link().call("test", redis::cmd("CLIENT").arg("INFO")).await.unwrap()
}
