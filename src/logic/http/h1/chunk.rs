//! Reading a body in chunks and the trailer fields after it (RFC 9112 §7.1).

use bytes::{Buf, Bytes, BytesMut};

use crate::logic::http::fields::{Fields, is_value};
use crate::logic::http::h1::lines::{FIELDS_MAX, HEAD_BYTES_MAX, Malformed, end_with_crlf, may_be_whole};
use crate::logic::http::hop::Known;

/// The size of the line before a chunk, in bytes, its extensions included.
const LINE_BYTES_MAX: usize = 4 << 10;

/// The size of the extensions of all chunks of a body, in bytes: nothing reads them, so they must not be a way to keep
/// readers busy with a body that does not grow (CVE-2023-39326 and its like).
const EXTENSION_BYTES_MAX: usize = 16 << 10;

/// How many hexadecimal digits the size of a chunk may have: those of a 64-bit number.
const SIZE_DIGITS_MAX: usize = 16;

/// Trailer fields that would frame, route or authorize the message, or say how to read it, after it has been read.
const NOT_TRAILERS: [&str; 9] = [
    "trailer",
    "authorization",
    "proxy-authorization",
    "content-type",
    "content-encoding",
    "content-range",
    "cache-control",
    "max-forwards",
    "set-cookie",
];

/// Tells whether a field may be a trailer field (RFC 9110 §6.5.1). Those that may not are left out, read or written: they
/// are of no use to anyone, and no reason to lose the message.
pub fn may_trail(name: &[u8]) -> bool {
    Known::of(name) == Known::Other
        && !NOT_TRAILERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Some bytes, at least one.
    Data(Bytes),
    /// The end of a body in chunks, with its trailer fields, if any.
    Trailers(Fields),
}

/// A body in chunks, as far as it has been read. It makes no difference how the bytes are cut up when they arrive.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before the line that tells a size.
    #[default]
    Size,
    /// Within a chunk, of which this many bytes are missing.
    Data(u64),
    /// Before the line end after a chunk.
    DataEnd,
    /// Within the trailer section, of which this many bytes hold no end.
    Trailers(usize),
    Over,
}

impl Decoder {
    /// Takes the next piece from the beginning of `input`, without copying it.
    ///
    /// None when more bytes are needed, or when the body is over; what follows the body stays in `input`.
    ///
    /// # Errors
    /// When the body breaks a rule. It has no end then, and neither it nor its connection can be used further.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(size) = self.size(input)? else { return Ok(None) };
                    self.state = if size == 0 { State::Trailers(0) } else { State::Data(size) };
                }
                State::Data(missing) => {
                    let data = take(input, missing);
                    let missing = missing - data.len() as u64;
                    self.state = if missing == 0 { State::DataEnd } else { State::Data(missing) };
                    return Ok((!data.is_empty()).then_some(Piece::Data(data)));
                }
                State::DataEnd => match input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Malformed("no line end after a chunk")),
                },
                State::Trailers(seen) => {
                    // Without fields, the section is one empty line, and that is no end of a head.
                    if !input.starts_with(b"\r\n") && !may_be_whole(input, seen) {
                        self.state = State::Trailers(input.len());
                        return Ok(None);
                    }
                    let fields = trailers(input)?;
                    self.state = if fields.is_some() { State::Over } else { State::Trailers(input.len()) };
                    return Ok(fields.map(Piece::Trailers));
                }
                State::Over => return Ok(None),
            }
        }
    }

    /// Tells whether the end has been read.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes the line before a chunk.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let within = &input[..input.len().min(LINE_BYTES_MAX)];
        let digits = within.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > SIZE_DIGITS_MAX || digits == 0 && !within.is_empty() {
            return Err(Malformed("not the size of a chunk"));
        }
        let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
            return if within.len() < LINE_BYTES_MAX {
                Ok(None)
            } else {
                Err(Malformed("chunk line too long"))
            };
        };
        let (size, rest) = within[..end].split_at(digits);
        let extension = rest.strip_suffix(b"\r").ok_or(Malformed("a line does not end with CR LF"))?;
        // Some servers fill the line with spaces; anything else before the semicolon is not a size.
        if !matches!(extension.trim_ascii_start(), [] | [b';', ..]) || !is_value(extension) {
            return Err(Malformed("not the size of a chunk"));
        }
        self.extension_bytes += extension.len();
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Malformed("chunk extensions too long"));
        }
        let size = size.iter().fold(0, |sum, digit| sum << 4 | u64::from(hex(*digit)));
        input.advance(end + 1);
        Ok(Some(size))
    }
}

/// Takes as many bytes as there are, up to `most`.
pub(crate) fn take(input: &mut BytesMut, most: u64) -> Bytes {
    let len = usize::try_from(most).map_or(input.len(), |most| most.min(input.len()));
    input.split_to(len).freeze()
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Takes the trailer section, with the empty line that ends it; None when it is not whole.
fn trailers(input: &mut BytesMut) -> Result<Option<Fields>, Malformed> {
    match input[..] {
        [b'\r', b'\n', ..] => {
            input.advance(2);
            return Ok(Some(Fields::new()));
        }
        [] | [b'\r'] => return Ok(None),
        _ => {}
    }
    let within = &input[..input.len().min(HEAD_BYTES_MAX)];
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let (len, lines) = match httparse::parse_headers(within, &mut lines) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) if within.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(Malformed("trailer section too large")),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("too many trailer fields")),
        Err(_) => return Err(Malformed("not a trailer field")),
    };
    // The first line begins where nothing is before it.
    if !end_with_crlf(&within[..len], lines.get(1..).unwrap_or_default()) {
        return Err(Malformed("a line does not end with CR LF"));
    }
    let mut fields = Fields::with_capacity(lines.len(), len);
    for line in lines.iter().filter(|line| may_trail(line.name.as_bytes())) {
        fields.append(line.name.as_bytes(), line.value);
    }
    input.advance(len);
    Ok(Some(fields))
}
