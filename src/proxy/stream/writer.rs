//! The sending direction of a TCP connection of this host.
//!
//! Heads, the framing of chunks and small pieces are gathered in one buffer, large pieces are sent from where they are, all
//! with one call to the kernel where it takes them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};

use crate::logic::http::fields::Fields;
use crate::logic::http::framing::Framing;
use crate::logic::http::h1::write;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::stream::reader::Socket;

/// Pieces up to this size are copied together.
const COPY_BYTES_MAX: usize = 4 << 10;
/// As soon as so much is gathered, it is sent before more is taken.
const GATHER_BYTES_MAX: usize = 64 << 10;
/// A head of usual size, and a small body after it, in bytes: taken at once rather than bit by bit.
const HEAD_BYTES: usize = 512;
/// Slices that one call to the kernel sends, and so many segments wait at most.
const SEGMENTS_MAX: usize = 16;

/// Where the bytes of one connection go to.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: Socket,
    /// What is sent first, from where it is.
    segments: VecDeque<Bytes>,
    /// What is sent last: copied together.
    gathered: BytesMut,
    /// How much waits to be sent.
    waiting: usize,
    framing: Framing,
    /// The end of the body was taken.
    over: bool,
    /// Bytes that the body still owes, where its length is known.
    left: u64,
    /// The stream ends with the body.
    leaving: bool,
    /// Nothing follows: the stream is shut down when all is sent.
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
            segments: VecDeque::new(),
            gathered: BytesMut::new(),
            waiting: 0,
            framing: Framing::None,
            over: true,
            left: 0,
            leaving: false,
            closing: false,
            closed: false,
            wrote: false,
        }
    }

    /// Gathers a head by `write`, which returns how the body is delimited that follows.
    pub(crate) fn begin(&mut self, write: impl FnOnce(&mut BytesMut) -> Framing) {
        self.gathered.reserve(HEAD_BYTES);
        let framing = self.gather(write);
        self.expect(framing);
    }

    /// Copies something together with what waits.
    fn gather<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let before = self.gathered.len();
        let written = write(&mut self.gathered);
        self.waiting += self.gathered.len() - before;
        written
    }

    /// Says how what follows is framed.
    pub(crate) fn expect(&mut self, framing: Framing) {
        self.left = if let Framing::Length(length) = framing { length } else { 0 };
        self.framing = framing;
        self.over = false;
    }

    /// Returns whether nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
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

    /// Says that nothing follows the next body: its last bytes and the end of the stream leave together.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Makes the coming close of the connection a reset.
    pub(crate) fn reset(&self) {
        self.socket.borrow().reset_on_close();
    }

    /// Returns whether something was sent since the last call.
    pub(crate) fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// Waits until the next piece can be taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.waiting < GATHER_BYTES_MAX && self.segments.len() < SEGMENTS_MAX / 2 {
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
            Framing::Chunked => self.gather(|out| write::chunk_begin(data.len(), out)),
            Framing::UntilClose => {}
        }
        if data.len() <= COPY_BYTES_MAX {
            self.gather(|out| out.extend_from_slice(&data));
        } else {
            if !self.gathered.is_empty() {
                self.segments.push_back(self.gathered.split().freeze());
            }
            self.waiting += data.len();
            self.segments.push_back(data);
        }
        if matches!(self.framing, Framing::Chunked) {
            self.gather(write::chunk_end);
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
            Framing::Chunked => self.gather(|out| write::last_chunk(trailers, out)),
            Framing::UntilClose => self.closing = true,
        }
        self.over = true;
        self.closing |= self.leaving;
        Ok(())
    }

    /// Sends all that was taken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.poll_send(cx).map_err(|error| Failed::new(Failure::CallerGone, error))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket.borrow_mut();
        while self.waiting > 0 {
            let count = if self.segments.is_empty() {
                let count = ready!(socket.poll_send(cx, &[IoSlice::new(&self.gathered)], self.closing))?;
                self.gathered.advance(count);
                count
            } else {
                let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
                let waiting = self.segments.iter().map(Bytes::as_ref).chain([self.gathered.as_ref()]);
                let used =
                    slices.iter_mut().zip(waiting).map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count();
                let count = ready!(socket.poll_send(cx, &slices[..used], self.closing))?;
                take(&mut self.segments, &mut self.gathered, count);
                count
            };
            self.waiting -= count;
            self.wrote = true;
        }
        // Given back at once: a connection that has nothing to say may have nothing to say for hours.
        self.gathered = BytesMut::new();
        if self.closing && !self.closed {
            ready!(socket.poll_shutdown(cx))?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes what was sent off what waits.
fn take(segments: &mut VecDeque<Bytes>, gathered: &mut BytesMut, mut count: usize) {
    while let Some(first) = segments.front_mut() {
        if count < first.len() {
            first.advance(count);
            return;
        }
        count -= first.len();
        segments.pop_front();
    }
    gathered.advance(count);
}
