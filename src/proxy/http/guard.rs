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
}

impl<S> Guard<S> {
    /// Takes a connection of which nothing was read. The second value becomes true when it is flooded; it is to be closed
    /// then, since nothing more is read from it.
    pub(crate) fn new(stream: S) -> (Self, Rc<Cell<bool>>) {
        let flooded = Rc::new(Cell::new(false));
        let guard = Self { stream, meter: Meter::default(), since: clock::now(), flooded: flooded.clone() };
        (guard, flooded)
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
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.meter.sent(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.meter.sent(count);
        Poll::Ready(Ok(count))
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
