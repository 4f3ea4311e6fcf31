//! Copying both ways between two connections, until both ends have said all.
//!
//! The end of one direction is passed on as such (half-close) while the other goes on. Buffers follow ztunnel's: 1 KiB
//! for connections that say little, 16 KiB after 128 KiB, 256 KiB after 10 MiB, so that an idle connection is cheap and a
//! busy one fast.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A connection with one direction ended is given up when the other is silent for so long: whoever closed a socket
/// without reading on looks the same as one who only ended its own direction.
pub const HALF_CLOSED_IDLE: Duration = Duration::from_mins(5);

const SMALL: usize = 1 << 10;
const MEDIUM: usize = 16 << 10;
const LARGE: usize = 256 << 10;
const MEDIUM_AFTER: u64 = 128 << 10;
const LARGE_AFTER: u64 = 10 << 20;

/// Copies between `caller` and `callee` until both directions have ended. `progress` is told of bytes as they are passed
/// on: `(from the caller, from the callee)`.
///
/// # Errors
/// When either side failed, or a half-closed connection fell silent. Both sides should then be reset.
pub async fn splice<A, B>(
    caller: &mut A,
    callee: &mut B,
    mut progress: impl FnMut(u64, u64),
) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut there = Way::new();
    let mut back = Way::new();
    let mut patience: Option<(u64, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        let ended = there.poll_copy(cx, Pin::new(caller), Pin::new(callee), &mut |n| progress(n, 0))?;
        let answered = back.poll_copy(cx, Pin::new(callee), Pin::new(caller), &mut |n| progress(0, n))?;
        if ended.is_ready() && answered.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if ended.is_pending() && answered.is_pending() {
            return Poll::Pending;
        }
        let moved = there.total + back.total;
        let (seen, timer) = patience.get_or_insert_with(|| (moved, Box::pin(sleep(HALF_CLOSED_IDLE))));
        if *seen != moved {
            *seen = moved;
            timer.as_mut().reset(Instant::now() + HALF_CLOSED_IDLE);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "half-closed connection fell silent")))
    })
    .await
}

/// One direction.
struct Way {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    total: u64,
    unflushed: bool,
    read_all: bool,
    done: bool,
}

impl Way {
    fn new() -> Self {
        let buffer = vec![0; SMALL].into_boxed_slice();
        Self { buffer, start: 0, end: 0, total: 0, unflushed: false, read_all: false, done: false }
    }

    /// Copies as much as both sides take; ready when all is passed on and the end is too.
    fn poll_copy<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        progress: &mut dyn FnMut(u64),
    ) -> Poll<io::Result<()>> {
        while !self.done {
            if self.start == self.end && !self.read_all {
                self.grow();
                let mut buf = ReadBuf::new(&mut self.buffer);
                if from.as_mut().poll_read(cx, &mut buf)?.is_pending() {
                    return self.poll_flush(cx, to);
                }
                (self.start, self.end) = (0, buf.filled().len());
                self.read_all = self.end == 0;
            }
            while self.start < self.end {
                let count = ready!(to.as_mut().poll_write(cx, &self.buffer[self.start..self.end]))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.start += count;
                self.total += count as u64;
                self.unflushed = true;
                progress(count as u64);
            }
            if self.read_all {
                match ready!(to.as_mut().poll_shutdown(cx)) {
                    // The other side has closed both directions already: it knows.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                    shut => shut?,
                }
                self.done = true;
                self.buffer = Box::default();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Makes the writer send on what it holds, while there is nothing to read.
    fn poll_flush<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, to: Pin<&mut W>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(to.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    fn grow(&mut self) {
        let wanted = match self.total {
            LARGE_AFTER.. => LARGE,
            MEDIUM_AFTER.. => MEDIUM,
            _ => SMALL,
        };
        if self.buffer.len() < wanted {
            self.buffer = vec![0; wanted].into_boxed_slice();
        }
    }
}
