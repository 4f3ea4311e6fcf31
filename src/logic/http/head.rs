//! What stands above a body: the heads of requests and responses, the same for every version of HTTP.

use http::{Method, StatusCode};

use crate::logic::http::fields::Fields;

/// The version of HTTP that a message was in, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// HTTP/1.0: no chunks, no informational responses, closed after one exchange unless asked otherwise.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHead {
    /// The method, in its case.
    pub method: Method,
    /// Path and query as sent, percent-encoding and all (origin form); `*` when the server as a whole is asked; empty for
    /// CONNECT, whose target is the authority.
    pub path: String,
    /// The `host[:port]` that was asked for: of the target if it has one, otherwise of Host. None when nobody said.
    pub authority: Option<String>,
    /// The version that the caller speaks.
    pub version: Version,
    /// The protocol that the caller wishes to change to: the value of Upgrade, or `:protocol` of an extended CONNECT.
    pub protocol: Option<String>,
    /// The end-to-end fields, without Host (it is [`RequestHead::authority`]) and Content-Length (it is the framing).
    pub fields: Fields,
}

impl RequestHead {
    /// Returns the path without the query, and the query without its `?`.
    pub fn path_and_query(&self) -> (&str, Option<&str>) {
        match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.path, None),
        }
    }
}

/// The head of a response, final or informational.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 999; those above 599 have no meaning and are passed on.
    pub status: u16,
    /// The reason phrase, when it is not the usual one of the status.
    pub reason: Option<Box<[u8]>>,
    /// The version that the service speaks.
    pub version: Version,
    /// The end-to-end fields, without Content-Length (it is the framing).
    pub fields: Fields,
}

impl ResponseHead {
    /// Returns a response of this status in HTTP/1.1, with the usual reason and no fields.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Tells whether another response to the same request follows this one: true for 1xx, but not for 101.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Returns the usual reason phrase of a status; empty for one that has none.
pub fn usual_reason(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}
