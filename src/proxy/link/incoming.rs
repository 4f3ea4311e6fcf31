//! What arrives on a stream, and what follows from it, whatever the frames look like that bring it.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use crate::logic::http::fields::Fields;
use crate::logic::http::head::ResponseHead;
use crate::logic::link::frame::{Code, HEADER_BYTES, Violation};
use crate::logic::link::head;
use crate::proxy::link::error::Broken;
use crate::proxy::link::slot::Slot;
use crate::proxy::link::state::State;

/// A payload of this size is passed on as a slice of the buffer it was read into, a smaller one is copied.
const SLICE_BYTES_MIN: usize = 2 << 10;
/// Above so many bytes that nobody took, everything is copied: a slice keeps all of its buffer, and a peer that knows could
/// make us keep many times what it was granted.
const SLICED_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(SLICE_BYTES_MIN > HEADER_BYTES);

impl Slot {
    /// Takes the head of a response, which had this size as it came.
    ///
    /// # Errors
    /// When it is out of order.
    pub(crate) fn take_response(
        &mut self,
        head: ResponseHead,
        size: usize,
        end: bool,
    ) -> Result<(), Violation> {
        if self.has_head || end && head.is_interim() {
            return Err(Violation::OutOfOrder);
        }
        if head.is_interim() {
            self.inbox.put_interim(head, size);
        } else {
            self.has_head = true;
            self.inbox.put_head(head, end);
        }
        self.receiver.wake();
        Ok(())
    }

    /// Tells what is wrong with bytes of a body that arrive now, in so far as HTTP/2 lets it be wrong; with `end` they are the
    /// last ones.
    pub(crate) fn body_fault(&mut self, bytes: usize, end: bool) -> Option<&'static str> {
        if self.inbox.has_ended() {
            return Some("bytes after the end");
        }
        if !self.has_head {
            return Some("bytes before the head");
        }
        let due = self.due.as_mut()?;
        let Some(left) = due.checked_sub(bytes as u64) else { return Some("more than its Content-Length") };
        *due = left;
        (end && left > 0).then_some("less than its Content-Length")
    }

    /// Takes the end of a message.
    pub(crate) fn take_end(&mut self, trailers: Option<Fields>) {
        self.inbox.put_end(trailers);
        self.receiver.wake();
    }
}

impl State {
    /// Takes bytes of a body off a frame: those at `content` in `bytes`, of which the frame ends at `size`.
    ///
    /// # Errors
    /// When they are more than was granted, or come before the head.
    pub(crate) fn take_data(
        &mut self,
        (id, end): (u32, bool),
        bytes: &mut BytesMut,
        content: Range<usize>,
        size: usize,
    ) -> Result<(), Violation> {
        let may_slice = content.len() >= SLICE_BYTES_MIN && self.unread < SLICED_BYTES_MAX;
        let Some(slot) = self.receiving(id)? else {
            bytes.advance(size);
            return Ok(());
        };
        if !slot.has_head {
            return Err(Violation::OutOfOrder);
        }
        slot.receiving.received(content.len())?;
        let before = slot.inbox.bytes();
        if may_slice {
            let length = content.len();
            bytes.advance(content.start);
            slot.inbox.put_piece(bytes.split_to(length).freeze());
            bytes.advance(size - content.end);
        } else {
            slot.inbox.put_copy(&bytes[content]);
            bytes.advance(size);
        }
        let added = slot.inbox.bytes() - before;
        if end {
            slot.inbox.put_end(None);
        }
        slot.receiver.wake();
        self.unread += added;
        Ok(())
    }

    /// Returns the stream of a number; None when it is gone.
    pub(crate) fn stream(&mut self, id: u32) -> Result<Option<&mut Slot>, Violation> {
        if id > self.last { Err(Violation::NeverOpened) } else { Ok(self.find(id)) }
    }

    /// Returns the stream of a number that something comes in for; None when it is gone, or broken.
    pub(crate) fn receiving(&mut self, id: u32) -> Result<Option<&mut Slot>, Violation> {
        let slot = self.stream(id)?.filter(|slot| slot.broken.is_none());
        if slot.as_ref().is_some_and(|slot| slot.inbox.has_ended()) {
            return Err(Violation::OutOfOrder);
        }
        Ok(slot)
    }

    /// Resets a stream whose head or trailers cannot be taken.
    pub(crate) fn refuse_head(&mut self, id: u32, error: head::Error) {
        self.refuse(id, code_of(error), &error.to_string());
    }

    /// Resets a stream because of what came on it.
    pub(crate) fn refuse(&mut self, id: u32, code: Code, reason: &str) {
        if let Some(slot) = self.find(id) {
            slot.break_off(Broken::Reset { code, reason: reason.into() });
        }
        self.answer_reset(id, code, reason);
    }

    /// Resets a stream because of what the peer sent.
    pub(crate) fn answer_reset(&mut self, id: u32, code: Code, reason: &str) {
        self.put_reset(id, code, reason);
        self.answers += HEADER_BYTES + 1 + reason.len();
    }

    /// Breaks a stream off that the peer has reset.
    pub(crate) fn take_reset(&mut self, id: u32, code: Code, reason: Arc<str>) -> Result<(), Violation> {
        if let Some(slot) = self.stream(id)? {
            slot.break_off(Broken::Reset { code, reason });
        }
        Ok(())
    }
}

pub(crate) const fn code_of(error: head::Error) -> Code {
    match error {
        head::Error::Malformed => Code::Protocol,
        head::Error::TooLarge => Code::TooLarge,
    }
}
