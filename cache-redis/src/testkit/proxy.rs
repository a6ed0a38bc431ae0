//! A TCP proxy with switches for faults.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// One way of the traffic, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client: replies and pushes.
    Replies,
    /// Both ways.
    Both,
}

impl Direction {
    const fn covers(self, way: Self) -> bool {
        matches!((self, way), (Self::Both, _) | (Self::Requests, Self::Requests) | (Self::Replies, Self::Replies))
    }
}

#[derive(Clone, Debug, Default)]
struct Switches {
    /// Connections that belong to an earlier life are closed.
    life: u64,
    refuse: bool,
    stall: Option<Direction>,
    delay: Duration,
    mute: bool,
}

/// A TCP proxy on a loopback port of its own. Starts transparent; every switch acts on connections that are open and
/// on those to come. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    switches: Arc<watch::Sender<Switches>>,
    open: Arc<()>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `target`, such as `Server::address`.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn spawn(target: impl Into<String> + Send) -> io::Result<Self> {
        let target = target.into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let switches = Arc::new(watch::Sender::new(Switches::default()));
        let open = Arc::new(());
        let (seen, count) = (Arc::clone(&switches), Arc::clone(&open));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let switches = seen.subscribe();
                if !switches.borrow().refuse {
                    let (target, count) = (target.clone(), Arc::clone(&count));
                    tokio::spawn(async move {
                        serve(client, target, switches).await;
                        drop(count);
                    });
                }
            }
        });
        Ok(Self { address, switches, open, accepting })
    }

    /// The proxy's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// The proxy's address, as `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// A plain url that leads through the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Closes every open connection; new ones are served.
    pub fn cut(&self) {
        self.switches.send_modify(|s| s.life += 1);
    }

    /// Whether new connections are closed as soon as they are accepted. Open ones stay.
    pub fn refuse(&self, refuse: bool) {
        self.switches.send_modify(|s| s.refuse = refuse);
    }

    /// Holds back everything that goes in `direction`; connections stay open and nothing is lost.
    pub fn stall(&self, direction: Direction) {
        self.switches.send_modify(|s| s.stall = Some(direction));
    }

    /// Lets everything flow that was stalled.
    pub fn flow(&self) {
        self.switches.send_modify(|s| s.stall = None);
    }

    /// Delivers replies and pushes so much later, in their order.
    pub fn delay_replies(&self, delay: Duration) {
        self.switches.send_modify(|s| s.delay = delay);
    }

    /// Whether what the server sends on connections that have subscribed is swallowed: messages are lost, and nobody is
    /// told.
    pub fn mute_pushes(&self, mute: bool) {
        self.switches.send_modify(|s| s.mute = mute);
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        // beside the connections, the proxy and its accepting task count
        Arc::strong_count(&self.open).saturating_sub(2)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn serve(client: TcpStream, target: String, mut switches: watch::Receiver<Switches>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let life = switches.borrow().life;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let subscribed = Arc::new(AtomicBool::new(false));
    let requests = pump(from_client, to_server, Direction::Requests, switches.clone(), Arc::clone(&subscribed));
    let replies = pump(from_server, to_client, Direction::Replies, switches.clone(), subscribed);
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = switches.wait_for(|s| s.life != life) => {}
    }
}

/// Whether a request subscribes, as the client of this crate writes it: the command in one piece.
fn subscribes(request: &[u8]) -> bool {
    request.windows(9).any(|word| word.eq_ignore_ascii_case(b"SUBSCRIBE"))
}

/// Moves bytes until either end closes. Reading goes on while a chunk waits for its time, so a delay costs no
/// throughput.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Direction,
    switches: watch::Receiver<Switches>,
    subscribed: Arc<AtomicBool>,
) {
    let (send, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let delays = switches.clone();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let mut delay = Duration::ZERO;
            if way == Direction::Replies {
                let switches = delays.borrow();
                if switches.mute && subscribed.load(Ordering::Relaxed) {
                    continue;
                }
                delay = switches.delay;
            } else if subscribes(&buffer[..n]) {
                subscribed.store(true, Ordering::Relaxed);
            }
            if send.send((Instant::now() + delay, buffer[..n].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let mut switches = switches;
    let write = async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            let open = switches.wait_for(|s| !s.stall.is_some_and(|stall| stall.covers(way))).await.is_ok();
            if !open || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
