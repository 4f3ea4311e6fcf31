//! Moving a body from its source to its sink, one piece after the other: neither is read ahead of the other. What comes in
//! bulk from a connection of this host and goes to a link is read straight into what the link sends.

use std::task::{Context, Poll, ready};

use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::Failed;
use crate::proxy::stream::reader::Reader;
use crate::proxy::stream::sink::Sink;
use crate::proxy::stream::source::Source;

/// Which side a body broke on.
#[derive(Debug)]
pub(crate) enum Broke {
    /// Where it comes from.
    Source(Failed),
    /// Where it goes to.
    Sink(Failed),
}

/// What a pump takes from.
pub(crate) trait Supply {
    /// Returns the next piece and whether it is the last one; `None` when the body is complete.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(Piece, bool), Failed>>>;

    /// Returns the connection that the next bytes come from, if they come in bulk and need not be looked at.
    fn bulk(&mut self) -> Option<&mut Reader> {
        None
    }

    /// Counts bytes that were not looked at.
    fn skipped(&mut self, _bytes: usize) {}
}

impl Supply for Source<'_> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(Piece, bool), Failed>>> {
        let piece = ready!(self.poll_next(cx));
        Poll::Ready(piece.map(|piece| Ok((piece?, self.is_over()))))
    }

    fn bulk(&mut self) -> Option<&mut Reader> {
        if let Self::Tcp(reader) = self { reader.bulk() } else { None }
    }
}

/// One body on its way.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    ended: bool,
    flushed: bool,
    starving: bool,
}

impl Pump {
    /// Returns whether the whole body was passed on.
    pub(crate) fn is_done(&self) -> bool {
        self.flushed
    }

    /// Returns whether it waits for the source, not for the sink.
    pub(crate) fn is_starving(&self) -> bool {
        self.starving
    }

    /// Moves what can be moved; ready when all was, and was sent.
    ///
    /// What was taken is sent as soon as the source has nothing at hand, so that pieces that come together leave together.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Sink<'_>,
        supply: &mut impl Supply,
    ) -> Poll<Result<(), Broke>> {
        self.starving = false;
        while !self.ended {
            ready!(sink.poll_ready(cx)).map_err(Broke::Sink)?;
            if let (Some(reader), Sink::Link(leaving)) = (supply.bulk(), &mut *sink) {
                ready!(leaving.poll_room(cx)).map_err(Broke::Sink)?;
                match leaving.poll_fill(cx, reader).map_err(Broke::Source)? {
                    // How the body ends is for the supply to say.
                    Poll::Ready(0) => {}
                    Poll::Ready(count) => {
                        supply.skipped(count);
                        continue;
                    }
                    Poll::Pending => {
                        self.starving = true;
                        return Poll::Pending;
                    }
                }
            }
            match supply.poll_piece(cx) {
                Poll::Ready(Some(Ok((piece, last)))) => {
                    self.ended = last || matches!(piece, Piece::Trailers(_));
                    sink.push(piece, last).map_err(Broke::Sink)?;
                }
                Poll::Ready(Some(Err(failed))) => return Poll::Ready(Err(Broke::Source(failed))),
                Poll::Ready(None) => {
                    self.ended = true;
                    sink.end(None).map_err(Broke::Sink)?;
                }
                Poll::Pending => {
                    ready!(sink.poll_flush(cx)).map_err(Broke::Sink)?;
                    self.starving = true;
                    return Poll::Pending;
                }
            }
        }
        ready!(sink.poll_flush(cx)).map_err(Broke::Sink)?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }
}
