//! A connection of HTTP/2 that stops being read when its client floods it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::logic::http::flood::Meter;
use crate::net::clock;

/// A connection with its frames counted.
#[derive(Debug)]
pub(crate) struct Guard<S> {
    stream: S,
    meter: Meter,
    since: Instant,
    flooded: Rc<Cell<bool>>,
    stuck: Rc<Cell<bool>>,
}

impl<S> Guard<S> {
    /// Takes a connection of which nothing was read. The second value becomes true when it is flooded; it is to be closed
    /// then, since nothing more is read from it.
    pub(crate) fn new(stream: S) -> (Self, Rc<Cell<bool>>) {
        let flooded = Rc::new(Cell::new(false));
        let (meter, since, stuck) = (Meter::default(), clock::now(), Rc::default());
        let guard = Self { stream, meter, since, flooded: flooded.clone(), stuck };
        (guard, flooded)
    }

    /// Returns what tells whether the client is slow to take what was written to it.
    pub(crate) fn stuck(&self) -> Rc<Cell<bool>> {
        self.stuck.clone()
    }

    /// Notes what became of a write.
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.stuck.set(written.is_pending());
        let count = ready!(written)?;
        self.meter.sent(count);
        Poll::Ready(Ok(count))
    }

    /// Looks at the clock, which is only done when the free frames of a second are used up.
    fn judge(&mut self) {
        let now = clock::now();
        if now.saturating_duration_since(self.since) < Duration::from_secs(1) {
            self.flooded.set(true);
        } else {
            self.since = now;
            self.meter.renew();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flooded.get() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if this.meter.received(&buffer.filled()[before..]) {
            this.judge();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
