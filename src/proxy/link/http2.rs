//! What a link knows besides that speaks HTTP/2 (RFC 9113) with an application on this host, and how it says things.

use std::time::Instant;

use crate::logic::http::fields::Fields;
use crate::logic::http::flood::Meter;
use crate::logic::http::h2::frame::{
    ACK, END_HEADERS, END_STREAM, FRAME_BYTES_MAX, Fault, HEADER_BYTES, Header, Kind, PREFACE, Reason,
    Settings, WINDOW_INITIAL, WINDOW_MAX, write_client_settings, write_server_settings,
};
use crate::logic::http::h2::head;
use crate::logic::http::h2::hpack::Decoder;
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::link::frame::Code;
use crate::logic::link::head::Error;
use crate::logic::link::window::{self, Sending};
use crate::proxy::failure::Failure;
use crate::proxy::link::outbox::Outbox;
use crate::proxy::link::slot::Side;

/// The PING that follows a first goodbye: when its answer comes, no more requests are on their way that have not heard it.
const GOODBYE: [u8; 8] = *b"goodbye!";
/// So many bytes that arrived are given back to the connection's window at once. It is the largest there is, as the windows
/// of the streams are what bounds memory.
const GIVEN_BACK: u32 = 1 << 30;

/// What begins a head of a side that uses no table to pack it (RFC 7541 §6.3).
const NO_TABLE: u8 = 0x20;

/// One side of a connection of HTTP/2.
pub(crate) struct Http2 {
    pub(crate) decoder: Decoder,
    /// A head whose end has not come: its stream, whether nothing follows it, and what has come.
    pub(crate) torn: Option<(u32, bool, Vec<u8>)>,
    /// Since when a head, or a frame of anything but a body, has begun whose end has not come.
    pub(crate) begun: Option<Instant>,
    /// How the other side wishes to be spoken to.
    pub(crate) peer: Settings,
    /// Whether it has begun to speak: with the preface, with its settings.
    pub(crate) has_greeted: bool,
    pub(crate) has_settled: bool,
    /// What may be sent on all streams together.
    pub(crate) sending: Sending,
    /// Bytes that arrived and were not given back to the connection's window.
    taken: u32,
    /// How much the other side may still say that carries nothing.
    meter: Meter,
    /// The other side is yet to be told that its table is not used (RFC 7541 §4.2).
    forgoes_table: bool,
    /// The caller was told that this side leaves; what is on its way is still taken (RFC 9113 §6.8).
    has_said_goodbye: bool,
}

impl Http2 {
    /// Begins a connection: says what is said first.
    pub(crate) fn begin(side: Side, (streams_max, now): (usize, Instant), out: &mut Outbox) -> Self {
        let (streams, head_bytes) = (streams_max as u32, head::LIST_BYTES_MAX as u32);
        let mut first = Vec::new();
        match side {
            Side::Dialled => {
                first.extend_from_slice(PREFACE);
                write_client_settings(window::WINDOW_INITIAL, head_bytes, &mut first);
            }
            Side::Accepted => write_server_settings(streams, window::WINDOW_INITIAL, head_bytes, &mut first),
        }
        out.put(&first, &[]);
        put_credit(out, 0, WINDOW_MAX - WINDOW_INITIAL);
        Self {
            decoder: Decoder::default(),
            torn: None,
            begun: None,
            peer: Settings::default(),
            has_greeted: side == Side::Dialled,
            has_settled: false,
            sending: Sending::new(WINDOW_INITIAL),
            taken: 0,
            meter: Meter::new(now),
            forgoes_table: false,
            has_said_goodbye: false,
        }
    }

    // --- what is said -----------------------------------------------------------------------------------------------

    pub(crate) fn put_request(
        &mut self,
        out: &mut Outbox,
        id: u32,
        request: &RequestHead,
        end: bool,
    ) -> Result<(), Error> {
        self.put_block(out, (id, end), |to| head::write_request(request, to).map_err(|_| Error::Malformed))
    }

