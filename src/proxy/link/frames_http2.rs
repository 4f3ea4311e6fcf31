//! What a frame of HTTP/2 does. Whatever breaks the rules for a connection ends it (RFC 9113 §5.4.1); what is wrong with one
//! request or answer only ends its stream.

use std::ops::Range;

use bytes::{Buf as _, BytesMut};

use crate::logic::http::fields::Fields;
use crate::logic::http::framing;
use crate::logic::http::h2::frame::{ACK, END_HEADERS, Fault, HEADER_BYTES, Header, Kind, PREFACE};
use crate::logic::http::h2::head;
use crate::logic::http::head::ResponseHead;
use crate::logic::link::frame::{Code, HEAD_BYTES_MAX};
use crate::proxy::link::error::{Broken, Error};
use crate::proxy::link::http2::{self, Http2, code_of};
use crate::proxy::link::slot::Side;
use crate::proxy::link::state::{Dialect, Opening, Phase, State};

impl State {
    /// Takes in all whole frames of `bytes` and leaves the beginning of the next.
    pub(crate) fn receive_http2(&mut self, bytes: &mut BytesMut) -> Result<(), Error> {
        if !self.spoken().has_greeted {
            let come = bytes.len().min(PREFACE.len());
            if bytes[..come] != PREFACE[..come] {
                return Err(Fault::NoPreface.into());
            }
            if come < PREFACE.len() {
                return Ok(());
            }
            bytes.advance(come);
            self.spoken().has_greeted = true;
        }
        while let Some(start) = bytes.first_chunk() {
            let header = Header::decode(*start)?;
            let size = HEADER_BYTES + header.length;
            if bytes.len() < size {
                break;
            }
            let http2 = self.spoken();
            let begins = http2.has_settled || header.kind == Kind::Settings && !header.has(ACK);
            let fits = http2.torn.as_ref().map(|(stream, ..)| *stream)
                == (header.kind == Kind::Continuation).then_some(header.stream);
            if !begins {
                return Err(Fault::NoPreface.into());
            }
            if !fits {
                return Err(Fault::TornHead.into());
            }
            if header.kind == Kind::Data {
                let payload = &bytes[HEADER_BYTES..size];
                let content = header.content(payload)?;
                let from = content.as_ptr().addr() - bytes.as_ptr().addr();
                let content = from..from + content.len();
                self.on_body(header, bytes, content)?;
            } else {
                self.on_frame_http2(header, &bytes[HEADER_BYTES..size])?;
                bytes.advance(size);
            }
            let http2 = self.spoken();
            if http2.torn.is_none() {
                http2.begun = None;
            }
        }
        self.note_begun(bytes);
        Ok(())
    }

    /// Remembers since when something is not whole that keeps all else waiting. The frames of a body take as long as they
    /// like: whoever waits for it gives it up.
    fn note_begun(&mut self, rest: &[u8]) {
        let now = self.now;
        let http2 = self.spoken();
        let is_body = rest.get(3) == Some(&(Kind::Data as u8));
        let has_begun = http2.torn.is_some() || !rest.is_empty() && !is_body;
        http2.begun = has_begun.then(|| http2.begun.unwrap_or(now));
    }

    /// Returns what is known besides; only called on such a link.
    fn spoken(&mut self) -> &mut Http2 {
        match &mut self.dialect {
            Dialect::Http2(http2) => http2,
            Dialect::Mesh => unreachable!("frames of HTTP/2 on a link between proxies"),
        }
    }

    fn on_frame_http2(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        let stream = header.stream;
        if header.kind != Kind::Headers {
            self.count()?;
        }
        match header.kind {
            Kind::Headers => self.on_block(header, header.content(payload)?)?,
            Kind::Continuation => self.on_more(header, payload)?,
            Kind::Reset => {
                let code = code_of(number(payload));
                self.take_reset(stream, code, "".into()).map_err(|_| Fault::Misplaced)?;
            }
            Kind::Settings if !header.has(ACK) => self.on_settings(payload)?,
            Kind::Ping if !header.has(ACK) => self.answer(Kind::Ping, payload),
            Kind::Ping => {
                if self.spoken().is_goodbye(payload) {
                    self.leave_now();
                }
            }
            Kind::WindowUpdate => self.on_credit(stream, number(payload))?,
            Kind::GoAway => self.on_go_away(number(payload), number(&payload[4..])),
            Kind::PushPromise => return Err(Fault::WrongSide.into()),
            // DATA not here: it may be passed on without a copy.
            Kind::Data | Kind::Priority | Kind::Settings | Kind::Unknown => {}
        }
        Ok(())
    }

