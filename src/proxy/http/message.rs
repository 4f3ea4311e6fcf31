//! Heads, from one form to another, and the fields that only proxies may say.
//!
//! `mesh-*` fields from applications are taken away, on the way there and on the way back, so nobody can make them up; but
//! for the few that they hand on.

use h2::RecvStream;
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};

use crate::logic::http::fields::{Fields, is_name, items};
use crate::logic::http::framing::Framing;
use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::logic::http::{authority, hop};
use crate::proxy::failure::{FAILURE, Failed, Failure};
use crate::proxy::stream::http2::{fields, header_map};

const PREFIX: &[u8] = b"mesh-";
const CONTENT_LENGTH: &str = "content-length";

/// The head of a response with what it says of its body.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The head.
    pub(crate) head: ResponseHead,
    /// How the body is delimited; chunks stand for any body of unknown length.
    pub(crate) framing: Framing,
    /// What the head says of a body, also of one that does not come, as in answers to HEAD.
    pub(crate) announced: Framing,
    /// Whether the connection it came on says that it can be used again.
    pub(crate) keep_alive: bool,
}

impl Answer {
    /// Makes one of a head that came with `content-length` among its fields; `ended` says that no body follows.
    ///
    /// # Errors
    /// When the length is none, or a body that should follow does not.
    pub(crate) fn new(mut head: ResponseHead, method: &Method, ended: bool) -> Result<Self, Failed> {
        let length = take_length(&mut head.fields, Failure::BadResponse)?;
        let bodiless = *method == Method::HEAD || matches!(head.status, 100..200 | 204 | 304);
        let announced = match (length, ended) {
            (Some(length @ 1..), true) if !bodiless => {
                return Err(Failed::new(Failure::Truncated, format!("no byte of {length} came")));
            }
            (Some(length), _) => Framing::Length(length),
            (None, _) if bodiless => Framing::None,
            (None, true) => Framing::Length(0),
            (None, false) => Framing::Chunked,
        };
        let framing = if bodiless { Framing::None } else { announced };
        Ok(Self { head, framing, announced, keep_alive: true })
    }

    /// Makes one that is not the last one.
    pub(crate) fn interim(head: ResponseHead) -> Self {
        Self { head, framing: Framing::None, announced: Framing::None, keep_alive: true }
    }

    /// Writes the length among the fields, where other forms than HTTP/1 have it.
    pub(crate) fn put_length(&mut self) {
        if let Framing::Length(length) = self.announced {
            put_length(&mut self.head.fields, length);
        }
    }
}

/// Writes a length among the fields.
pub(crate) fn put_length(fields: &mut Fields, length: u64) {
    fields.set(CONTENT_LENGTH, length.to_string().as_bytes());
}

/// Takes the length from among the fields.
///
/// # Errors
/// With `failure`, when it is not one number.
pub(crate) fn take_length(fields: &mut Fields, failure: Failure) -> Result<Option<u64>, Failed> {
    let mut length = None;
    for value in fields.all(CONTENT_LENGTH).flat_map(items) {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let number: u64 = number.ok_or_else(|| Failed::new(failure, "its Content-Length is no number"))?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(Failed::new(failure, "it has two lengths"));
        }
    }
    if length.is_some() {
        fields.remove(CONTENT_LENGTH);
    }
    Ok(length)
}

/// Returns how the body of a request is delimited that came with `content-length` among its fields; `ended` says that no
/// body follows.
///
/// # Errors
/// When the length is none, or a body that should follow does not.
pub(crate) fn take_framing(head: &mut RequestHead, ended: bool) -> Result<Framing, Failed> {
    match (take_length(&mut head.fields, Failure::BadRequest)?, ended) {
        (Some(length @ 1..), true) => {
            Err(Failed::new(Failure::BadRequest, format!("no byte of {length} came")))
        }
        (Some(length), _) => Ok(Framing::Length(length)),
        (None, true) => Ok(Framing::None),
        (None, false) => Ok(Framing::Chunked),
    }
}

/// Takes the head of a request of HTTP/2, and refuses what could not be said in HTTP/1: h2 lets some of that pass.
///
/// # Errors
/// When it has lengths that do not fit, two hosts, or a pseudo-header field that names nothing.
pub(crate) fn request_from_http2(
    request: Request<RecvStream>,
) -> Result<(RequestHead, Framing, RecvStream), Failed> {
    let (mut parts, body) = request.into_parts();
    let protocol = parts.extensions.remove::<Protocol>().map(|protocol| protocol.as_str().to_owned());
    if protocol.as_deref().is_some_and(|protocol| !is_name(protocol.as_bytes())) {
        return Err(Failed::new(Failure::BadRequest, "its :protocol is none"));
    }
    let mut fields = fields(&parts.headers);
    let authority = authority_of(&parts.uri, &fields)?;
    fields.remove("host");
    hop::strip(&mut fields);
    let opens = parts.method == Method::CONNECT && protocol.is_none();
    let path = if opens { String::new() } else { path_of(&parts.method, &parts.uri)? };
    // An extended CONNECT is a GET that changes to another protocol (RFC 8441 §5).
    let method = if protocol.is_some() { Method::GET } else { parts.method };
    let mut head = RequestHead { method, path, authority, version: Version::Http2, protocol, fields };
    let mut framing = take_framing(&mut head, body.is_end_stream())?;
    if head.protocol.is_some() {
        // What comes after the head is for whoever agrees to another protocol.
        framing = Framing::None;
    }
    Ok((head, framing, body))
}