    pub(crate) fn put_response(
        &mut self,
        out: &mut Outbox,
        id: u32,
        response: &ResponseHead,
        end: bool,
    ) -> Result<(), Error> {
        self.put_block(out, (id, end), |to| head::write_response(response, to).map_err(|_| Error::Malformed))
    }

    pub(crate) fn put_trailers(&mut self, out: &mut Outbox, id: u32, fields: &Fields) -> Result<(), Error> {
        self.put_block(out, (id, true), |to| {
            head::write_trailers(fields, to);
            Ok(())
        })
    }

    /// Says goodbye, once: what is on its way is taken until the other side has heard it.
    pub(crate) fn say_goodbye(&mut self, out: &mut Outbox) {
        if !std::mem::replace(&mut self.has_said_goodbye, true) {
            put_away(out, WINDOW_MAX);
            put(out, Kind::Ping, 0, 0, &GOODBYE);
        }
    }

    /// Tells whether the answer to a PING says that the other side has heard the goodbye.
    pub(crate) fn is_goodbye(&self, payload: &[u8]) -> bool {
        self.has_said_goodbye && payload == GOODBYE
    }

    /// Adds a head, in as many frames as it takes.
    fn put_block(
        &mut self,
        out: &mut Outbox,
        (stream, end): (u32, bool),
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let forgoes_table = std::mem::take(&mut self.forgoes_table);
        let written = out.write(|to| {
            let start = to.len();
            to.extend_from_slice(&[0; HEADER_BYTES]);
            if forgoes_table {
                to.push(NO_TABLE);
            }
            write(to)?;
            let flags = if end { END_STREAM } else { 0 };
            seal(start, Header { length: 0, kind: Kind::Headers, flags, stream }, to);
            Ok(())
        });
        self.forgoes_table = forgoes_table && written.is_err();
        written
    }

    // --- what is heard ----------------------------------------------------------------------------------------------

    /// Takes notice of a frame that carries nothing.
    pub(crate) fn count(&mut self, now: Instant) -> Result<(), Fault> {
        if self.meter.received(now) { Err(Fault::Flood) } else { Ok(()) }
    }

    /// Takes notice of bytes that were written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.meter.sent(bytes);
    }

    /// Takes notice of bytes of DATA that arrived, and gives them back to the connection's window when they have become many.
    pub(crate) fn took(&mut self, out: &mut Outbox, bytes: usize) {
        self.taken += bytes as u32;
        if self.taken >= GIVEN_BACK {
            let taken = std::mem::take(&mut self.taken);
            put_credit(out, 0, taken);
        }
    }

    /// Takes in the other side's settings; returns by how much the windows of all streams change.
    pub(crate) fn settle(&mut self, payload: &[u8]) -> Result<i64, Fault> {
        let before = self.peer;
        self.peer.read(payload)?;
        self.forgoes_table |= self.peer.table_bytes < before.table_bytes;
        self.has_settled = true;
        Ok(i64::from(self.peer.window) - i64::from(before.window))
    }
}

