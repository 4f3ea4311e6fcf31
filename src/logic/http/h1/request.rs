//! Reading the head of a request (RFC 9112 §3), and what is refused.

use std::mem::MaybeUninit;

use http::Method;
use httparse::{ParserConfig, Status};

use crate::logic::http::authority;
use crate::logic::http::fields::items;
use crate::logic::http::framing::Framing;
use crate::logic::http::h1::lines::{Coding, FIELDS_MAX, HEAD_BYTES_MAX, Malformed, Scan, end_with_crlf};
use crate::logic::http::head::{RequestHead, Version};

/// How many empty lines before a request are passed over: old clients end a body with one too many (RFC 9112 §2.2).
const EMPTY_LINES_MAX: usize = 4;

/// What a head may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The size of the head, in bytes, up to and with its last line end.
    pub head_bytes: usize,
    /// The number of fields; not more than [`FIELDS_MAX`].
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: HEAD_BYTES_MAX, fields: FIELDS_MAX }
    }
}

/// A request that is refused as it stands. It is answered, and then the connection is closed: where the next request would
/// begin is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Refusal {
    /// The status to answer: 400, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// Which rule is broken.
    pub cause: &'static str,
}

impl Refusal {
    /// Returns the refusal of a malformed request: 400.
    pub const fn bad(cause: &'static str) -> Self {
        Self { status: 400, cause }
    }

    const fn new(status: u16, cause: &'static str) -> Self {
        Self { status, cause }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::bad(malformed.0)
    }
}

/// The four ways to name a target (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`, as to a server.
    Origin,
    /// `http://host/path?query`, as to a proxy; no other scheme is accepted.
    Absolute,
    /// `host:port`, of CONNECT.
    Authority,
    /// `*`, of OPTIONS: the server as a whole.
    Asterisk,
}

/// A request as it came by an HTTP/1 connection, up to its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The head, without what belongs to the connection. Host is left out too, also when another one than the target's.
    pub head: RequestHead,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the caller means to send another request by the same connection.
    pub keep_alive: bool,
    /// Whether the caller waits for `100 Continue` before it sends the body. Expect is among the fields then, and only then.
    pub expects_continue: bool,
    /// How the target was written.
    pub form: Form,
}

/// Reads the head of a request from the beginning of the buffer and tells how many bytes it took.
///
/// None when more bytes are needed. O(buffer): see [`may_be_whole`](crate::logic::http::h1::lines::may_be_whole).
///
/// # Errors
/// A [`Refusal`], also of a head that is not whole when it is clear that it cannot become a good one. Chunked after
/// another coding is 501, as RFC 9112 §6.1 has it; codings that do not end with chunked are 400, since the end of the body
/// is not known. Absolute targets of another scheme than `http`, `https` among them, are 400: there is no TLS here.
pub fn parse(buffer: &[u8], limits: Limits) -> Result<Option<(Request, usize)>, Refusal> {
    let Some(skipped) = empty_lines(buffer)? else { return Ok(None) };
    let rest = &buffer[skipped..];
    let within = &rest[..rest.len().min(limits.head_bytes)];
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let lines = &mut lines[..limits.fields.min(FIELDS_MAX)];
    let mut parsed = httparse::Request::new(&mut []);
    let status = ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, within, lines);
    let len = match status {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return more(within, limits),
        Err(httparse::Error::Version) => return other_version(within, limits),
        Err(error) => return Err(refusal(error)),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::bad("no request line"));
    };
    let head = &within[..len];
    if !end_with_crlf(head, parsed.headers) {
        return Err(Refusal::bad("a line does not end with CR LF"));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::bad("not a method"))?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let scan = Scan::of(head, parsed.headers)?;
    let request = assemble(method, target, version, scan)?;
    Ok(Some((request, skipped + len)))
}

/// Returns how long the empty lines before a request are; None when it is not known yet.
fn empty_lines(buffer: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut skipped = 0;
    while buffer[skipped..].starts_with(b"\r\n") && skipped < 2 * EMPTY_LINES_MAX {
        skipped += 2;
    }
    match &buffer[skipped..] {
        [] | [b'\r'] => Ok(None),
        [b'\r' | b'\n', ..] => Err(Refusal::bad("empty lines before a request")),
        _ => Ok(Some(skipped)),
    }
}

fn more<T>(within: &[u8], limits: Limits) -> Result<Option<T>, Refusal> {
    if within.len() < limits.head_bytes {
        return Ok(None);
    }
    let in_first_line = !within.contains(&b'\n');
    Err(if in_first_line {
        Refusal::new(414, "target too long")
    } else {
        Refusal::new(431, "head too large")
    })
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, "too many fields"),
        httparse::Error::HeaderName => Refusal::bad("not a field name"),
        httparse::Error::HeaderValue => Refusal::bad("not a field value"),
        httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token
        | httparse::Error::Version => Refusal::bad("not a request line"),
    }
}

