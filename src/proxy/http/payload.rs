//! A request's body that can be sent again: what was read of it is kept up to a limit, until a response begins.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::logic::http::fields::Fields;
use crate::logic::http::h1::chunk::Piece;
use crate::logic::resilience::retry::REPLAY_BYTES_MAX;
use crate::proxy::failure::Failed;
use crate::proxy::http::observe::Observation;
use crate::proxy::stream::source::Source;
use crate::proxy::stream::tee::{Tee, tee};

/// Pieces kept of one body at most: each costs more than its bytes.
const REPLAY_PIECES_MAX: usize = 1_024;

/// The body of a request, with what was read of it.
pub(crate) struct Payload<'a> {
    source: Source<'a>,
    kept: Vec<Bytes>,
    bytes: usize,
    trailers: Option<Fields>,
    /// The first kept piece that this attempt has not been given.
    next: usize,
    ended: bool,
    /// Set when it is too long, or will not be sent again: nothing is kept any more.
    streaming: bool,
    broken: bool,
    /// Where it is copied as it comes.
    tees: Vec<Tee>,
}

impl<'a> Payload<'a> {
    /// Takes the body of a request.
    pub(crate) fn new(source: Source<'a>) -> Self {
        let ended = source.is_over();
        Self {
            source,
            kept: Vec::new(),
            bytes: 0,
            trailers: None,
            next: 0,
            ended,
            streaming: false,
            broken: false,
            tees: Vec::new(),
        }
    }

    /// Makes a copy of it, which comes as it passes. Nothing of it may have passed yet.
    pub(crate) fn copy(&mut self) -> Source<'static> {
        if self.is_empty() {
            return Source::Nothing;
        }
        let (tee, copied) = tee();
        self.tees.push(tee);
        Source::Copied(copied)
    }

    /// Returns whether it can be sent from its beginning.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken && (!self.streaming || (self.ended && self.bytes == 0))
    }

    /// Returns whether it is known to be empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.ended && self.bytes == 0 && self.trailers.is_none()
    }

    /// Returns whether all of it was read.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Begins from the beginning, for another attempt.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Says that it will not be sent again, so that nothing more is kept.
    pub(crate) fn commit(&mut self) {
        self.streaming = true;
    }

    /// Returns the next piece of this attempt and whether it is the last one.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        observation: &Observation,
    ) -> Poll<Option<Result<(Piece, bool), Failed>>> {
        if let Some(chunk) = self.kept.get(self.next).cloned() {
            self.next += 1;
            let last = self.ended && self.next == self.kept.len() && self.trailers.is_none();
            return Poll::Ready(Some(Ok((Piece::Data(chunk), last))));
        }
        if self.streaming && !self.kept.is_empty() {
            self.kept = Vec::new();
            self.next = 0;
        }
        if self.ended {
            return Poll::Ready(self.trailers.clone().map(|trailers| Ok((Piece::Trailers(trailers), true))));
        }
        let next = ready!(self.source.poll_next(cx));
        if !self.tees.is_empty() {
            self.copied(next.as_ref());
        }
        match next {
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Err(failed)) => {
                self.broken = true;
                Poll::Ready(Some(Err(failed)))
            }
            Some(Ok(Piece::Data(data))) => {
                observation.sent(data.len());
                self.keep(&data);
                self.ended = self.source.is_over();
                Poll::Ready(Some(Ok((Piece::Data(data), self.ended))))
            }
            Some(Ok(Piece::Trailers(trailers))) => {
                self.ended = true;
                if !self.streaming {
                    self.trailers = Some(trailers.clone());
                }
                Poll::Ready(Some(Ok((Piece::Trailers(trailers), true))))
            }
        }
    }

    /// Copies what has come.
    fn copied(&mut self, next: Option<&Result<Piece, Failed>>) {
        let over = self.source.is_over();
        for tee in &self.tees {
            if let Some(Ok(piece)) = next {
                tee.push(piece);
            }
            if matches!(next, None | Some(Ok(Piece::Trailers(_)))) || over && matches!(next, Some(Ok(_))) {
                tee.end();
            }
        }
        if matches!(next, Some(Err(_))) {
            self.tees.clear();
        }
    }

    /// Keeps a chunk if there is room, else everything is forgotten.
    fn keep(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len();
        if self.streaming || self.bytes > REPLAY_BYTES_MAX || self.kept.len() >= REPLAY_PIECES_MAX {
            self.streaming = true;
            self.kept = Vec::new();
            self.next = 0;
        } else {
            self.kept.push(chunk.clone());
            self.next += 1;
        }
    }

    /// Waits until a caller whose connection is told by its reading side is gone; `written` says that something was
    /// written to it since the last call.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, written: bool) -> Poll<()> {
        match &mut self.source {
            Source::Tcp(reader) if self.ended => reader.poll_gone(cx, written),
            Source::Tcp(_) | Source::Nothing | Source::Words(_) | Source::Link(_) | Source::Copied(_) => {
                Poll::Pending
            }
        }
    }

    /// Gives up the rest and returns where it would have come from.
    pub(crate) fn into_source(self) -> Source<'a> {
        self.source
    }
}
