//! What a frame from another proxy does. The peer is who it says it is, but need not be well: whatever cannot come from a
//! link that follows the rules ends it, and nothing grows by more than was granted.
//!
//! A head that is cut into a frame correctly but is not acceptable itself only resets its stream: the others are not to
//! suffer from one message. Frames of streams that are gone here are dropped: the peer cannot know yet.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use crate::logic::link::frame::{Code, HEADER_BYTES, Header, Kind, Violation};
use crate::logic::link::head;
use crate::proxy::link::error::{Broken, Error};
use crate::proxy::link::incoming::code_of;
use crate::proxy::link::slot::{Carried, Side};
use crate::proxy::link::state::{Opening, Phase, State};

impl State {
    /// Takes in all whole frames of `bytes` and leaves the beginning of the next.
    pub(crate) fn receive_mesh(&mut self, bytes: &mut BytesMut) -> Result<(), Error> {
        while let Some(start) = bytes.first_chunk() {
            let header = Header::decode(*start)?;
            let size = HEADER_BYTES + header.length;
            if bytes.len() < size {
                break;
            }
            if header.kind == Kind::Data {
                self.take_data((header.stream, header.end), bytes, HEADER_BYTES..size, size)?;
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
                self.put_pong(payload);
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
            Ok(opening) => self.arrive(id, opening, None),
            Err(error) => self.answer_reset(id, code_of(error), &error.to_string()),
        }
        Ok(())
    }

    fn on_head(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if self.side == Side::Accepted {
            return Err(Violation::WrongSide);
        }
        let Some(slot) = self.receiving(header.stream)? else { return Ok(()) };
        match head::read_response(payload) {
            Ok(response) => slot.take_response(response, header.length, header.end)?,
            Err(_) if slot.has_head => return Err(Violation::OutOfOrder),
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
                slot.take_end(Some(trailers));
            }
            Err(error) => self.refuse_head(header.stream, error),
        }
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
        Ok(self.take_reset(header.stream, Code::from_number(*code), reason)?)
    }

    fn on_away(&mut self, last: u32) -> Result<(), Violation> {
        if self.side == Side::Accepted {
            return Err(Violation::WrongSide);
        }
        if last > self.last {
            return Err(Violation::NeverOpened);
        }
        self.leave();
        self.break_unseen(last, &Broken::Link { reason: "the peer is going away".into(), unseen: true });
        Ok(())
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
