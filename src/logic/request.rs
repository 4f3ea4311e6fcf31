//! What deciders read of a request.

use http::Method;

use crate::logic::http::fields::Fields;

/// The head of a request, borrowed: nothing is copied to decide about it.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as sent, percent-encoding and all, without the query; `*` or empty for requests without one.
    pub path: &'a str,
    /// What follows the `?`, without it.
    pub query: Option<&'a str>,
    /// The `host[:port]` that it names; which service is called is decided before.
    pub authority: Option<&'a str>,
    /// The header fields, without Host.
    pub fields: &'a Fields,
}
