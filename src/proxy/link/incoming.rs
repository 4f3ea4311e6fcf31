//! What a frame from the peer does. The peer is who it says it is, but need not be well: whatever cannot come from a link
//! that follows the rules ends it, and nothing grows by more than was granted.
//!
//! A head that is cut into a frame correctly but is not acceptable itself only resets its stream: the others are not to
//! suffer from one message. Frames of streams that are gone here are dropped: the peer cannot know yet.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use crate::logic::link::frame::{Code, HEADER_BYTES, Header, Kind, Violation};
use crate::logic::link::head;
use crate::proxy::link::error::{Broken, Error};
use crate::proxy::link::state::{Carried, Opening, Phase, Side, Slot, State};

/// A payload of this size is passed on as a slice of the buffer it was read into, a smaller one is copied.
const SLICE_BYTES_MIN: usize = 2 << 10;
/// Above so many bytes that nobody took, everything is copied: a slice keeps all of its buffer, and a peer that knows could
/// make us keep many times what it was granted.
const SLICED_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(SLICE_BYTES_MIN > HEADER_BYTES);

impl State {
    /// Takes in all whole frames of `bytes` and leaves the beginning of the next.
    pub(crate) fn receive(&mut self, bytes: &mut BytesMut) -> Result<(), Error> {
        while let Some(start) = bytes.first_chunk() {
            let header = Header::decode(*start)?;
            let size = HEADER_BYTES + header.length;
            if bytes.len() < size {
                break;
            }
            if header.kind == Kind::Data {
                self.on_data(header, bytes)?;
            } else {
                self.on_frame(header, &bytes[HEADER_BYTES..size])?;
                bytes.advance(size);
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        match header.kind {
            Kind::Open | Kind::OpenTcp => self.on_open(header, payload)?,
            Kind::Head => self.on_head(header, payload)?,
            Kind::Trailers => self.on_trailers(header, payload)?,
            Kind::Credit => {
                if let Some(slot) = self.stream(header.stream)? {
                    slot.sending.credit(number(payload))?;
                    slot.sender.wake();
                }
            }
            Kind::Reset => self.on_reset(header, payload)?,
            Kind::Ping => {
                self.out.put(Kind::Pong, false, 0, payload);
                self.answers += HEADER_BYTES + payload.len();
            }
            Kind::Pong => self.pulse.answer(long_number(payload), self.now)?,
            Kind::Away => self.on_away(number(payload))?,
            // Not here: it may be passed on without a copy.
            Kind::Data => {}
        }
        Ok(())
    }

    fn on_open(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let id = header.stream;
        if self.side == Side::Dialled {
            return Err(Violation::WrongSide);
        }
        if self.last.checked_add(1) != Some(id) {
            return Err(Violation::OutOfTurn);
        }
        self.last = id;
        // After AWAY: the peer learns from it that nobody looked.
        if self.phase != Phase::Open {
            return Ok(());
        }
        if self.is_full() {
            self.answer_reset(id, Code::Refused, "too many streams");
            return Ok(());
        }
        let opening = if header.kind == Kind::OpenTcp {
            Ok(Opening::Tcp)
        } else {
            head::read_request(payload).map(|request| Opening::Http(request, header.end))
        };
        match opening {
            Ok(opening) => self.arrive(id, opening),
            Err(error) => self.answer_reset(id, code_of(error), &error.to_string()),
        }
        Ok(())
    }

    fn on_head(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if self.side == Side::Accepted {
            return Err(Violation::WrongSide);
        }
        let Some(slot) = self.receiving(header.stream)? else { return Ok(()) };
        if slot.has_head {
            return Err(Violation::OutOfOrder);
        }
        match head::read_response(payload) {
            Ok(response) if response.is_interim() => {
                if header.end {
                    return Err(Violation::OutOfOrder);
                }
                slot.inbox.put_interim(response, header.length);
                slot.receiver.wake();
            }
            Ok(response) => {
                slot.has_head = true;
                slot.inbox.put_head(response, header.end);
                slot.receiver.wake();
            }
            Err(error) => self.refuse_head(header.stream, error),
        }
        Ok(())
    }

    fn on_trailers(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let Some(slot) = self.receiving(header.stream)? else { return Ok(()) };
        if !slot.has_head || slot.carried == Carried::Tcp {
            return Err(Violation::OutOfOrder);
        }
        match head::read_fields(payload) {
            Ok(trailers) => {
                slot.inbox.put_end(Some(trailers));
                slot.receiver.wake();
            }
            Err(error) => self.refuse_head(header.stream, error),
        }
        Ok(())
    }

    /// Takes the frame of DATA at the beginning of `bytes`.
    fn on_data(&mut self, header: Header, bytes: &mut BytesMut) -> Result<(), Violation> {
        let length = header.length;
        let may_slice = length >= SLICE_BYTES_MIN && self.unread < SLICED_BYTES_MAX;
        let Some(slot) = self.receiving(header.stream)? else {
            bytes.advance(HEADER_BYTES + length);
            return Ok(());
        };
        if !slot.has_head {
            return Err(Violation::OutOfOrder);
        }
        slot.receiving.received(length)?;
        let before = slot.inbox.bytes();
        if may_slice {
            bytes.advance(HEADER_BYTES);
            slot.inbox.put_piece(bytes.split_to(length).freeze());
        } else {
            slot.inbox.put_copy(&bytes[HEADER_BYTES..HEADER_BYTES + length]);
            bytes.advance(HEADER_BYTES + length);
        }
        let added = slot.inbox.bytes() - before;
        if header.end {
            slot.inbox.put_end(None);
        }
        slot.receiver.wake();
        self.unread += added;
        Ok(())
    }

    fn on_reset(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        let (code, reason) = payload.split_first().ok_or(Violation::BadLength)?;
        // It ends up in logs.
        let reason: String = String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).collect();
        let reason: Arc<str> = reason.into();
        if header.stream == 0 {
            return Err(Error::Ended(reason));
        }
        if let Some(slot) = self.stream(header.stream)? {
            slot.break_off(Broken::Reset { code: Code::from_number(*code), reason });
        }
        Ok(())
    }

    fn on_away(&mut self, last: u32) -> Result<(), Violation> {
        if self.side == Side::Accepted {
            return Err(Violation::WrongSide);
        }
        if last > self.last {
            return Err(Violation::NeverOpened);
        }
        self.leave();
        self.break_unseen(last);
        Ok(())
    }

    /// Returns the stream of a number; None when it is gone.
    fn stream(&mut self, id: u32) -> Result<Option<&mut Slot>, Violation> {
        if id > self.last { Err(Violation::NeverOpened) } else { Ok(self.find(id)) }
    }

    /// Returns the stream of a number that something comes in for; None when it is gone, or broken.
    fn receiving(&mut self, id: u32) -> Result<Option<&mut Slot>, Violation> {
        let slot = self.stream(id)?.filter(|slot| slot.broken.is_none());
        if slot.as_ref().is_some_and(|slot| slot.inbox.has_ended()) {
            return Err(Violation::OutOfOrder);
        }
        Ok(slot)
    }

    /// Resets a stream whose head or trailers cannot be taken.
    fn refuse_head(&mut self, id: u32, error: head::Error) {
        let reason = error.to_string();
        if let Some(slot) = self.find(id) {
            slot.break_off(Broken::Reset { code: code_of(error), reason: reason.as_str().into() });
        }
        self.answer_reset(id, code_of(error), &reason);
    }

    /// Resets a stream because of what the peer sent.
    fn answer_reset(&mut self, id: u32, code: Code, reason: &str) {
        self.put_reset(id, code, reason);
        self.answers += HEADER_BYTES + 1 + reason.len();
    }
}

const fn code_of(error: head::Error) -> Code {
    match error {
        head::Error::Malformed => Code::Protocol,
        head::Error::TooLarge => Code::TooLarge,
    }
}

/// Reads a payload of four bytes: its length was checked with the header.
fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Reads a payload of eight bytes.
fn long_number(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