    /// Takes the beginning of a head.
    fn on_block(&mut self, header: Header, block: &[u8]) -> Result<(), Error> {
        if header.has(END_HEADERS) {
            return self.on_fields(header.stream, block, header.ends());
        }
        self.spoken().torn = Some((header.stream, header.ends(), block.to_vec()));
        Ok(())
    }

    /// Takes more of a head.
    fn on_more(&mut self, header: Header, more: &[u8]) -> Result<(), Error> {
        let torn = &mut self.spoken().torn;
        let Some((_, _, block)) = torn else { return Err(Fault::TornHead.into()) };
        if block.len() + more.len() > HEAD_BYTES_MAX {
            return Err(Fault::Flood.into());
        }
        block.extend_from_slice(more);
        if header.has(END_HEADERS)
            && let Some((stream, end, block)) = torn.take()
        {
            self.on_fields(stream, &block, end)?;
        }
        Ok(())
    }

    /// Takes a whole head: of a request, of a response, or trailer fields.
    fn on_fields(&mut self, stream: u32, block: &[u8], end: bool) -> Result<(), Error> {
        let is_new = stream > self.last;
        let is_awaited = self.side == Side::Dialled && self.find(stream).is_some_and(|slot| !slot.has_head);
        match self.side {
            Side::Accepted if is_new => self.on_request(stream, block, end),
            Side::Dialled if is_new => Err(Fault::WrongSide.into()),
            _ if is_awaited => self.on_response(stream, block, end),
            Side::Dialled | Side::Accepted => self.on_trailers_http2(stream, block, end),
        }
    }

    fn on_request(&mut self, stream: u32, block: &[u8], end: bool) -> Result<(), Error> {
        if stream.is_multiple_of(2) {
            return Err(Fault::Misplaced.into());
        }
        self.last = stream;
        let head = head::read_request(&mut self.spoken().decoder, block).map_err(|_| Fault::BadBlock)?;
        // After the goodbye: the caller learns from it that nobody looked.
        if self.phase != Phase::Open {
            return Ok(());
        }
        if self.is_full() {
            return self.blame(stream, Code::Refused, "too many streams");
        }
        let refused = |status, cause: String| Opening::Refused { status, cause, end };
        let (opening, due) = match head {
            Ok(head) => match due(&head.fields, end) {
                Ok(due) => (Opening::Http(head, end), due),
                Err(cause) => (refused(400, cause), None),
            },
            Err(malformed) => (refused(malformed.status(), malformed.to_string()), None),
        };
        let is_refused = matches!(opening, Opening::Refused { .. });
        self.arrive(stream, opening, due);
        // Whoever takes it will reset it, or answer.
        if is_refused { self.count() } else { Ok(()) }
    }

    /// Resets a stream because of what came on it. That is counted: it costs as much as a reset of the peer's own
    /// (CVE-2025-8671).
    fn blame(&mut self, stream: u32, code: Code, reason: &str) -> Result<(), Error> {
        self.refuse(stream, code, reason);
        self.count()
    }

    /// Counts what costs this side something and brings nothing.
    fn count(&mut self) -> Result<(), Error> {
        let now = self.now;
        Ok(self.spoken().count(now)?)
    }

    fn on_response(&mut self, stream: u32, block: &[u8], end: bool) -> Result<(), Error> {
        let head = head::read_response(&mut self.spoken().decoder, block).map_err(|_| Fault::BadBlock)?;
        if head.as_ref().is_ok_and(ResponseHead::is_interim) {
            self.count()?;
        }
        // Whoever broke the stream off does not want it.
        let Some(slot) = self.find(stream).filter(|slot| slot.broken.is_none()) else { return Ok(()) };
        let wrong = match head {
            Ok(head) => {
                let bodiless = slot.asks_head || end || matches!(head.status, 100..200 | 204 | 304);
                // One that is none is refused by whoever takes the head.
                slot.due = if bodiless { None } else { framing::announced(&head.fields).unwrap_or_default() };
                slot.take_response(head, block.len(), end).err().map(|violation| violation.to_string())
            }
            Err(malformed) => Some(malformed.to_string()),
        };
        wrong.map_or(Ok(()), |wrong| self.blame(stream, Code::Protocol, &wrong))
    }

