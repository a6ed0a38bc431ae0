//! Writes that wait one turn for company.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pulse::Pulse;

/// A write of this many bytes fills packets by itself and goes out at once.
const FULL: usize = 16 * 1024;

/// A stream whose writes let the other tasks that are ready run first.
///
/// The driver writes as soon as one command is queued. Commands that other tasks are about to queue would each become
/// a packet and a system call of their own; one turn of the scheduler later they go out together. There is no timer,
/// and a call that is alone does not wait. What comes in is heard by the server's pulse.
pub(crate) struct Gather<S> {
    stream: S,
    /// The calls under way.
    calls: Arc<AtomicUsize>,
    pulse: Arc<Pulse>,
    waited: bool,
}

impl<S> Gather<S> {
    pub(crate) fn new(stream: S, calls: Arc<AtomicUsize>, pulse: Arc<Pulse>) -> Self {
        Self { stream, calls, pulse, waited: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.hear();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.waited && buf.len() < FULL && self.calls.load(Ordering::Relaxed) > 1 {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // everything gathered is written now; the next write waits again
        self.waited = false;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_is_lost_or_reordered() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut near = Gather::new(near, Arc::new(AtomicUsize::new(2)), Arc::default());
        let sent: Vec<u8> = (0..50_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            for part in sent.chunks(777) {
                near.write_all(part).await.unwrap();
                near.flush().await.unwrap();
            }
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert_eq!(got, expected);
    }

    #[tokio::test]
    async fn what_comes_in_is_heard_before_it_is_a_whole_reply() {
        let (near, mut far) = tokio::io::duplex(100);
        let pulse = Arc::new(Pulse::default());
        let mut near = Gather::new(near, Arc::default(), Arc::clone(&pulse));
        pulse.miss(pulse.mark(), tokio::time::Instant::now());
        near.write_all(b"PING").await.unwrap();
        assert!(pulse.is_silent(), "what goes out is no sign of life");
        far.write_all(b"$").await.unwrap();
        near.read_u8().await.unwrap();
        assert!(!pulse.is_silent());
    }

    #[tokio::test]
    async fn a_write_waits_one_turn_for_company_and_none_without() {
        let (near, mut far) = tokio::io::duplex(1000);
        let calls = Arc::new(AtomicUsize::new(1));
        let mut near = Gather::new(near, Arc::clone(&calls), Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut near).poll_write(&mut cx, b"alone").is_ready());
        calls.store(2, Ordering::Relaxed);
        for _ in 0..2 {
            assert!(Pin::new(&mut near).poll_flush(&mut cx).is_ready());
            assert!(Pin::new(&mut near).poll_write(&mut cx, b"both").is_pending());
            assert!(Pin::new(&mut near).poll_write(&mut cx, b"both").is_ready());
            assert!(Pin::new(&mut near).poll_write(&mut cx, b"rest").is_ready(), "one turn a flush");
        }
        assert!(Pin::new(&mut near).poll_flush(&mut cx).is_ready());
        assert!(Pin::new(&mut near).poll_write(&mut cx, &[0; FULL]).is_ready(), "enough by itself");
        let mut got = [0; 21];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"alonebothrestbothrest");
    }
}
