//! Heads and trailers inside of frames.
//!
//! ```text
//! request:  version u8 | marks u8 | method s8 | path s16 | authority s16, if marked | protocol s16, if marked | fields
//! response: version u8 | marks u8 | status u16 | reason s16, if marked | fields
//! fields:   count u16, then for each: name's length u16 | value's length u16 | name | value
//! ```
//!
//! Reading checks again all that a parser of HTTP/1 checks: what comes out can be written as HTTP/1 without a line, a space
//! or an end too many, whoever wrote it.

use http::Method;
use thiserror::Error;

use crate::logic::http::fields::{Fields, is_name, is_value};
use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::logic::link::frame::HEAD_BYTES_MAX;

/// How many fields a head may have.
pub const FIELDS_MAX: usize = 256;

const HAS_AUTHORITY: u8 = 1;
const HAS_PROTOCOL: u8 = 2;
const HAS_REASON: u8 = 1;

/// Why a head was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// It is cut off, has bytes left over, or holds what no head may hold.
    #[error("malformed head")]
    Malformed,
    /// It has more fields or bytes than one may have.
    #[error("head too large")]
    TooLarge,
}

/// Writes the head of a request at the end of `to`.
///
/// # Errors
/// When it is too large; `to` then has a part of it.
pub fn write_request(head: &RequestHead, to: &mut Vec<u8>) -> Result<(), Error> {
    let start = to.len();
    let marks = if head.authority.is_some() { HAS_AUTHORITY } else { 0 }
        | if head.protocol.is_some() { HAS_PROTOCOL } else { 0 };
    let method = head.method.as_str();
    let length = u8::try_from(method.len()).map_err(|_| Error::TooLarge)?;
    to.extend_from_slice(&[version_number(head.version), marks, length]);
    to.extend_from_slice(method.as_bytes());
    write_text(head.path.as_bytes(), to)?;
    for text in [&head.authority, &head.protocol].into_iter().flatten() {
        write_text(text.as_bytes(), to)?;
    }
    write_some_fields(&head.fields, to)?;
    check_size(to.len() - start)
}

/// Writes the head of a response at the end of `to`.
///
/// # Errors
/// When it is too large; `to` then has a part of it.
pub fn write_response(head: &ResponseHead, to: &mut Vec<u8>) -> Result<(), Error> {
    let start = to.len();
    let marks = if head.reason.is_some() { HAS_REASON } else { 0 };
    to.extend_from_slice(&[version_number(head.version), marks]);
    to.extend_from_slice(&head.status.to_be_bytes());
    if let Some(reason) = &head.reason {
        write_text(reason, to)?;
    }
    write_some_fields(&head.fields, to)?;
    check_size(to.len() - start)
}

/// Writes trailer fields at the end of `to`.
///
/// # Errors
/// When they are too large; `to` then has a part of them.
pub fn write_fields(fields: &Fields, to: &mut Vec<u8>) -> Result<(), Error> {
    let start = to.len();
    write_some_fields(fields, to)?;
    check_size(to.len() - start)
}

/// Reads the head of a request: all of `bytes`.
pub fn read_request(bytes: &[u8]) -> Result<RequestHead, Error> {
    let mut reader = Reader { bytes };
    let version = version_of(reader.byte()?)?;
    let marks = marks(reader.byte()?, HAS_AUTHORITY | HAS_PROTOCOL)?;
    let length = reader.byte()?;
    let method = Method::from_bytes(reader.take(length.into())?).map_err(|_| Error::Malformed)?;
    let path = reader.text(is_path)?;
    let authority = if marks & HAS_AUTHORITY == 0 { None } else { Some(reader.text(is_authority)?) };
    let protocol = if marks & HAS_PROTOCOL == 0 { None } else { Some(reader.text(is_protocol)?) };
    let fields = reader.fields()?;
    Ok(RequestHead { method, path, authority, version, protocol, fields })
}

/// Reads the head of a response: all of `bytes`.
pub fn read_response(bytes: &[u8]) -> Result<ResponseHead, Error> {
    let mut reader = Reader { bytes };
    let version = version_of(reader.byte()?)?;
    let marks = marks(reader.byte()?, HAS_REASON)?;
    let status = reader.number()?;
    if !(100..=999).contains(&status) {
        return Err(Error::Malformed);
    }
    let reason = if marks & HAS_REASON == 0 { None } else { Some(reader.phrase()?) };
    let fields = reader.fields()?;
    Ok(ResponseHead { status, reason, version, fields })
}