/// Tells a version of HTTP that is not spoken here from what is no version at all.
fn other_version<T>(within: &[u8], limits: Limits) -> Result<Option<T>, Refusal> {
    let version = within.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let shape = b"HTTP/0.0\r\n";
    let fits = version.iter().zip(shape).all(|(byte, wanted)| match wanted {
        b'0' => byte.is_ascii_digit(),
        _ => byte == wanted,
    });
    match fits {
        true if version.len() < shape.len() => more(within, limits),
        true => Err(Refusal::new(505, "neither HTTP/1.1 nor HTTP/1.0")),
        false => Err(refusal(httparse::Error::Version)),
    }
}

fn assemble(method: Method, target: &str, version: Version, scan: Scan<'_>) -> Result<Request, Refusal> {
    let mut framing = request_framing(&scan, version)?;
    let host = host(&scan)?;
    let (form, named, path) = resolve(&method, target)?;
    if form == Form::Authority {
        if version == Version::Http10 {
            return Err(Refusal::bad("connect in HTTP/1.0"));
        }
        if !framing.is_empty() {
            return Err(Refusal::bad("connect with a body"));
        }
        framing = Framing::None;
    }
    let options = scan.options;
    let expects_continue = expects_continue(&scan, version, framing)?;
    let mut fields = scan.fields;
    if scan.expect.is_some() && !expects_continue {
        fields.remove("expect");
    }
    let wish = options.upgrade && version == Version::Http11 && form != Form::Authority;
    let head = RequestHead {
        method,
        path,
        authority: named.or(host).map(str::to_owned),
        version,
        protocol: scan.upgrade.filter(|_| wish),
        fields,
    };
    let keep_alive = !options.close && (version == Version::Http11 || options.keep_alive);
    Ok(Request { head, framing, keep_alive, expects_continue, form })
}

fn request_framing(scan: &Scan<'_>, version: Version) -> Result<Framing, Refusal> {
    match (scan.coding(), scan.length) {
        (Coding::Plain, None) => Ok(Framing::None),
        (Coding::Plain, Some(length)) => Ok(Framing::Length(length)),
        (_, Some(_)) => Err(Refusal::bad("both content-length and transfer-encoding")),
        _ if version == Version::Http10 => Err(Refusal::bad("transfer-encoding in HTTP/1.0")),
        (Coding::Chunked, None) => Ok(Framing::Chunked),
        (Coding::Unknown, None) => Err(Refusal::new(501, "unknown transfer coding")),
        (Coding::Broken, None) => Err(Refusal::bad("transfer-encoding does not end with chunked")),
    }
}

/// Returns what Host names; None when there is no Host, or an empty one (a target without authority).
fn host<'b>(scan: &Scan<'b>) -> Result<Option<&'b str>, Refusal> {
    if scan.hosts > 1 {
        return Err(Refusal::bad("more than one host"));
    }
    match scan.host.filter(|value| !value.is_empty()) {
        Some(value) => authority::parse(value).map(Some).ok_or(Refusal::bad("host is not host[:port]")),
        None => Ok(None),
    }
}

/// Takes a target apart: its form, the authority that it names, and the path and query.
fn resolve<'b>(method: &Method, target: &'b str) -> Result<(Form, Option<&'b str>, String), Refusal> {
    // The parser has refused spaces and controls.
    if target.bytes().any(|byte| byte >= 0x7f || byte == b'#') {
        return Err(Refusal::bad("a byte that a target cannot have"));
    }
    if *method == Method::CONNECT {
        let named = authority::parse(target.as_bytes()).filter(|named| authority::port(named).is_some());
        let named = named.ok_or(Refusal::bad("the target of connect is not host:port"))?;
        return Ok((Form::Authority, Some(named), String::new()));
    }
    if target.starts_with('/') {
        return Ok((Form::Origin, None, target.to_owned()));
    }
    if target == "*" {
        return if *method == Method::OPTIONS {
            Ok((Form::Asterisk, None, target.to_owned()))
        } else {
            Err(Refusal::bad("the target * is for options only"))
        };
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(Refusal::bad("the target is neither a path nor absolute"));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Refusal::bad("the scheme of the target is not http"));
    }
    let (named, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let named = authority::parse(named.as_bytes()).ok_or(Refusal::bad("no host[:port] in the target"))?;
    let path = match path.as_bytes().first() {
        Some(b'/') => path.to_owned(),
        Some(_) => format!("/{path}"),
        // RFC 9112 §3.2.4.
        None if *method == Method::OPTIONS => "*".to_owned(),
        None => "/".to_owned(),
    };
    Ok((Form::Absolute, Some(named), path))
}

/// Tells whether the caller waits for a go-ahead: RFC 9110 §10.1.1 has it ignored in HTTP/1.0, and there is nothing to wait
/// for without a body.
fn expects_continue(scan: &Scan<'_>, version: Version, framing: Framing) -> Result<bool, Refusal> {
    let Some(value) = scan.expect.filter(|_| version == Version::Http11) else { return Ok(false) };
    if items(value).any(|item| !item.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::new(417, "unknown expectation"));
    }
    Ok(!framing.is_empty() && items(value).next().is_some())
}
