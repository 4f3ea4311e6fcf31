//! Moving a body from its source to its sink, one piece after the other: neither is read ahead of the other.

use std::task::{Context, Poll, ready};

use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::Failed;
use crate::proxy::stream::sink::Sink;

/// Which side a body broke on.
#[derive(Debug)]
pub(crate) enum Broke {
    /// Where it comes from.
    Source(Failed),
    /// Where it goes to.
    Sink(Failed),
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

    /// Moves what can be moved; ready when all was, and was sent. `next` yields a piece and whether it is the last one.
    ///
    /// What was taken is sent as soon as the source has nothing at hand, so that pieces that come together leave together.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Sink<'_>,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<(Piece, bool), Failed>>>,
    ) -> Poll<Result<(), Broke>> {
        self.starving = false;
        while !self.ended {
            ready!(sink.poll_ready(cx)).map_err(Broke::Sink)?;
            match next(cx) {
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