/// Reads trailer fields: all of `bytes`.
pub fn read_fields(bytes: &[u8]) -> Result<Fields, Error> {
    Reader { bytes }.fields()
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes <= HEAD_BYTES_MAX { Ok(()) } else { Err(Error::TooLarge) }
}

fn write_text(text: &[u8], to: &mut Vec<u8>) -> Result<(), Error> {
    let length = u16::try_from(text.len()).map_err(|_| Error::TooLarge)?;
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text);
    Ok(())
}

fn write_some_fields(fields: &Fields, to: &mut Vec<u8>) -> Result<(), Error> {
    let count = u16::try_from(fields.len()).ok().filter(|count| usize::from(*count) <= FIELDS_MAX);
    to.extend_from_slice(&count.ok_or(Error::TooLarge)?.to_be_bytes());
    for (name, value) in fields.iter() {
        let (Ok(name_length), Ok(value_length)) = (u16::try_from(name.len()), u16::try_from(value.len()))
        else {
            return Err(Error::TooLarge);
        };
        let [a, b] = name_length.to_be_bytes();
        let [c, d] = value_length.to_be_bytes();
        to.extend_from_slice(&[a, b, c, d]);
        to.extend_from_slice(name);
        to.extend_from_slice(value);
    }
    Ok(())
}

const fn version_number(version: Version) -> u8 {
    match version {
        Version::Http10 => 10,
        Version::Http11 => 11,
        Version::Http2 => 20,
    }
}

const fn version_of(number: u8) -> Result<Version, Error> {
    match number {
        10 => Ok(Version::Http10),
        11 => Ok(Version::Http11),
        20 => Ok(Version::Http2),
        _ => Err(Error::Malformed),
    }
}

const fn marks(marks: u8, known: u8) -> Result<u8, Error> {
    if marks & !known == 0 { Ok(marks) } else { Err(Error::Malformed) }
}

/// Origin form, `*`, or nothing (CONNECT): without a space or a control, which would end it in HTTP/1.
fn is_path(bytes: &[u8]) -> bool {
    let begins = bytes.first().is_none_or(|first| *first == b'/') || bytes == b"*";
    begins && !bytes.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
}

/// A host and perhaps a port: without a byte that means something elsewhere in a URI (RFC 3986 §3.2).
fn is_authority(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| {
            byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\' | b'"' | b'<' | b'>')
        })
}

fn is_protocol(bytes: &[u8]) -> bool {
    !bytes.is_empty() && is_value(bytes)
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Error::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.bytes.split_first().ok_or(Error::Malformed)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u16, Error> {
        let (first, rest) = self.bytes.split_first_chunk().ok_or(Error::Malformed)?;
        self.bytes = rest;
        Ok(u16::from_be_bytes(*first))
    }

    fn text(&mut self, is_valid: fn(&[u8]) -> bool) -> Result<String, Error> {
        let length = self.number()?;
        let bytes = self.take(length.into())?;
        let text = str::from_utf8(bytes).ok().filter(|_| is_valid(bytes));
        text.map(str::to_owned).ok_or(Error::Malformed)
    }

    fn phrase(&mut self) -> Result<Box<[u8]>, Error> {
        let length = self.number()?;
        let bytes = self.take(length.into())?;
        if is_value(bytes) { Ok(bytes.into()) } else { Err(Error::Malformed) }
    }

    /// Reads all that is left.
    fn fields(&mut self) -> Result<Fields, Error> {
        let count = usize::from(self.number()?);
        if count > FIELDS_MAX {
            return Err(Error::TooLarge);
        }
        let head = self.bytes;
        let mut fields = Fields::within(head, count);
        for _ in 0..count {
            let (name_length, value_length) = (self.number()?, self.number()?);
            let name = self.take(name_length.into())?;
            let value = self.take(value_length.into())?;
            if !is_name(name) || !is_value(value) {
                return Err(Error::Malformed);
            }
            fields.append_from(head, name, value.trim_ascii());
        }
        if self.bytes.is_empty() { Ok(fields) } else { Err(Error::Malformed) }
    }
}