    fn on_trailers_http2(&mut self, stream: u32, block: &[u8], end: bool) -> Result<(), Error> {
        let trailers = head::read_trailers(&mut self.spoken().decoder, block).map_err(|_| Fault::BadBlock)?;
        let Some(slot) = self.find(stream).filter(|slot| slot.broken.is_none()) else {
            // It may be on its way still, but costs as much as any head.
            return self.count();
        };
        match trailers {
            Ok(_) if !end || slot.inbox.has_ended() => {
                self.blame(stream, Code::Protocol, "a head within a body")
            }
            Ok(_) if slot.due.is_some_and(|due| due > 0) => {
                self.blame(stream, Code::Protocol, "less than its Content-Length")
            }
            Ok(trailers) => {
                slot.take_end(Some(trailers).filter(|trailers| !trailers.is_empty()));
                Ok(())
            }
            Err(malformed) => self.blame(stream, Code::Protocol, &malformed.to_string()),
        }
    }

    /// Takes the frame of DATA at the beginning of `bytes`.
    fn on_body(&mut self, header: Header, bytes: &mut BytesMut, content: Range<usize>) -> Result<(), Error> {
        let (now, stream, end) = (self.now, header.stream, header.ends());
        if let Dialect::Http2(http2) = &mut self.dialect {
            http2.took(&mut self.out, header.length);
            if content.is_empty() && !end {
                http2.count(now)?;
            }
        }
        let size = HEADER_BYTES + header.length;
        let wrong = match self.stream(stream).map_err(|_| Fault::Misplaced)? {
            Some(slot) if slot.broken.is_none() => {
                slot.receiving.taken(header.length - content.len());
                slot.body_fault(content.len(), end)
            }
            Some(_) | None => None,
        };
        if let Some(wrong) = wrong {
            bytes.advance(size);
            return self.blame(stream, Code::Protocol, wrong);
        }
        Ok(self.take_data((stream, end), bytes, content, size)?)
    }

    fn on_settings(&mut self, payload: &[u8]) -> Result<(), Error> {
        let shift = self.spoken().settle(payload)?;
        self.answer(Kind::Settings, &[]);
        self.settling.wake();
        Ok(self.shift_windows(shift)?)
    }

    fn on_credit(&mut self, stream: u32, bytes: u32) -> Result<(), Error> {
        let bytes = bytes & 0x7fff_ffff;
        if stream == 0 {
            return Ok(self.spoken().sending.credit(bytes)?);
        }
        let Some(slot) = self.stream(stream).map_err(|_| Fault::Misplaced)? else { return Ok(()) };
        if slot.sending.credit(bytes).is_ok() {
            slot.sender.wake();
            Ok(())
        } else {
            self.blame(stream, Code::Protocol, "an impossible window")
        }
    }

    /// Takes a goodbye. That of a caller is about streams that nobody opens towards it.
    fn on_go_away(&mut self, last: u32, code: u32) {
        if self.side == Side::Dialled {
            tracing::trace!(last, code, "goodbye");
            self.leave_now();
            self.break_unseen(
                last,
                &Broken::Reset { code: Code::Refused, reason: "it is going away".into() },
            );
        }
    }

    fn answer(&mut self, kind: Kind, payload: &[u8]) {
        self.answers += http2::put_answer(&mut self.out, kind, payload);
    }
}

/// Returns how many bytes are to follow the head of a request, where it says so; with `end`, none do.
///
/// # Errors
/// What is wrong with that.
fn due(fields: &Fields, end: bool) -> Result<Option<u64>, String> {
    match framing::announced(fields) {
        Ok(Some(length @ 1..)) if end => Err(format!("no byte of {length} came")),
        Ok(_) if end => Ok(None),
        Ok(length) => Ok(length),
        Err(bad) => Err(bad.to_string()),
    }
}

fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
