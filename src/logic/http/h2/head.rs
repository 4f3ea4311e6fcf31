//! Heads and trailers in HTTP/2, from blocks of fields and back (RFC 9113 §8.1 to §8.5, RFC 8441).
//!
//! Reading checks all that makes a message malformed, and what could not be said in HTTP/1. A malformed block is decoded to
//! its end all the same: the next one builds on it. Content-Length stays among the fields, unlike in heads that `h1` reads:
//! what it says is to be compared with what comes.

use http::Method;
use thiserror::Error;

use crate::logic::http::authority;
use crate::logic::http::fields::{Fields, is_name, is_token_byte, is_value, items};
use crate::logic::http::h1::chunk::may_trail;
use crate::logic::http::h1::lines::{self, HEAD_BYTES_MAX, RESPONSE_FIELDS_MAX};
use crate::logic::http::h2::hpack::{self, Decoder};
use crate::logic::http::h2::table::ENTRY_BYTES;
use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::logic::http::hop::{Known, TRAILERS};

/// The size of a list of fields that is read, counted as RFC 9113 §6.5.2 has it, with 32 bytes for each: for
/// `SETTINGS_MAX_HEADER_LIST_SIZE`.
pub const LIST_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// How many fields the head of a response, or a trailer section, may have.
pub const FIELDS_MAX: usize = RESPONSE_FIELDS_MAX;
/// How many fields a request may have; crumbs of one cookie count once.
pub const REQUEST_FIELDS_MAX: usize = lines::FIELDS_MAX;

/// Room for what most heads have, and for what a proxy adds: then nothing is moved.
const HEAD_FIELDS: usize = 20;
const HEAD_BYTES: usize = 640;
const TRAILER_FIELDS: usize = 4;
const TRAILER_BYTES: usize = 96;

/// Why a message is malformed. Its stream is reset with `PROTOCOL_ERROR`, unless its status is another one than 400: then it
/// is answered with that. The connection stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It has more fields or bytes than one may have.
    #[error("it has too many fields or bytes")]
    TooLarge,
    /// A name is no token in lower case.
    #[error("it has a field name that is none")]
    Name,
    /// A value has a byte that no value may have.
    #[error("it has a field value that is none")]
    Value,
    /// A field is of HTTP/1 and its connections, as Connection is, or TE with something else than trailers.
    #[error("it has a field of another version's connection")]
    Connection,
    /// A pseudo-header field is unknown, or not of such a message.
    #[error("it has a pseudo-header field that does not belong there")]
    Pseudo,
    /// A pseudo-header field is behind a field.
    #[error("it has a pseudo-header field behind a field")]
    Late,
    /// A pseudo-header field is there twice.
    #[error("it has a pseudo-header field twice")]
    Repeated,
    /// A pseudo-header field that must be there is not.
    #[error("it lacks a pseudo-header field")]
    Missing,
    /// The method is no token.
    #[error("its :method is none")]
    Method,
    /// The scheme is none.
    #[error("its :scheme is none")]
    Scheme,
    /// The path is neither one nor, for OPTIONS, an asterisk.
    #[error("its :path is none")]
    Path,
    /// What it is for is no `host[:port]`; for CONNECT, no `host:port`.
    #[error("its host is not host[:port]")]
    Authority,
    /// `:authority` and `host` differ.
    #[error("it has two hosts")]
    Hosts,
    /// The protocol is no token, or is asked for by another method than CONNECT.
    #[error("its :protocol is none")]
    Protocol,
    /// The status is not a number of three digits from 100 on, or 101, which HTTP/2 has not.
    #[error("its :status is none")]
    Status,
    /// It expects something else than to be told to continue.
    #[error("it has an unknown expectation")]
    Expectation,
}

impl Malformed {
    /// Returns the status that such a request deserves, as in HTTP/1.
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLarge => 431,
            Self::Expectation => 417,
            Self::Name
            | Self::Value
            | Self::Connection
            | Self::Pseudo
            | Self::Late
            | Self::Repeated
            | Self::Missing
            | Self::Method
            | Self::Scheme
            | Self::Path
            | Self::Authority
            | Self::Hosts
            | Self::Protocol
            | Self::Status => 400,
        }
    }
}

