//! One connection as a pipeline: a task owns it, callers hand it commands and wait for the answers.
//!
//! A caller may go at any time: what it handed over is still sent as a whole, and its answers are dropped. A lost
//! connection fails what was under way and is made anew for the next call; after a failed attempt calls fail at once
//! until the wait before the next one is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cache_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::builder::Config;
use crate::error;
use crate::reply::{self, Reply};
use crate::request::{Expected, Request};

/// How many calls may wait for a connection to take them.
const QUEUE: usize = 1024;
/// How many bytes of commands are written at once.
const BATCH: usize = 64 * 1024;
/// No answer may claim to be longer: the largest item that a server can be told to take.
const LARGEST: usize = 1 << 30;

/// A handle of the connection; its task ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    request: Request,
    done: oneshot::Sender<Result<Vec<Reply>>>,
}

/// What is still to be answered to a call.
struct Pending {
    expected: VecDeque<Expected>,
    replies: Vec<Reply>,
    done: oneshot::Sender<Result<Vec<Reply>>>,
}

impl Lane {
    /// A connection that is made when it is first needed.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(config, queue));
        Self { calls }
    }

    /// The answers to `request`, one for each of its commands; an error line is an answer.
    pub(crate) async fn call(&self, request: Request, deadline: Instant) -> Result<Vec<Reply>> {
        let count = request.expected.len();
        let (done, answer) = oneshot::channel();
        let call = async {
            self.calls.send(Call { request, done }).await.map_err(|_| error::lost())?;
            answer.await.unwrap_or_else(|_| Err(error::lost()))
        };
        let replies = tokio::time::timeout_at(deadline, call).await.map_err(|_| error::late())??;
        if replies.len() == count { Ok(replies) } else { Err(error::garbled("answers are missing")) }
    }
}

async fn run(config: Arc<Config>, mut queue: mpsc::Receiver<Call>) {
    let mut wait = Duration::ZERO;
    while let Some(call) = queue.recv().await {
        if call.done.is_closed() {
            continue;
        }
        match connect(&config).await {
            Ok(stream) => {
                wait = Duration::ZERO;
                serve(&config, stream, call, &mut queue).await;
            }
            Err(fault) => {
                wait = (wait * 2).clamp(config.backoff_min, config.backoff_max);
                let span = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
                tracing::debug!(error = %fault, "memcached can't be reached");
                refuse(call, fault, span, &mut queue).await;
            }
        }
    }
}

/// Fails every call for `span`.
async fn refuse(call: Call, fault: Error, span: Duration, queue: &mut mpsc::Receiver<Call>) {
    let fault = fault.with_retry_after(span);
    let _ = call.done.send(Err(fault.clone()));
    let until = Instant::now() + span;
    while let Ok(Some(call)) = tokio::time::timeout_at(until, queue.recv()).await {
        let _ = call.done.send(Err(fault.clone()));
    }
}

/// A connection that is logged in.
async fn connect(config: &Config) -> Result<TcpStream> {
    let attempt = async {
        let address = (config.host.as_str(), config.port);
        let mut stream = TcpStream::connect(address).await.map_err(|fault| {
            Error::new(ErrorKind::Unavailable, format!("can't connect to {}:{}", config.host, config.port))
                .with_cause(fault)
        })?;
        stream.set_nodelay(true).ok();
        if let Some((user, password)) = &config.login {
            login(&mut stream, Request::default().login(user, &password.0)).await?;
        }
        Ok(stream)
    };
    timeout(config.connect_timeout, attempt).await.unwrap_or_else(|_| {
        let text = format!("{}:{} did not answer within {:?}", config.host, config.port, config.connect_timeout);
        Err(Error::new(ErrorKind::Unavailable, text))
    })
}

async fn login(stream: &mut TcpStream, request: Request) -> Result<()> {
    let closed = |_| Error::new(ErrorKind::Unavailable, "the server closed the connection during the login");
    stream.write_all(&request.bytes).await.map_err(closed)?;
    let mut buffer = BytesMut::new();
    loop {
        match reply::take(&mut buffer, Expected::One, LARGEST)? {
            Some(Reply::Refused(_)) => {
                return Err(Error::new(ErrorKind::Denied, "user or password is wrong"));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if stream.read_buf(&mut buffer).await.map_err(closed)? == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "the server closed the connection during the login"));
        }
    }
}

