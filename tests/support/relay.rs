//! A relay before a server that counts round trips and bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A relay on a loopback port of its own. A round trip is a request, in however many pieces, that follows silence or a
/// reply on its connection; pushes that nobody asked for are none.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    trips: AtomicU64,
    bytes: AtomicU64,
}

impl Relay {
    /// A relay before the server at `target`.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn spawn(target: String) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::<Counts>::default();
        let count = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), Arc::clone(&count)));
            }
        });
        Ok(Self { address, counts, accepting })
    }

    /// A url that leads through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The round trips so far, of all connections.
    #[must_use]
    pub fn trips(&self) -> u64 {
        self.counts.trips.load(Ordering::SeqCst)
    }

    /// The bytes so far, of all connections and both ways.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, target: String, counts: Arc<Counts>) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut replies) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut asked = false;
    loop {
        tokio::select! {
            // a reply that came is taken first: what follows it is another round trip
            biased;
            n = server.read(&mut replies) => match n? {
                0 => return Ok(()),
                n => {
                    asked = false;
                    counts.bytes.fetch_add(n as u64, Ordering::SeqCst);
                    client.write_all(&replies[..n]).await?;
                }
            },
            n = client.read(&mut requests) => match n? {
                0 => return Ok(()),
                n => {
                    if !asked {
                        counts.trips.fetch_add(1, Ordering::SeqCst);
                    }
                    counts.bytes.fetch_add(n as u64, Ordering::SeqCst);
                    asked = true;
                    server.write_all(&requests[..n]).await?;
                }
            },
        }
    }
}
