//! The receiving direction of a TCP connection of this host.
//!
//! A connection that waits for its next request holds no buffer: memory is taken when there is something to read, and
//! given back when everything was consumed. The size of a read follows what the last ones brought.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use crate::logic::http::framing::Framing;
use crate::logic::http::h1::body::Body;
use crate::logic::http::h1::chunk::Piece;
use crate::logic::http::h1::lines::may_be_whole;
use crate::net::connection::Connection;
use crate::net::patience::LEAVE_TIME;
use crate::proxy::failure::{Failed, Failure};

/// The first read on a connection, and the smallest: a usual head fits.
const READ_BYTES_MIN: usize = 4 << 10;
/// The largest read: four TLS records.
const READ_BYTES_MAX: usize = 64 << 10;

/// A connection that both its directions share. Never leaves its thread.
pub(crate) type Socket = Rc<RefCell<Connection>>;

/// Where the bytes of one connection come from.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Socket,
    buffer: BytesMut,
    body: Body,
    /// The other side has said all it had to say.
    ended: bool,
    /// How much the next read asks for.
    room: usize,
    /// Bytes that were looked at in vain for the end of a head.
    scanned: usize,
    leave: Option<Pin<Box<Sleep>>>,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead<E> {
    /// The connection failed.
    Broken(io::Error),
    /// The connection ended within the head.
    Truncated,
    /// What came is not a head.
    Refused(E),
}

impl Reader {
    /// Makes the receiving direction of a connection, of which `first` was read before.
    pub(crate) fn new(socket: Socket, first: BytesMut) -> Self {
        Self {
            socket,
            buffer: first,
            body: Body::new(Framing::None),
            ended: false,
            room: READ_BYTES_MIN,
            scanned: 0,
            leave: None,
        }
    }

    /// Says how the body is framed that comes next.
    pub(crate) fn expect(&mut self, body: Body) {
        self.body = body;
        self.leave = None;
    }

    /// Says that bytes come until the end of the stream, and nothing else.
    pub(crate) fn expect_bytes(&mut self) {
        self.expect(Body::new(Framing::UntilClose));
    }

    /// Returns whether the body that was expected is complete.
    pub(crate) fn is_over(&self) -> bool {
        self.body.is_over()
    }

    /// Returns whether bytes wait that nobody has consumed.
    pub(crate) fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns whether the other side has ended its direction.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Returns whether nothing has come and nothing has ended since the last body: an idle connection can be used again.
    /// Asks the kernel only if the connection is said to be readable.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.ended && !self.has_more() && self.socket.borrow().is_quiet()
    }

    /// Reads once into the buffer; 0 is the end of the stream. Takes memory only when there is something to read.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = {
            let mut socket = self.socket.borrow_mut();
            if socket.poll_readable(cx)?.is_pending() {
                drop(socket);
                self.release();
                return Poll::Pending;
            }
            self.buffer.reserve(self.room);
            poll_read_buf(Pin::new(&mut *socket), cx, &mut self.buffer)
        };
        let Poll::Ready(count) = read else {
            self.release();
            return Poll::Pending;
        };
        let count = count?;
        self.ended |= count == 0;
        if count >= self.room {
            self.room = (self.room * 2).min(READ_BYTES_MAX);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(count))
    }

    /// Gives the buffer back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Waits for the first byte of a head; `false` when the other side has ended instead.
    pub(crate) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.has_more() {
            return Poll::Ready(Ok(true));
        }
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        self.release();
        Poll::Ready(Ok(ready!(self.poll_fill(cx))? > 0))
    }

    /// Waits for a whole head, as `parse` sees it: it is given all that has come and says what a head is and how long it
    /// was, `None` for more, or why it is none.
    pub(crate) fn poll_head<T, E>(
        &mut self,
        cx: &mut Context<'_>,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Poll<Result<T, NoHead<E>>> {
        loop {
            // A head that comes byte by byte is not parsed for each of them.
            if !self.buffer.is_empty() && may_be_whole(&self.buffer, self.scanned) {
                match parse(&self.buffer) {
                    Err(refused) => return Poll::Ready(Err(NoHead::Refused(refused))),
                    Ok(Some((head, length))) => {
                        self.scanned = 0;
                        bytes::Buf::advance(&mut self.buffer, length);
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                }
            }
            self.scanned = self.buffer.len();
            if self.ended {
                return Poll::Ready(Err(NoHead::Truncated));
            }
            ready!(self.poll_fill(cx)).map_err(NoHead::Broken)?;
        }
    }

    /// Returns the next piece of the body; `None` when it is complete.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Failed>>> {
        loop {
            match self.body.decode(&mut self.buffer, self.ended) {
                Ok(Some(Piece::Trailers(none))) if none.is_empty() => return Poll::Ready(None),
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if self.body.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(malformed) => {
                    let failure = if self.ended { Failure::CallerGone } else { Failure::BadRequest };
                    return Poll::Ready(Some(Err(Failed::new(failure, malformed))));
                }
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(Some(Err(Failed::new(Failure::CallerGone, error))));
            }
        }
    }

    /// Waits until the other side is gone while it is owed an answer. `written` says that something was written to it
    /// since the last call, and did not fail.
    ///
    /// The end of its stream may mean that it left, or only that it has no more to say; the two look the same until
    /// something is written back. So it is taken for gone when nothing was written for [`LEAVE_TIME`].
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, written: bool) -> Poll<()> {
        while !self.ended {
            // What it says ahead is its next request; of a flood of those, the kernel holds the rest.
            if self.buffer.len() >= READ_BYTES_MAX {
                return Poll::Pending;
            }
            ready!(self.socket.borrow().poll_doubt(cx));
            if ready!(self.poll_fill(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        let timer = self.leave.get_or_insert_with(|| Box::pin(sleep(LEAVE_TIME)));
        if written {
            timer.as_mut().reset(Instant::now() + LEAVE_TIME);
        }
        timer.as_mut().poll(cx)
    }

    /// Reads and throws away what the other side still says, until it ends or has said `limit` bytes.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        let mut discarded = 0;
        while !self.ended && discarded < limit {
            self.buffer.clear();
            discarded += ready!(self.poll_fill(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}
