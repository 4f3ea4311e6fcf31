//! Header fields that end at each proxy, and those that proxies say to each other.
//!
//! A link is HTTP/2 whatever the caller speaks; what HTTP/2 cannot say travels in `mesh-*` fields. Such fields from
//! applications are taken away, on the way there and on the way back, so nobody can make them up.

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Version};

use crate::proxy::failure::Failure;

/// Why a proxy made the answer: the token of a [`Failure`].
pub(crate) const FAILURE: HeaderName = HeaderName::from_static("mesh-failure");
/// On a link: the HTTP version that the caller speaks; absent for HTTP/2.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mesh-version");
/// On a link: the method of a request that asks for an upgrade.
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mesh-method");
/// On a link: the true status of a response that refuses an upgrade with 2xx, which HTTP/2 would take for a yes.
pub(crate) const STATUS: HeaderName = HeaderName::from_static("mesh-status");

const PREFIX: &str = "mesh-";
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Takes away what ends at this hop (RFC 9110 §7.6.1): what `Connection` lists, and what old peers forget to list there.
/// Of `TE`, `trailers` stays: gRPC servers insist on it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Who lists these wants to hide them from the next hop, which must not be possible.
            .filter(|name| *name != TE && *name != HOST)
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    if let Some(te) = headers.remove(TE)
        && has_token(&te, "trailers")
    {
        headers.insert(TE, TRAILERS);
    }
}

/// Takes away what only proxies may say.
pub(crate) fn strip_internal(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        let internal: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
        for name in internal {
            headers.remove(name);
        }
    }
}

/// Returns the protocol that a request of HTTP/1 wants to change to. A change to HTTP/2 is not for others to make: `h2c` is
/// ignored (RFC 9113 §3.1).
pub(crate) fn upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let wanted = headers.get(UPGRADE)?;
    let listed = headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    let changes = request.version() == Version::HTTP_11 && listed && !has_token(wanted, "h2c");
    changes.then(|| wanted.clone())
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|text| {
        text.split(',').any(|part| {
            let name = part.split(';').next().unwrap_or(part);
            name.trim().eq_ignore_ascii_case(token)
        })
    })
}

/// Returns whether a head is of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Writes down the caller's HTTP version for the other end of a link.
pub(crate) fn set_version(headers: &mut HeaderMap, version: Version) {
    let text = match version {
        Version::HTTP_2 => return,
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    headers.insert(VERSION, HeaderValue::from_static(text));
}

/// Takes the caller's HTTP version, as the other end of a link wrote it down.
pub(crate) fn take_version(headers: &mut HeaderMap) -> Version {
    match headers.remove(VERSION).as_ref().map(HeaderValue::as_bytes) {
        Some(b"1.0") => Version::HTTP_10,
        Some(_) => Version::HTTP_11,
        None => Version::HTTP_2,
    }
}

/// Makes hyper write the trailers of a gRPC response to a caller of HTTP/1: it writes those that are announced.
pub(crate) fn announce_trailers(headers: &mut HeaderMap) {
    if is_grpc(headers) && !headers.contains_key(TRAILER) {
        headers.insert(TRAILER, HeaderValue::from_static("grpc-status, grpc-message"));
    }
}

/// Returns the failure that the called side tells of, where another endpoint may do better.
pub(crate) fn told_failure(headers: &HeaderMap) -> Option<Failure> {
    match headers.get(FAILURE)?.as_bytes() {
        b"UF" => Some(Failure::Unreachable),
        b"UH" => Some(Failure::NotHere),
        b"UC" => Some(Failure::Reset),
        _ => None,
    }
}
