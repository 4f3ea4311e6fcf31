//! What arrived for one stream and was not taken yet.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use crate::logic::http::fields::Fields;
use crate::logic::http::head::ResponseHead;

/// What a stream brings, in order: heads, pieces of the body, its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The head of a response, and whether nothing follows it. Interim ones come before the final one.
    Head(ResponseHead, bool),
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The trailer fields; the end follows.
    Trailers(Fields),
    /// The peer sends nothing more.
    End,
}

/// Interim heads that wait to be taken, in bytes on the wire: those above are dropped, which a client must bear
/// (RFC 9110 §15.2).
const INTERIM_BYTES_MAX: usize = 16 << 10;
/// Small payloads are gathered up to this size.
const PIECE_BYTES: usize = 16 << 10;

#[derive(Default)]
pub(crate) struct Inbox {
    interim: VecDeque<ResponseHead>,
    interim_bytes: usize,
    head: Option<(ResponseHead, bool)>,
    pieces: VecDeque<Bytes>,
    /// Small payloads, after all pieces.
    tail: BytesMut,
    bytes: usize,
    trailers: Option<Fields>,
    has_ended: bool,
    is_closed: bool,
}

impl Inbox {
    pub(crate) fn put_interim(&mut self, head: ResponseHead, size: usize) {
        if !self.is_closed && self.interim_bytes + size <= INTERIM_BYTES_MAX {
            self.interim_bytes += size;
            self.interim.push_back(head);
        }
    }

    pub(crate) fn put_head(&mut self, head: ResponseHead, end: bool) {
        self.has_ended |= end;
        if !self.is_closed {
            self.head = Some((head, end));
        }
    }

    /// Adds a piece as it is. It keeps the buffer alive that it is a part of.
    pub(crate) fn put_piece(&mut self, piece: Bytes) {
        if !self.is_closed {
            self.cut();
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Adds a copy of bytes to what was copied before.
    pub(crate) fn put_copy(&mut self, bytes: &[u8]) {
        if self.is_closed || bytes.is_empty() {
            return;
        }
        if self.tail.len() + bytes.len() > PIECE_BYTES {
            self.cut();
        }
        self.bytes += bytes.len();
        if self.tail.is_empty() {
            // As large as it is: most bodies come in one piece.
            self.tail = BytesMut::from(bytes);
        } else {
            self.tail.extend_from_slice(bytes);
        }
    }

    pub(crate) fn put_end(&mut self, trailers: Option<Fields>) {
        self.has_ended = true;
        if !self.is_closed {
            self.trailers = trailers;
        }
    }

    /// Takes what came first; None when that is yet to come.
    pub(crate) fn take(&mut self) -> Option<Event> {
        if let Some(head) = self.interim.pop_front() {
            if self.interim.is_empty() {
                self.interim_bytes = 0;
            }
            return Some(Event::Head(head, false));
        }
        if let Some((head, end)) = self.head.take() {
            return Some(Event::Head(head, end));
        }
        let piece = self.pieces.pop_front();
        let piece =
            piece.or_else(|| Some(mem::take(&mut self.tail).freeze()).filter(|tail| !tail.is_empty()));
        if let Some(piece) = piece {
            self.bytes -= piece.len();
            return Some(Event::Data(piece));
        }
        if let Some(trailers) = self.trailers.take() {
            return Some(Event::Trailers(trailers));
        }
        self.has_ended.then_some(Event::End)
    }

    /// Returns how many bytes of the body wait to be taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells whether the peer sends nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns how the body begins of which nothing was taken yet, up to where its first piece ends.
    pub(crate) fn begin(&self) -> &[u8] {
        self.pieces.front().map_or(&*self.tail, |piece| piece)
    }

    /// Returns the trailers, when all before them has arrived.
    pub(crate) fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_ref()
    }

    /// Drops all that waits and all that comes.
    pub(crate) fn close(&mut self) {
        *self = Self { has_ended: self.has_ended, is_closed: true, ..Self::default() };
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(mem::take(&mut self.tail).freeze());
        }
    }
}