/// A head that cannot be said in HTTP/2, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("HTTP/2 cannot say {0}")]
pub struct Unsayable(pub &'static str);

/// Reads the head of a request from a whole block.
///
/// An extended CONNECT becomes a GET with its protocol, as HTTP/1 would ask for it. The crumbs of a cookie become one field.
/// Host is not among the fields, and neither is what belongs to a connection.
///
/// # Errors
/// The outer one is for the connection, the inner one for the stream.
pub fn read_request(
    decoder: &mut Decoder,
    block: &[u8],
) -> Result<Result<RequestHead, Malformed>, hpack::Error> {
    let mut request = Request::new(block);
    let taken = take_all(decoder, block, |name, value| request.take(name, value))?;
    Ok(taken.and_then(|()| request.finish()))
}

/// Reads the head of a response from a whole block. It has no reason phrase, and its status is not 101.
///
/// # Errors
/// As of [`read_request`].
pub fn read_response(
    decoder: &mut Decoder,
    block: &[u8],
) -> Result<Result<ResponseHead, Malformed>, hpack::Error> {
    let mut list = List::new(block, (HEAD_FIELDS, HEAD_BYTES), FIELDS_MAX);
    let mut status = None;
    let taken = take_all(decoder, block, |name, value| match list.begin(name, value)? {
        Kind::Pseudo if name == b":status" => put(&mut status, status_of(value)?),
        Kind::Pseudo => Err(Malformed::Pseudo),
        Kind::Field => list.field(name, value),
    })?;
    Ok(taken.and_then(|()| {
        let status = status.ok_or(Malformed::Missing)?;
        Ok(ResponseHead { status, reason: None, version: Version::Http2, fields: list.fields })
    }))
}

/// Reads trailer fields from a whole block. Those that may not be any are left out.
///
/// # Errors
/// As of [`read_request`].
pub fn read_trailers(decoder: &mut Decoder, block: &[u8]) -> Result<Result<Fields, Malformed>, hpack::Error> {
    let mut list = List::new(block, (TRAILER_FIELDS, TRAILER_BYTES), FIELDS_MAX);
    let taken = take_all(decoder, block, |name, value| match list.begin(name, value)? {
        Kind::Pseudo => Err(Malformed::Pseudo),
        Kind::Field if list.is_kept(name, value)? && may_trail(name) => list.append(name, value),
        Kind::Field => Ok(()),
    })?;
    Ok(taken.map(|()| list.fields))
}

/// Gives all fields of a block to `take`, up to the first one that it does not take; the rest are decoded all the same.
fn take_all(
    decoder: &mut Decoder,
    block: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Malformed>,
) -> Result<Result<(), Malformed>, hpack::Error> {
    let mut taken = Ok(());
    decoder.decode(block, |name, value| {
        if taken.is_ok() {
            taken = take(name, value);
        }
    })?;
    Ok(taken)
}

/// Writes the head of a request at the end of `to`, as a whole block.
///
/// The scheme is `http`. A GET that wishes to change to another protocol becomes an extended CONNECT, which the other side
/// must have agreed to. Fields of connections are left out. The length of the body is said only if it is
/// among the fields.
///
/// # Errors
/// When HTTP/2 cannot say it; nothing is written then.
pub fn write_request(head: &RequestHead, to: &mut Vec<u8>) -> Result<(), Unsayable> {
    let opens = head.method == Method::CONNECT;
    match &head.protocol {
        // RFC 8441 §5: what HTTP/1 asks for by GET.
        Some(_) if head.method != Method::GET => return Err(Unsayable("a wish to upgrade that is no GET")),
        Some(protocol) if !is_name(protocol.as_bytes()) => {
            return Err(Unsayable("an upgrade to such a protocol"));
        }
        _ if opens && head.authority.is_none() => return Err(Unsayable("connect without a host")),
        _ if !opens && head.path.is_empty() => return Err(Unsayable("a request without a path")),
        Some(_) | None => {}
    }
    to.reserve(head_bytes(&head.fields) + head.path.len());
    let extended = head.protocol.is_some();
    hpack::write_method(if extended { Method::CONNECT.as_str() } else { head.method.as_str() }, to);
    if !opens {
        hpack::write_scheme(to);
        hpack::write_path(&head.path, to);
    }
    if let Some(authority) = &head.authority {
        hpack::write_authority(authority, to);
    }
    if let Some(protocol) = &head.protocol {
        hpack::write_protocol(protocol, to);
    }
    write_fields(&head.fields, to);
    Ok(())
}

/// Writes the head of a response, final or not, at the end of `to`, as a whole block. 101, which HTTP/2 has not, becomes
/// 200 (RFC 8441 §5). Fields of connections are left out.
///
/// # Errors
/// When the status has not three digits; nothing is written then.
pub fn write_response(head: &ResponseHead, to: &mut Vec<u8>) -> Result<(), Unsayable> {
    let status = match head.status {
        101 => 200,
        status @ 100..=999 => status,
        _ => return Err(Unsayable("such a status")),
    };
    to.reserve(head_bytes(&head.fields));
    hpack::write_status(status, to);
    write_fields(&head.fields, to);
    Ok(())
}

/// Writes trailer fields at the end of `to`, as a whole block: an empty one if there are none that may be.
pub fn write_trailers(trailers: &Fields, to: &mut Vec<u8>) {
    for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name)) {
        hpack::write_field(name, value, to);
    }
}

