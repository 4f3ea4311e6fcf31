//! The connection of an HTTP/1 client, with the limits of our patience that hyper does not know.
//!
//! - A head that has begun must be complete within [`HEAD_TIME`]; between requests a client may be silent for longer.
//! - The end of a client's stream while its request is under way may mean that it left, or only that it has no more to
//!   say. The two look the same until something is written back. hyper takes it for the first, at once. Here it is told
//!   when nothing was written for [`LEAVE_TIME`]: a client that only ended its own direction gets an answer that comes in
//!   time, and the work for one that left stops soon.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// From the first byte of a request's head to its last.
pub const HEAD_TIME: Duration = Duration::from_secs(15);
/// From the end of a client's stream, or the last that was written to it since, until its request is given up.
pub const LEAVE_TIME: Duration = Duration::from_secs(1);

const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const TUNNEL: u8 = 2;

/// What a connection is at, as the service tells it.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<AtomicU8>);

impl Busy {
    /// Says that a request has come in.
    pub fn begin(&self) {
        self.0.store(ANSWERING, Ordering::Relaxed);
    }

    /// Says that its response is complete.
    pub fn end(&self) {
        // A tunnel is not HTTP any more: nothing ends it but its own end.
        _ = self.0.compare_exchange(ANSWERING, WAITING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Says that the connection carries something else than HTTP from here on, which has no limits of ours.
    pub fn tunnel(&self) {
        self.0.store(TUNNEL, Ordering::Relaxed);
    }

    fn state(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client's stream with limits.
#[derive(Debug)]
pub struct Patient<S> {
    inner: S,
    busy: Busy,
    head: Option<Pin<Box<Sleep>>>,
    ended: bool,
    left: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Wraps a stream; `busy` is to be kept up to date by its service.
    pub fn new(inner: S, busy: Busy) -> Self {
        Self { inner, busy, head: None, ended: false, left: None }
    }

    /// Begins the wait for a client that left anew: were it gone, writing would fail.
    fn talked(&mut self) {
        if let Some(timer) = &mut self.left {
            timer.as_mut().reset(Instant::now() + LEAVE_TIME);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let state = this.busy.state();
        if state == TUNNEL {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        if state == ANSWERING {
            this.head = None;
        }
        if !this.ended {
            let before = buf.filled().len();
            if Pin::new(&mut this.inner).poll_read(cx, buf)?.is_pending() {
                let Some(timer) = &mut this.head else { return Poll::Pending };
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if buf.filled().len() > before {
                if state == WAITING && this.head.is_none() {
                    this.head = Some(Box::pin(sleep(HEAD_TIME)));
                }
                return Poll::Ready(Ok(()));
            }
            this.ended = true;
        }
        if state == ANSWERING {
            ready!(this.left.get_or_insert_with(|| Box::pin(sleep(LEAVE_TIME))).as_mut().poll(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.talked();
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.talked();
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
