//! Reading the head of a response (RFC 9112 §4 and §6.3).

use std::mem::MaybeUninit;

use http::Method;
use httparse::{ParserConfig, Status};

use crate::logic::http::framing::Framing;
use crate::logic::http::h1::lines::{
    Coding, HEAD_BYTES_MAX, Malformed, Options, RESPONSE_FIELDS_MAX, Scan, end_with_crlf,
};
use crate::logic::http::head::{ResponseHead, Version, usual_reason};

/// A response as it came by an HTTP/1 connection, up to its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The head, without what belongs to the connection; Upgrade is kept in 101 and 426, which are about it.
    pub head: ResponseHead,
    /// How the body that follows ends. None for 1xx, 204 and 304, for answers to HEAD, and for a tunnel (2xx to CONNECT).
    pub framing: Framing,
    /// What the head says of a body: the same as `framing`, but that answers to HEAD and 304 tell what GET would get.
    /// It is what the writer is to be given.
    pub announced: Framing,
    /// Whether the service takes another request by the same connection after this response.
    pub keep_alive: bool,
}

impl Response {
    /// Returns the length that the head tells, in bytes; also of a body that does not follow.
    pub fn length_hint(&self) -> Option<u64> {
        match self.announced {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

/// Reads the head of a response to a request of this method, from the beginning of the buffer, and tells how many bytes it
/// took.
///
/// None when more bytes are needed. An informational response is a result as any other (see
/// [`ResponseHead::is_interim`]). O(buffer): see [`may_be_whole`](crate::logic::http::h1::lines::may_be_whole).
///
/// # Errors
/// When the head breaks a rule or cannot become a good one. Any transfer coding but chunked alone does: none other was
/// asked for.
pub fn parse(buffer: &[u8], method: &Method) -> Result<Option<(Response, usize)>, Malformed> {
    // The parser passes over empty lines; after a request that is answered, there is nothing to forgive.
    if matches!(buffer, [b'\r' | b'\n', ..]) {
        return Err(Malformed("an empty line before a response"));
    }
    let within = &buffer[..buffer.len().min(HEAD_BYTES_MAX)];
    let mut lines = [const { MaybeUninit::uninit() }; RESPONSE_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, within, &mut lines);
    let len = match status {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if within.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) => return Err(Malformed("head too large")),
        Err(error) => return Err(malformed(error)),
    };
    let head = &within[..len];
    if !end_with_crlf(head, parsed.headers) {
        return Err(Malformed("a line does not end with CR LF"));
    }
    let (Some(status @ 100..), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Malformed("a status below 100"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut scan = Scan::of(head, parsed.headers)?;
    let announced = announced(&scan, version)?;
    if let Some(protocol) = scan.upgrade.take().filter(|_| matches!(status, 101 | 426)) {
        scan.fields.append(b"upgrade", protocol.as_bytes());
    }
    let reason =
        Some(reason(head)).filter(|reason| *reason != usual_reason(status).as_bytes()).map(Box::from);
    let head = ResponseHead { status, reason, version, fields: scan.fields };
    Ok(Some((delimit(head, announced, scan.options, method), len)))
}

fn malformed(error: httparse::Error) -> Malformed {
    Malformed(match error {
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::HeaderName => "not a field name",
        httparse::Error::HeaderValue => "not a field value",
        httparse::Error::Version => "neither HTTP/1.1 nor HTTP/1.0",
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => "not a status line",
    })
}

fn announced(scan: &Scan<'_>, version: Version) -> Result<Framing, Malformed> {
    match (scan.coding(), scan.length) {
        (Coding::Plain, None) => Ok(Framing::UntilClose),
        (Coding::Plain, Some(length)) => Ok(Framing::Length(length)),
        (_, Some(_)) => Err(Malformed("both content-length and transfer-encoding")),
        _ if version == Version::Http10 => Err(Malformed("transfer-encoding in HTTP/1.0")),
        (Coding::Chunked, None) => Ok(Framing::Chunked),
        (Coding::Unknown | Coding::Broken, None) => Err(Malformed("a transfer coding other than chunked")),
    }
}

/// Returns the reason phrase of a head whose status line is known to be `HTTP/1.x NNN[ reason]` CR LF: the parser gives
/// none that has a byte above ASCII.
fn reason(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.get(b"HTTP/1.1 200 ".len()..).unwrap_or_default()
}

/// Decides whether a body follows (RFC 9112 §6.3, the first rules, which no field overrules).
fn delimit(head: ResponseHead, announced: Framing, options: Options, method: &Method) -> Response {
    let tunnel = *method == Method::CONNECT && (200..300).contains(&head.status);
    // A 204 that announces a body may well send it: what comes next on the connection could be that.
    let suspect = head.status == 204 && !matches!(announced, Framing::UntilClose | Framing::Length(0));
    let (framing, announced) = match (head.status, announced) {
        (100..200 | 204, _) => (Framing::None, Framing::None),
        _ if tunnel => (Framing::None, Framing::None),
        (304, Framing::Length(length)) => (Framing::None, Framing::Length(length)),
        (304, _) => (Framing::None, Framing::None),
        _ if *method != Method::HEAD => (announced, announced),
        (_, Framing::UntilClose) => (Framing::None, Framing::None),
        (_, announced) => (Framing::None, announced),
    };
    let asked = !options.close && (head.version == Version::Http11 || options.keep_alive);
    let keep_alive = asked && !suspect && framing != Framing::UntilClose;
    Response { head, framing, announced, keep_alive }
}