/// What the fields of a head come to, about.
fn head_bytes(fields: &Fields) -> usize {
    fields.bytes() + 4 * fields.len() + 64
}

fn write_fields(fields: &Fields, to: &mut Vec<u8>) {
    for (name, value) in fields.iter() {
        match Known::of(name) {
            Known::Host | Known::ContentLength | Known::Expect | Known::Other => {
                hpack::write_field(name, value, to);
            }
            Known::Te if value.eq_ignore_ascii_case(TRAILERS.as_bytes()) => {
                hpack::write_field(name, TRAILERS.as_bytes(), to);
            }
            Known::Te | Known::TransferEncoding | Known::Connection | Known::Upgrade | Known::Idle => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pseudo,
    Field,
}

/// The fields of a block, as far as they have been read.
struct List {
    fields: Fields,
    fields_max: usize,
    /// As in [`LIST_BYTES_MAX`].
    size: usize,
    /// Whether there was a field that is no pseudo-header field.
    begun: bool,
    /// Whether TE is among the fields.
    te: bool,
}

impl List {
    fn new(block: &[u8], (fields, bytes): (usize, usize), fields_max: usize) -> Self {
        let fields = Fields::with_capacity(fields, bytes.max(block.len()));
        Self { fields, fields_max, size: 0, begun: false, te: false }
    }

    /// Checks and counts what holds for all fields.
    fn begin(&mut self, name: &[u8], value: &[u8]) -> Result<Kind, Malformed> {
        self.size += name.len() + value.len() + ENTRY_BYTES;
        if self.size > LIST_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        if name.first() == Some(&b':') {
            return if self.begun { Err(Malformed::Late) } else { Ok(Kind::Pseudo) };
        }
        self.begun = true;
        if !is_lower_name(name) {
            return Err(Malformed::Name);
        }
        if !is_value(value) {
            return Err(Malformed::Value);
        }
        Ok(Kind::Field)
    }

    /// Keeps a field, unless it belongs to a connection.
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.is_kept(name, value)? { self.append(name, value) } else { Ok(()) }
    }

    fn is_kept(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Malformed> {
        match Known::of(name) {
            Known::Other | Known::Host | Known::ContentLength | Known::Expect => Ok(true),
            Known::Te if value.trim_ascii() == TRAILERS.as_bytes() => {
                Ok(!std::mem::replace(&mut self.te, true))
            }
            // What would have begun HTTP/2 within HTTP/1 means nothing here.
            Known::Idle if name == b"http2-settings" => Ok(false),
            Known::Te | Known::Idle | Known::Connection | Known::TransferEncoding | Known::Upgrade => {
                Err(Malformed::Connection)
            }
        }
    }

    fn append(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.fields.len() == self.fields_max {
            return Err(Malformed::TooLarge);
        }
        self.fields.append(name, value);
        Ok(())
    }
}

/// A request, as far as it has been read.
struct Request {
    method: Option<Method>,
    scheme: Option<()>,
    path: Option<String>,
    authority: Option<String>,
    protocol: Option<String>,
    list: List,
    /// How many crumbs of a cookie there were: the first is among the fields, all are in `cookie` if there are more.
    crumbs: usize,
    cookie: Vec<u8>,
}

impl Request {
    fn new(block: &[u8]) -> Self {
        Self {
            method: None,
            scheme: None,
            path: None,
            authority: None,
            protocol: None,
            list: List::new(block, (HEAD_FIELDS, HEAD_BYTES), REQUEST_FIELDS_MAX),
            crumbs: 0,
            cookie: Vec::new(),
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.list.begin(name, value)? == Kind::Pseudo {
            return self.pseudo(name, value);
        }
        match name {
            b"host" => self.host(value),
            COOKIE => self.crumb(value.trim_ascii()),
            b"expect" if items(value).any(|item| !item.eq_ignore_ascii_case(b"100-continue")) => {
                Err(Malformed::Expectation)
            }
            _ => self.list.field(name, value),
        }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        match name {
            b":method" => put(&mut self.method, Method::from_bytes(value).map_err(|_| Malformed::Method)?),
            b":scheme" if is_scheme(value) => put(&mut self.scheme, ()),
            b":scheme" => Err(Malformed::Scheme),
            b":path" if is_path(value) => put(&mut self.path, text(value).ok_or(Malformed::Path)?),
            b":path" => Err(Malformed::Path),
            b":authority" => {
                let named = authority::parse(value).ok_or(Malformed::Authority)?;
                put(&mut self.authority, named.to_owned())
            }
            b":protocol" if is_name(value) => {
                put(&mut self.protocol, text(value).ok_or(Malformed::Protocol)?)
            }
            b":protocol" => Err(Malformed::Protocol),
            _ => Err(Malformed::Pseudo),
        }
    }

    /// Compares what Host names with what is known (RFC 9113 §8.3.1). An empty one names nothing.
    fn host(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let value = value.trim_ascii();
        if value.is_empty() {
            return Ok(());
        }
        let named = authority::parse(value).ok_or(Malformed::Authority)?;
        match &self.authority {
            Some(other) if !other.eq_ignore_ascii_case(named) => Err(Malformed::Hosts),
            Some(_) => Ok(()),
            None => put(&mut self.authority, named.to_owned()),
        }
    }

    /// Joins the crumbs of a cookie (RFC 9113 §8.2.3).
    fn crumb(&mut self, value: &[u8]) -> Result<(), Malformed> {
        self.crumbs += 1;
        if self.crumbs == 1 {
            return self.list.append(COOKIE, value);
        }
        if self.crumbs == 2 {
            self.cookie.extend_from_slice(self.list.fields.get("cookie").unwrap_or_default());
        }
        self.cookie.extend_from_slice(b"; ");
        self.cookie.extend_from_slice(value);
        Ok(())
    }

    fn finish(self) -> Result<RequestHead, Malformed> {
        let method = self.method.ok_or(Malformed::Missing)?;
        let opens = method == Method::CONNECT && self.protocol.is_none();
        if self.protocol.is_some() && method != Method::CONNECT {
            return Err(Malformed::Protocol);
        }
        let path = match (self.scheme, self.path) {
            // RFC 9113 §8.5.
            (None, None) if opens => String::new(),
            (Some(()), Some(path)) if !opens => path,
            _ if opens => return Err(Malformed::Pseudo),
            _ => return Err(Malformed::Missing),
        };
        if opens && self.authority.as_deref().and_then(authority::port).is_none() {
            return Err(Malformed::Authority);
        }
        if path == "*" && method != Method::OPTIONS {
            return Err(Malformed::Path);
        }
        let mut fields = self.list.fields;
        if self.crumbs > 1 {
            fields.set("cookie", &self.cookie);
        }
        // An extended CONNECT is a GET that changes to another protocol (RFC 8441 §5).
        let method = if self.protocol.is_some() { Method::GET } else { method };
        let (authority, protocol) = (self.authority, self.protocol);
        Ok(RequestHead { method, path, authority, version: Version::Http2, protocol, fields })
    }
}

const COOKIE: &[u8] = b"cookie";

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if place.replace(value).is_some() { Err(Malformed::Repeated) } else { Ok(()) }
}

fn text(ascii: &[u8]) -> Option<String> {
    str::from_utf8(ascii).ok().map(str::to_owned)
}

fn status_of(value: &[u8]) -> Result<u16, Malformed> {
    let [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = value else {
        return Err(Malformed::Status);
    };
    let [hundreds, tens, ones] = [hundreds, tens, ones].map(|digit| u16::from(digit - b'0'));
    let status = 100 * hundreds + 10 * tens + ones;
    if status == 101 { Err(Malformed::Status) } else { Ok(status) }
}

/// Origin form, or an asterisk: what the target of a request in HTTP/1 can be, without a space or a control, which would
/// end it there, and without a fragment.
fn is_path(value: &[u8]) -> bool {
    let bad = |byte: u8| u8::from(!byte.is_ascii_graphic() || byte == b'#');
    (value.first() == Some(&b'/') || value == b"*") && value.iter().fold(0, |any, byte| any | bad(*byte)) == 0
}

/// RFC 3986 §3.1. Which scheme it is makes no difference: here it is not known who has taken TLS off.
fn is_scheme(value: &[u8]) -> bool {
    value == b"http"
        || value.first().is_some_and(u8::is_ascii_alphabetic)
            && value.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Tells whether these bytes are a field name of HTTP/2: a token without upper case (RFC 9113 §8.2.1).
fn is_lower_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().fold(true, |all, byte| all & LOWER_NAME_BYTES[usize::from(*byte)])
}

const LOWER_NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token_byte(byte as u8) && !(byte as u8).is_ascii_uppercase();
        byte += 1;
    }
    table
};