/// Sends calls until the connection or the last handle is gone.
async fn serve(config: &Config, stream: TcpStream, first: Call, queue: &mut mpsc::Receiver<Call>) {
    let (read, mut write) = stream.into_split();
    let (sent, pending) = mpsc::unbounded_channel();
    let mut reader = tokio::spawn(answer(read, pending, config.timeout * 2));
    let mut next = Some(first);
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => tokio::select! {
                _ = &mut reader => break,
                call = queue.recv() => match call {
                    Some(call) => call,
                    None => break,
                },
            },
        };
        let mut bytes = BytesMut::new();
        take_over(call, &mut bytes, &sent);
        while bytes.len() < BATCH
            && let Ok(call) = queue.try_recv()
        {
            take_over(call, &mut bytes, &sent);
        }
        let written = tokio::select! {
            _ = &mut reader => false,
            written = put(&mut write, &bytes, config.timeout * 2) => written,
        };
        if !written {
            break;
        }
    }
    reader.abort();
}

async fn put(write: &mut OwnedWriteHalf, bytes: &[u8], limit: Duration) -> bool {
    matches!(timeout(limit, write.write_all(bytes)).await, Ok(Ok(())))
}

/// Notes what is to be answered before the bytes go out. A call whose caller has gone is left out.
fn take_over(call: Call, bytes: &mut BytesMut, sent: &mpsc::UnboundedSender<Pending>) {
    let Call { request, done } = call;
    if done.is_closed() {
        return;
    }
    bytes.extend_from_slice(&request.bytes);
    let replies = Vec::with_capacity(request.expected.len());
    let _ = sent.send(Pending { expected: request.expected.into(), replies, done });
}

/// Hands answers to the calls in their order, until the connection ends, makes no sense, or is silent for `limit`
/// while an answer is due.
async fn answer(mut read: OwnedReadHalf, mut pending: mpsc::UnboundedReceiver<Pending>, limit: Duration) {
    let mut buffer = BytesMut::new();
    let mut front: Option<Pending> = None;
    loop {
        while let Some(call) = front.take().or_else(|| pending.try_recv().ok()) {
            match progress(call, &mut buffer) {
                Ok(None) => {}
                Ok(Some(call)) => {
                    front = Some(call);
                    break;
                }
                Err(fault) => {
                    tracing::warn!(error = %fault, "a memcached connection is given up");
                    return;
                }
            }
        }
        let read = if front.is_some() {
            match timeout(limit, read.read_buf(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return,
            }
        } else {
            tokio::select! {
                biased;
                call = pending.recv() => match call {
                    Some(call) => {
                        front = Some(call);
                        continue;
                    }
                    None => return,
                },
                read = read.read_buf(&mut buffer) => {
                    // a call is noted before its bytes go out, so what answers nothing is the end, or noise
                    front = pending.try_recv().ok();
                    if front.is_none() {
                        return;
                    }
                    read
                }
            }
        };
        if !matches!(read, Ok(1..)) {
            return;
        }
    }
}

/// Takes the answers of `call` that are there; the call, if some are still to come.
fn progress(mut call: Pending, buffer: &mut BytesMut) -> Result<Option<Pending>> {
    while let Some(expected) = call.expected.front() {
        match reply::take(buffer, *expected, LARGEST)? {
            // the server closes the connection after it, without a word about what else it was asked
            Some(Reply::Refused(fault)) if fault.reply() == Some(cache_core::Reply::NoAuth) => {
                let _ = call.done.send(Err(fault.clone()));
                return Err(fault);
            }
            Some(reply) => {
                call.replies.push(reply);
                call.expected.pop_front();
            }
            None => return Ok(Some(call)),
        }
    }
    let _ = call.done.send(Ok(call.replies));
    Ok(None)
}
