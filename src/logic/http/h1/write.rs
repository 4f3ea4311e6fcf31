//! Writing HTTP/1: heads, and what is around the pieces of a body in chunks.
//!
//! Nothing that is written ends a line by itself. Field names and values hold no line end (see
//! [`Fields`]); whatever else comes from texts is checked here, and a byte that does not fit is escaped or left out.
//! The names of the lines that are made here are in lower case, as in every later version of HTTP.

use bytes::BufMut;
use http::Method;

use crate::logic::http::fields::{Fields, is_value};
use crate::logic::http::framing::Framing;
use crate::logic::http::h1::chunk::may_trail;
use crate::logic::http::head::{RequestHead, ResponseHead, Version, usual_reason};

const LINE_END: &[u8] = b"\r\n";

/// Writes the head of a request in HTTP/1.1, Host first.
///
/// A body until close is written as one in chunks: a request has no such body. Whatever the version of the caller was, this
/// connection speaks 1.1 and stays.
pub fn request(head: &RequestHead, framing: Framing, out: &mut impl BufMut) {
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    let authority = head.authority.as_deref().unwrap_or_default();
    if head.method == Method::CONNECT {
        target(authority, out);
    } else {
        target(&head.path, out);
    }
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    text(authority.as_bytes(), out);
    out.put_slice(LINE_END);
    fields(&head.fields, out);
    let options = [
        head.protocol.as_ref().map(|_| "upgrade"),
        // RFC 9110 §10.1.4: TE is of this connection, and says so.
        head.fields.contains("te").then_some("te"),
    ];
    connection(options, out);
    if let Some(protocol) = &head.protocol {
        line("upgrade", protocol.as_bytes(), out);
    }
    let framing = if framing == Framing::UntilClose { Framing::Chunked } else { framing };
    delimiter(framing, out);
    out.put_slice(LINE_END);
}

/// Writes the head of a response to a caller that speaks `caller`, and returns how the body must be written: in chunks if
/// its length is not known and the caller knows chunks, until close if not.
///
/// `announced` is what the head says of the body; for answers to HEAD and for 304, none is to follow whatever is returned.
/// The connection must be closed after the body if `keep_alive` is false or [`Framing::UntilClose`] is returned.
pub fn response(
    head: &ResponseHead,
    announced: Framing,
    caller: Version,
    keep_alive: bool,
    out: &mut impl BufMut,
) -> Framing {
    let bodiless = matches!(head.status, 100..200 | 204);
    let framing = if bodiless { Framing::None } else { announced.towards(caller) };
    out.put_slice(b"HTTP/1.1 ");
    decimal(u64::from(head.status), out);
    out.put_u8(b' ');
    match &head.reason {
        Some(reason) => text(reason, out),
        None => out.put_slice(usual_reason(head.status).as_bytes()),
    }
    out.put_slice(LINE_END);
    fields(&head.fields, out);
    let persistence = match (keep_alive && framing != Framing::UntilClose, caller) {
        _ if head.status < 200 => None,
        (false, _) => Some("close"),
        (true, Version::Http10) => Some("keep-alive"),
        (true, Version::Http11 | Version::Http2) => None,
    };
    connection([persistence, head.fields.contains("upgrade").then_some("upgrade")], out);
    delimiter(framing, out);
    out.put_slice(LINE_END);
    framing
}

/// Writes what goes before a chunk of `len` bytes, which must not be 0: that would be the last one.
pub fn chunk_begin(len: usize, out: &mut impl BufMut) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = len;
    while rest > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
    }
    out.put_slice(&digits[at..]);
    out.put_slice(LINE_END);
}

/// Writes what goes after a chunk.
pub fn chunk_end(out: &mut impl BufMut) {
    out.put_slice(LINE_END);
}

/// Writes the end of a body in chunks, with its trailer fields; those that may not be any are left out.
pub fn last_chunk(trailers: Option<&Fields>, out: &mut impl BufMut) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flat_map(Fields::iter).filter(|(name, _)| may_trail(name)) {
        field(name, value, out);
    }
    out.put_slice(LINE_END);
}

fn fields(fields: &Fields, out: &mut impl BufMut) {
    for (name, value) in fields.iter() {
        field(name, value, out);
    }
}

fn field(name: &[u8], value: &[u8], out: &mut impl BufMut) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(LINE_END);
}

fn line(name: &str, value: &[u8], out: &mut impl BufMut) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    text(value, out);
    out.put_slice(LINE_END);
}

fn connection(options: [Option<&str>; 2], out: &mut impl BufMut) {
    match options {
        [None, None] => {}
        [Some(one), None] | [None, Some(one)] => line("connection", one.as_bytes(), out),
        [Some(one), Some(other)] => {
            out.put_slice(b"connection: ");
            out.put_slice(one.as_bytes());
            out.put_slice(b", ");
            out.put_slice(other.as_bytes());
            out.put_slice(LINE_END);
        }
    }
}

fn delimiter(framing: Framing, out: &mut impl BufMut) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            decimal(length, out);
            out.put_slice(LINE_END);
        }
    }
}

/// Writes a target; what a target cannot have is escaped.
fn target(target: &str, out: &mut impl BufMut) {
    let fits = |byte: u8| (0x21..0x7f).contains(&byte);
    if target.bytes().all(fits) {
        return out.put_slice(target.as_bytes());
    }
    for byte in target.bytes() {
        if fits(byte) {
            out.put_u8(byte);
        } else {
            let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half)];
            out.put_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// Writes text of which nobody has made sure that it is on one line.
fn text(text: &[u8], out: &mut impl BufMut) {
    debug_assert!(is_value(text), "not on one line: {}", text.escape_ascii());
    if is_value(text) {
        return out.put_slice(text);
    }
    for byte in text.iter().filter(|byte| is_value(&[**byte])) {
        out.put_u8(*byte);
    }
}

fn decimal(number: u64, out: &mut impl BufMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}
