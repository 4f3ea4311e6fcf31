//! Where a body goes to.

use std::task::{Context, Poll, ready};

use crate::logic::http::fields::Fields;
use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::stream::link::Leaving;
use crate::proxy::stream::writer::Writer;

/// Where a body goes to.
pub(crate) enum Sink<'a> {
    /// A TCP connection, as framed by HTTP/1 or raw.
    Tcp(&'a mut Writer),
    /// A stream of a link, or of HTTP/2.
    Link(Leaving),
    /// The whole message was sent with its head.
    Ended,
    /// Nobody wants it.
    Nobody,
}

impl Sink<'_> {
    /// Waits until the next piece can be taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match self {
            Self::Tcp(writer) => writer.poll_ready(cx),
            Self::Link(leaving) => leaving.poll_ready(cx),
            Self::Ended | Self::Nobody => Poll::Ready(Ok(())),
        }
    }

    /// Takes a piece, when ready; with `last` nothing follows it.
    ///
    /// # Errors
    /// When the other side is gone, or the piece does not fit what its head has announced.
    pub(crate) fn push(&mut self, piece: Piece, last: bool) -> Result<(), Failed> {
        match piece {
            Piece::Trailers(trailers) => self.end(Some(trailers)),
            Piece::Data(data) => match self {
                Self::Tcp(writer) => {
                    writer.data(data)?;
                    if last { writer.end(None) } else { Ok(()) }
                }
                Self::Link(leaving) => {
                    leaving.data(data, last);
                    Ok(())
                }
                Self::Nobody => Ok(()),
                Self::Ended => Err(Failed::new(Failure::BadResponse, "a body where there can be none")),
            },
        }
    }

    /// Takes the end of the body.
    ///
    /// # Errors
    /// When the other side is gone, or the head has announced more.
    pub(crate) fn end(&mut self, trailers: Option<Fields>) -> Result<(), Failed> {
        match self {
            Self::Tcp(writer) => writer.end(trailers.as_ref()),
            Self::Link(leaving) => {
                leaving.end(trailers);
                Ok(())
            }
            Self::Ended | Self::Nobody => Ok(()),
        }
    }

    /// Sends all that was taken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match self {
            Self::Tcp(writer) => writer.poll_flush(cx),
            Self::Link(leaving) => leaving.poll_flush(cx),
            Self::Ended | Self::Nobody => Poll::Ready(Ok(())),
        }
    }

    /// Waits until the other side has given the body up. A TCP connection says so by what is read from it.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(_) | Self::Ended | Self::Nobody => Poll::Pending,
            Self::Link(leaving) => {
                ready!(leaving.poll_gone(cx));
                Poll::Ready(())
            }
        }
    }

    /// Breaks the body off, so that the other side cannot take it for complete. A TCP connection is then to be closed.
    pub(crate) fn abort(&mut self, failure: Failure) {
        match self {
            Self::Tcp(_) | Self::Ended | Self::Nobody => {}
            Self::Link(leaving) => leaving.abort(failure),
        }
    }
}
