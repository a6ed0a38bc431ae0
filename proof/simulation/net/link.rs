//! A process's side of the network.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Memory, Result};
use fastrand::Rng;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::lane::{Lane, Reply, Request};
use super::weather::{Ill, Latency, Weather};

/// How many connections carry a process's calls.
const LANES: usize = 2;

/// A process's side of the network.
#[derive(Clone)]
pub(crate) struct Link {
    server: Arc<Mutex<Memory>>,
    pub(super) weather: Arc<Weather>,
    lanes: Arc<Mutex<[Option<Lane>; LANES]>>,
    /// How long a caller waits for its reply.
    deadline: Duration,
}

impl Link {
    pub(crate) fn new(server: Memory, rng: Rng, latency: Latency, deadline: Duration, delay: Duration) -> Self {
        let weather = Arc::new(Weather::new(rng, latency, delay));
        Self { server: Arc::new(Mutex::new(server)), weather, lanes: Arc::default(), deadline }
    }

    /// It suffers from `ill` for `span`.
    pub(crate) fn ail(&self, ill: Ill, span: Duration) {
        self.weather.ail(ill, span);
    }

    /// The server that connections are made to.
    pub(super) fn server(&self) -> Memory {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on connections are made to another server; those that there were break.
    pub(crate) fn turn_to(&self, server: Memory) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
        self.cut();
    }

    /// Every connection breaks; what is under way is lost.
    pub(crate) fn cut(&self) {
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        self.weather.cut();
    }

    /// The process is killed: nothing leaves it or enters it any more.
    pub(crate) fn kill(&self) {
        self.weather.kill();
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }

    /// Stands still while the process is stopped.
    pub(crate) async fn running(&self) {
        self.weather.over(Ill::Stopped).await;
    }

    /// Sends `call` to the server and waits for its reply.
    pub(super) async fn call<T, F, Fut>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Memory) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        self.running().await;
        let (told, answer) = oneshot::channel();
        let refused = self.weather.has(Ill::Refused);
        if refused {
            tokio::time::sleep(self.weather.travel()).await;
            drop(told);
        } else {
            let request: Request = Box::new(move |server| {
                Box::pin(async move {
                    let result = call(server).await;
                    // the caller may have given up
                    Box::new(move || drop(told.send(result))) as Reply
                })
            });
            self.send(request);
        }
        let answer = timeout(self.deadline, answer).await;
        self.running().await;
        match answer {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the connection broke").with_store("simulated")),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no reply in time").with_store("simulated")),
        }
    }

    fn send(&self, request: Request) {
        let arrives = Instant::now() + self.weather.travel();
        let chosen = self.weather.rng().usize(..LANES);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes[chosen].get_or_insert_with(|| Lane::open(chosen, self.server(), &self.weather));
        lane.send(arrives, request);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}
