//! The sending direction of a TCP connection of this host.
//!
//! Heads, the framing of chunks and small pieces are gathered in one buffer, large pieces are sent from where they are, all
//! with one call to the kernel where it takes them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite as _;

use crate::logic::http::fields::Fields;
use crate::logic::http::framing::Framing;
use crate::logic::http::h1::write;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::stream::reader::Socket;

/// Pieces up to this size are copied together.
const COPY_BYTES_MAX: usize = 4 << 10;
/// As soon as so much is gathered, it is sent before more is taken.
const GATHER_BYTES_MAX: usize = 16 << 10;

/// Where the bytes of one connection go to.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: Socket,
    /// What is sent first.
    gathered: Vec<u8>,
    /// How much of `gathered` was sent.
    sent: usize,
    /// What is sent after it, from where it is.
    large: Bytes,
    /// What is sent last.
    after: Vec<u8>,
    framing: Framing,
    /// The end of the body was taken.
    over: bool,
    /// Bytes that the body still owes, where its length is known.
    left: u64,
    /// The stream ends with the body, and is shut down when all is sent.
    closing: bool,
    closed: bool,
    /// Whether anything was sent since [`Writer::take_wrote`].
    wrote: bool,
}

impl Writer {
    /// Makes the sending direction of a connection.
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            gathered: Vec::new(),
            sent: 0,
            large: Bytes::new(),
            after: Vec::new(),
            framing: Framing::None,
            over: true,
            left: 0,
            closing: false,
            closed: false,
            wrote: false,
        }
    }

    /// Gathers a head by `write`, which returns how the body is delimited that follows.
    pub(crate) fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Framing) {
        debug_assert!(self.large.is_empty(), "the last body was sent");
        let framing = write(&mut self.gathered);
        self.expect(framing);
    }

    /// Says how what follows is framed.
    pub(crate) fn expect(&mut self, framing: Framing) {
        self.left = if let Framing::Length(length) = framing { length } else { 0 };
        self.framing = framing;
        self.over = false;
    }

    /// Returns whether nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.gathered.len() && self.large.is_empty() && self.after.is_empty()
    }

    /// Returns whether the whole body was taken, and sent.
    pub(crate) fn is_complete(&self) -> bool {
        self.over && self.is_empty()
    }

    /// Returns whether only a closed connection tells the end of the body.
    pub(crate) fn ends_by_closing(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    /// Says that nothing follows: the stream is shut down when all is sent.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Returns whether something was sent since the last call.
    pub(crate) fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// Waits until the next piece can be taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.large.is_empty() && self.gathered.len() - self.sent < GATHER_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(cx)
    }

    /// Takes some bytes of the body.
    ///
    /// # Errors
    /// When they are more than the head has announced: nothing of them is sent.
    pub(crate) fn data(&mut self, data: Bytes) -> Result<(), Failed> {
        match self.framing {
            Framing::None => return Err(Failed::new(Failure::BadResponse, "a body where there can be none")),
            Framing::Length(_) => {
                let left = self.left.checked_sub(data.len() as u64);
                self.left =
                    left.ok_or_else(|| Failed::new(Failure::BadResponse, "more than its Content-Length"))?;
            }
            Framing::Chunked => write::chunk_begin(data.len(), &mut self.gathered),
            Framing::UntilClose => {}
        }
        let chunked = matches!(self.framing, Framing::Chunked);
        if data.len() <= COPY_BYTES_MAX {
            self.gathered.extend_from_slice(&data);
            if chunked {
                write::chunk_end(&mut self.gathered);
            }
        } else {
            self.large = data;
            if chunked {
                write::chunk_end(&mut self.after);
            }
        }
        Ok(())
    }

    /// Takes the end of the body.
    ///
    /// # Errors
    /// When the head has announced more.
    pub(crate) fn end(&mut self, trailers: Option<&Fields>) -> Result<(), Failed> {
        match self.framing {
            Framing::Length(_) if self.left > 0 => {
                return Err(Failed::new(Failure::Truncated, "less than its Content-Length"));
            }
            Framing::None | Framing::Length(_) => {}
            Framing::Chunked => {
                let out = if self.large.is_empty() { &mut self.gathered } else { &mut self.after };
                write::last_chunk(trailers, out);
            }
            Framing::UntilClose => self.closing = true,
        }
        self.over = true;
        Ok(())
    }

    /// Sends all that was taken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.poll_send(cx).map_err(|error| Failed::new(Failure::CallerGone, error))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket.borrow_mut();
        let mut socket = Pin::new(&mut *socket);
        loop {
            let first = &self.gathered[self.sent..];
            if self.large.is_empty() && self.after.is_empty() {
                if first.is_empty() {
                    break;
                }
                let count = ready!(socket.as_mut().poll_write(cx, first))?;
                self.wrote = true;
                self.sent += count;
                continue;
            }
            let slices = [IoSlice::new(first), IoSlice::new(&self.large), IoSlice::new(&self.after)];
            let mut count = ready!(socket.as_mut().poll_write_vectored(cx, &slices))?;
            self.wrote = true;
            let of_first = count.min(first.len());
            self.sent += of_first;
            count -= of_first;
            let of_large = count.min(self.large.len());
            self.large.advance(of_large);
            count -= of_large;
            self.after.drain(..count);
        }
        self.gathered.clear();
        self.sent = 0;
        if self.closing && !self.closed {
            ready!(socket.as_mut().poll_shutdown(cx))?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the buffers back.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.gathered = Vec::new();
            self.after = Vec::new();
        }
    }
}