/// Returns the host that a request is for: what `:authority` says, else `host`. Two different ones make the request
/// malformed (RFC 9113 §8.3.1), as does user information.
fn authority_of(uri: &Uri, fields: &Fields) -> Result<Option<String>, Failed> {
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut named: Option<&str> = None;
    for name in target.into_iter().chain(fields.all("host")).filter(|name| !name.is_empty()) {
        let host = authority::parse(name);
        let host = host.ok_or_else(|| Failed::new(Failure::BadRequest, "its host is not host[:port]"))?;
        if !named.get_or_insert(host).eq_ignore_ascii_case(host) {
            return Err(Failed::new(Failure::BadRequest, "it has two hosts"));
        }
    }
    Ok(named.map(ToOwned::to_owned))
}

fn path_of(method: &Method, uri: &Uri) -> Result<String, Failed> {
    let path = uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
    if path.starts_with('/') || path == "*" && *method == Method::OPTIONS {
        return Ok(path.to_owned());
    }
    Err(Failed::new(Failure::BadRequest, "its :path is none"))
}

/// Makes the head of a request in HTTP/2; `None` when it cannot be said so.
pub(crate) fn http2_request(head: &RequestHead, framing: Framing) -> Option<Request<()>> {
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(PathAndQuery::try_from(head.path.as_str()).ok()?);
    // Without an authority there can be no scheme here; h2 adds it to what says that it was HTTP/1 before.
    let mut version = http::Version::HTTP_11;
    if let Some(authority) = &head.authority {
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(Authority::try_from(authority.as_str()).ok()?);
        version = http::Version::HTTP_2;
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = version;
    *request.headers_mut() = header_map(&head.fields);
    if let Some(protocol) = &head.protocol {
        // RFC 8441 §5: what HTTP/1 asks for by GET.
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol.as_str()));
    }
    if let Framing::Length(length) = framing {
        request.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    Some(request)
}

/// Makes the head of a response in HTTP/2; `None` when it cannot be said so.
pub(crate) fn http2_response(head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = header_map(&head.fields);
    Some(response)
}

/// Takes the head of a response of HTTP/2.
///
/// # Errors
/// When it has lengths that do not fit.
pub(crate) fn answer_from_http2(
    response: Response<RecvStream>,
    method: &Method,
) -> Result<(Answer, RecvStream), Failed> {
    let (parts, body) = response.into_parts();
    let head = response_head(&parts);
    Ok((Answer::new(head, method, body.is_end_stream())?, body))
}

/// Takes the head of an informational response of HTTP/2.
pub(crate) fn interim_from_http2(response: Response<()>) -> Answer {
    Answer::interim(response_head(&response.into_parts().0))
}

fn response_head(parts: &http::response::Parts) -> ResponseHead {
    let mut fields = fields(&parts.headers);
    hop::strip(&mut fields);
    ResponseHead { status: parts.status.as_u16(), reason: None, version: Version::Http2, fields }
}

/// Takes away what only proxies may say, but for what applications hand on.
pub(crate) fn strip_internal(fields: &mut Fields, handed_on: &[&str]) {
    let internal =
        |name: &[u8]| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if fields.iter().any(|(name, _)| internal(name)) {
        let kept = |name: &[u8]| handed_on.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()));
        fields.retain(|name, _| !internal(name) || kept(name));
    }
}

/// Lets `change` change the fields of a request, and keeps what is no field here out of them.
pub(crate) fn change(head: &mut RequestHead, change: impl FnOnce(&mut Fields)) {
    change(&mut head.fields);
    if let Some(host) = head.fields.get("host") {
        head.authority = Some(String::from_utf8_lossy(host).into_owned());
        head.fields.remove("host");
    }
    head.fields.remove(CONTENT_LENGTH);
    hop::strip(&mut head.fields);
}

/// Returns whether a head is of gRPC.
pub(crate) fn is_grpc(fields: &Fields) -> bool {
    fields.get("content-type").is_some_and(|value| value.starts_with(b"application/grpc"))
}

/// Returns the failure that the called side tells of, where another endpoint may do better.
pub(crate) fn told_failure(fields: &Fields) -> Option<Failure> {
    Failure::told(fields.get(FAILURE)?)
}
