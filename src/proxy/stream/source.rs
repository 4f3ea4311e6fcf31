//! Where a body comes from.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::Failed;
use crate::proxy::stream::link::Arriving;
use crate::proxy::stream::reader::Reader;
use crate::proxy::stream::tee::Copied;

/// Where a body comes from: an enum, so that nothing is boxed and nothing is called through a pointer.
pub(crate) enum Source<'a> {
    /// There is none.
    Nothing,
    /// A few words of our own.
    Words(Option<Bytes>),
    /// A TCP connection, as framed by HTTP/1 or raw.
    Tcp(&'a mut Reader),
    /// A stream of a link, or of HTTP/2.
    Link(Arriving),
    /// A copy of another body.
    Copied(Copied),
}

impl Source<'_> {
    /// Returns the next piece; `None` when the body is complete. After an error or the end it must not be asked again.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Failed>>> {
        match self {
            Self::Nothing => Poll::Ready(None),
            Self::Words(words) => Poll::Ready(words.take().map(|words| Ok(Piece::Data(words)))),
            Self::Tcp(reader) => reader.poll_next(cx),
            Self::Link(arriving) => arriving.poll_next(cx),
            Self::Copied(copied) => copied.poll_next(cx),
        }
    }

    /// Returns whether it is known that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Words(words) => words.is_none(),
            Self::Tcp(reader) => reader.is_over(),
            Self::Link(arriving) => arriving.is_over(),
            Self::Copied(copied) => copied.is_over(),
        }
    }
}