/// Writes the header of a head that stands at `start`, and more of them where it is longer than a frame.
fn seal(start: usize, header: Header, to: &mut Vec<u8>) {
    let length = to.len() - start - HEADER_BYTES;
    let first = length.min(FRAME_BYTES_MAX);
    let last = if length == first { END_HEADERS } else { 0 };
    let header = Header { length: first, flags: header.flags | last, ..header };
    to[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
    if length > first {
        let rest = to.split_off(start + HEADER_BYTES + first);
        let start = to.len();
        to.extend_from_slice(&[0; HEADER_BYTES]);
        to.extend_from_slice(&rest);
        seal(start, Header { kind: Kind::Continuation, flags: 0, ..header }, to);
    }
}

/// Adds bytes of a body.
pub(crate) fn put_data(out: &mut Outbox, stream: u32, bytes: &[u8], end: bool) {
    put(out, Kind::Data, if end { END_STREAM } else { 0 }, stream, bytes);
}

/// Ends a stream; of stream 0, the connection, after the stream `last`.
pub(crate) fn put_reset(out: &mut Outbox, (id, last): (u32, u32), code: Code, reason: &str) {
    let number = reason_of(code).number();
    if id == 0 {
        put_go_away(out, last, number, reason);
    } else {
        put(out, Kind::Reset, 0, id, &number.to_be_bytes());
    }
}

/// Says which rule the other side broke; the connection ends.
pub(crate) fn put_fault(out: &mut Outbox, last: u32, fault: Fault) {
    put_go_away(out, last, fault.reason().number(), &fault.to_string());
}

/// Says that no stream after the stream `last` is taken.
pub(crate) fn put_away(out: &mut Outbox, last: u32) {
    put_go_away(out, last, Reason::NoError.number(), "");
}

/// Gives back window, of a stream or of the connection.
pub(crate) fn put_credit(out: &mut Outbox, stream: u32, bytes: u32) {
    put(out, Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes());
}

/// Answers SETTINGS or PING; returns the size of the answer.
pub(crate) fn put_answer(out: &mut Outbox, kind: Kind, payload: &[u8]) -> usize {
    put(out, kind, ACK, 0, payload);
    HEADER_BYTES + payload.len()
}

fn put(out: &mut Outbox, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    out.put(&Header { length: payload.len(), kind, flags, stream }.encode(), payload);
}

fn put_go_away(out: &mut Outbox, last: u32, number: u32, reason: &str) {
    let payload = [&last.to_be_bytes(), &number.to_be_bytes(), reason.as_bytes()].concat();
    put(out, Kind::GoAway, 0, 0, &payload);
}

/// Returns the code that a number of HTTP/2 stands for.
pub(crate) fn code_of(number: u32) -> Code {
    const NO_ERROR: u32 = Reason::NoError.number();
    const PROTOCOL: u32 = Reason::Protocol.number();
    const REFUSED: u32 = Reason::RefusedStream.number();
    const CANCEL: u32 = Reason::Cancel.number();
    match number {
        NO_ERROR => Code::Enough,
        PROTOCOL => Code::Protocol,
        REFUSED => Code::Refused,
        CANCEL => Code::Cancelled,
        _ => Code::Internal,
    }
}

/// Returns how HTTP/2 says a code.
fn reason_of(code: Code) -> Reason {
    match code {
        Code::Cancelled | Code::TimedOut => Reason::Cancel,
        Code::Enough => Reason::NoError,
        Code::Refused => Reason::RefusedStream,
        Code::Protocol => Reason::Protocol,
        Code::Internal | Code::Truncated | Code::TooLarge => Reason::Internal,
        Code::Failure(number) => Failure::from_code(number).map_or(Reason::Internal, reason_for),
    }
}

/// Returns how a stream is reset for a failure.
fn reason_for(failure: Failure) -> Reason {
    match failure {
        Failure::CallerGone
        | Failure::Timeout
        | Failure::Late
        | Failure::Stalled
        | Failure::CallerStalled => Reason::Cancel,
        Failure::BadRequest => Reason::Protocol,
        Failure::NotHere | Failure::Unseen | Failure::Overloaded => Reason::RefusedStream,
        Failure::Unsupported
        | Failure::UnknownService
        | Failure::NoRoute
        | Failure::NoBackend
        | Failure::NoEndpoint
        | Failure::NoIdentity
        | Failure::Unreachable
        | Failure::Untrusted
        | Failure::Reset
        | Failure::Truncated
        | Failure::Lapsed
        | Failure::BadResponse
        | Failure::Loop
        | Failure::Denied
        | Failure::RateLimited
        | Failure::Exhausted
        | Failure::Faulted
        | Failure::Delayed => Reason::Internal,
    }
}
