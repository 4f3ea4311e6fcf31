//! What a link says, in frames of our own or of HTTP/2.

use std::time::{Duration, Instant};

use crate::logic::http::fields::Fields;
use crate::logic::http::h2::frame::Fault;
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::link::frame::{Code, HEADER_BYTES, Header, Kind, REASON_BYTES_MAX};
use crate::logic::link::head;
use crate::logic::link::pulse::Beat;
use crate::proxy::link::error::Error;
use crate::proxy::link::http2;
use crate::proxy::link::outbox::Outbox;
use crate::proxy::link::slot::Side;
use crate::proxy::link::state::{Dialect, State};

impl State {
    /// Opens a stream with the head of a request.
    pub(crate) fn put_request(
        &mut self,
        id: u32,
        request: &RequestHead,
        end: bool,
    ) -> Result<(), head::Error> {
        match &mut self.dialect {
            Dialect::Mesh => {
                put_with(&mut self.out, (Kind::Open, end, id), |to| head::write_request(request, to))
            }
            Dialect::Http2(http2) => http2.put_request(&mut self.out, id, request, end),
        }
    }

    /// Opens a stream of bytes, which only proxies do.
    pub(crate) fn put_open_tcp(&mut self, id: u32) {
        put(&mut self.out, (Kind::OpenTcp, false, id), &[]);
    }

    /// Adds the head of a response.
    pub(crate) fn put_response(
        &mut self,
        id: u32,
        response: &ResponseHead,
        end: bool,
    ) -> Result<(), head::Error> {
        match &mut self.dialect {
            Dialect::Mesh => {
                put_with(&mut self.out, (Kind::Head, end, id), |to| head::write_response(response, to))
            }
            Dialect::Http2(http2) => http2.put_response(&mut self.out, id, response, end),
        }
    }

    /// Ends a message with trailer fields.
    pub(crate) fn put_trailers(&mut self, id: u32, fields: &Fields) -> Result<(), head::Error> {
        match &mut self.dialect {
            Dialect::Mesh => {
                put_with(&mut self.out, (Kind::Trailers, true, id), |to| head::write_fields(fields, to))
            }
            Dialect::Http2(http2) => http2.put_trailers(&mut self.out, id, fields),
        }
    }

    /// Adds bytes of a body: no more than one frame takes.
    pub(crate) fn put_data(&mut self, id: u32, bytes: &[u8], end: bool) {
        match &self.dialect {
            Dialect::Mesh => put(&mut self.out, (Kind::Data, end, id), bytes),
            Dialect::Http2(_) => http2::put_data(&mut self.out, id, bytes, end),
        }
    }

    /// Gives back window.
    pub(crate) fn put_credit(&mut self, id: u32, bytes: u32) {
        match &self.dialect {
            Dialect::Mesh => put(&mut self.out, (Kind::Credit, false, id), &bytes.to_be_bytes()),
            Dialect::Http2(_) => http2::put_credit(&mut self.out, id, bytes),
        }
    }

    /// Ends a stream before its time; stream 0 is the link itself.
    pub(crate) fn put_reset(&mut self, id: u32, code: Code, reason: &str) {
        match &self.dialect {
            Dialect::Mesh => {
                let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)];
                put(&mut self.out, (Kind::Reset, false, id), &[&[code.number()], reason].concat());
            }
            Dialect::Http2(_) => {
                // Of a server, the rest is not needed; of a client, the answer is not wanted (RFC 9113 §8.1).
                let is_enough = self.side == Side::Dialled && code == Code::Enough;
                let code = if is_enough { Code::Cancelled } else { code };
                http2::put_reset(&mut self.out, (id, self.last), code, reason);
            }
        }
    }

    /// Says which rule the peer broke, if it did; returns whether.
    pub(crate) fn put_fault(&mut self, error: &Error) -> bool {
        match (error, &self.dialect) {
            (Error::Violation(violation), Dialect::Mesh) => {
                self.put_reset(0, Code::Protocol, &violation.to_string());
            }
            (Error::Http2(fault), Dialect::Http2(_)) => http2::put_fault(&mut self.out, self.last, *fault),
            // Within HTTP/2, windows are all that is counted as between proxies.
            (Error::Violation(_), Dialect::Http2(_)) => {
                http2::put_fault(&mut self.out, self.last, Fault::BadWindow);
            }
            _ => return false,
        }
        true
    }

    /// Says that no more streams are taken, where the peer is who opens them.
    pub(crate) fn put_away(&mut self) {
        if self.side == Side::Dialled {
            return;
        }
        match &self.dialect {
            Dialect::Mesh => put(&mut self.out, (Kind::Away, false, 0), &self.last.to_be_bytes()),
            Dialect::Http2(_) => http2::put_away(&mut self.out, self.last),
        }
    }

    /// Asks whether the peer is there, and how long the way is. Applications are on this host, and some take it for a flood.
    pub(crate) fn put_ping(&mut self, now: Instant) {
        if let Dialect::Mesh = self.dialect
            && let Some(number) = self.pulse.ask(now)
        {
            put(&mut self.out, (Kind::Ping, false, 0), &number.to_be_bytes());
        }
    }

    /// Looks whether the peer is there. An application on this host is, as long as the kernel does not say otherwise.
    pub(crate) fn look(&mut self, now: Instant, silence: Duration) -> Beat {
        match self.dialect {
            Dialect::Mesh => self.pulse.look(now, silence),
            Dialect::Http2(_) => Beat::Wait(now + silence),
        }
    }

    /// Answers the peer's question whether this side is there.
    pub(crate) fn put_pong(&mut self, number: &[u8]) {
        put(&mut self.out, (Kind::Pong, false, 0), number);
    }
}

fn put(out: &mut Outbox, (kind, end, stream): (Kind, bool, u32), payload: &[u8]) {
    out.put(&Header { kind, end, stream, length: payload.len() }.encode(), payload);
}

/// Adds a frame whose payload `write` appends, or nothing when that fails.
fn put_with(
    out: &mut Outbox,
    (kind, end, stream): (Kind, bool, u32),
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), head::Error>,
) -> Result<(), head::Error> {
    out.write(|bytes| {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        write(bytes)?;
        let length = bytes.len() - start - HEADER_BYTES;
        let header = Header { kind, end, stream, length }.encode();
        bytes[start..start + HEADER_BYTES].copy_from_slice(&header);
        Ok(())
    })
}
