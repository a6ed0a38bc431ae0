use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[test]
fn a_server_answers_restarts_empty_and_dies_with_its_handle() {
    let mut server = Server::spawn().unwrap();
    assert_eq!(server.cli(&["SET", "k", "v"]).unwrap(), "OK");
    assert_eq!(server.cli(&["GET", "k"]).unwrap(), "v");
    assert!(server.cli(&["INCR", "k"]).unwrap_err().to_string().contains("not an integer"));
    assert!(server.make().unwrap().release() >= (6, 2), "{:?}", server.make());
    let (port, pid) = (server.port(), server.pid());
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.cli(&["DBSIZE"]).unwrap(), "0");
    server.kill();
    assert_eq!(server.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    server.restart().unwrap();
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_paused_server_holds_its_sockets_and_answers_later() {
    let server = Server::spawn().unwrap();
    server.pause().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    assert!(io::Read::read_exact(&mut stream, &mut reply).is_err());
    server.resume().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    io::Read::read_exact(&mut stream, &mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn passwords_acls_and_sockets_are_set_up() {
    let server = Server::builder().password("secret").unix_socket().spawn().unwrap();
    assert_eq!(server.cli(&["PING"]).unwrap(), "PONG");
    let bare = format!("redis://{}", server.address());
    assert!(server::ask(&bare, &["PING"]).is_err());
    assert_eq!(server::ask(&server.url(), &["PING"]).unwrap(), "PONG");
    assert!(server.socket().unwrap().exists());

    let lines = "user default off\nuser admin on >adminpass ~* &* +@all\nuser ro on >ropass ~* +@read +ping\n";
    let server = Server::builder().acl(lines, "admin", "adminpass").spawn().unwrap();
    assert_eq!(server.cli(&["SET", "k", "v"]).unwrap(), "OK");
    let reader = format!("redis://ro:ropass@{}", server.address());
    assert!(server::ask(&reader, &["SET", "k", "w"]).is_err());
    assert_eq!(server::ask(&reader, &["GET", "k"]).unwrap(), "v");
}

#[test]
fn a_missing_binary_and_a_wrong_argument_say_what_is_wrong() {
    let fault = Server::builder().arg("--no-such-option").arg("1").spawn().unwrap_err().to_string();
    assert!(fault.contains("no-such-option"), "{fault}");
    assert!(Server::builder().binary("/no/such/file").spawn().is_err());
}

#[test]
fn a_sentinel_set_fails_over() {
    let mut set = Sentinel::spawn().unwrap();
    assert_eq!(set.primary().unwrap(), 0);
    set.servers()[0].cli(&["SET", "k", "v"]).unwrap();
    set.servers_mut()[0].kill();
    let next = set.await_primary_other_than(0).unwrap();
    assert_eq!(set.servers()[next].cli(&["SET", "k", "w"]).unwrap(), "OK");
}

#[test]
fn a_cluster_serves_every_slot_and_replaces_a_primary() {
    let mut cluster = Cluster::spawn().unwrap();
    let owners: Vec<_> = ["a", "b", "c", "d", "e", "f"].iter().map(|key| cluster.owner(key).unwrap()).collect();
    for owner in 0..3 {
        assert!(owners.contains(&owner), "{owners:?}");
    }
    let first = cluster.owner("a").unwrap();
    cluster.nodes_mut()[first].kill();
    cluster.await_ready().unwrap();
    assert_eq!(cluster.owner("a").unwrap(), first + 3);
}

async fn ping(stream: &mut tokio::net::TcpStream) -> io::Result<Duration> {
    let begin = Instant::now();
    stream.write_all(b"PING\r\n").await?;
    let mut reply = [0; 7];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut reply)).await??;
    assert_eq!(&reply, b"+PONG\r\n");
    Ok(begin.elapsed())
}

#[tokio::test]
async fn a_proxy_cuts_stalls_delays_and_refuses() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let connect = || tokio::net::TcpStream::connect(("127.0.0.1", proxy.port()));
    let mut stream = connect().await.unwrap();
    ping(&mut stream).await.unwrap();
    assert_eq!(proxy.connections(), 1);

    for (way, arrives) in [(Direction::Requests, false), (Direction::Replies, true)] {
        proxy.stall(way);
        let mark = format!("SET mark {way:?}\r\n");
        stream.write_all(mark.as_bytes()).await.unwrap();
        let mut byte = [0; 5];
        let held = tokio::time::timeout(Duration::from_millis(150), stream.read_exact(&mut byte)).await;
        assert!(held.is_err());
        assert_eq!(server.cli(&["GET", "mark"]).unwrap() == format!("{way:?}"), arrives);
        proxy.flow();
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"+OK\r\n");
    }

    proxy.delay_replies(Duration::from_millis(120));
    assert!(ping(&mut stream).await.unwrap() >= Duration::from_millis(120));
    proxy.delay_replies(Duration::ZERO);

    proxy.refuse(true);
    ping(&mut stream).await.unwrap();
    let mut other = connect().await.unwrap();
    assert!(ping(&mut other).await.is_err());
    proxy.refuse(false);

    proxy.cut();
    assert!(ping(&mut stream).await.is_err());
    ping(&mut connect().await.unwrap()).await.unwrap();
}
