//! Where a redirection leads: the `Location` of the Gateway API's `RequestRedirect`.

use std::fmt::Write as _;

use crate::logic::http::authority;
use crate::logic::http::head::RequestHead;
use crate::logic::route::filter::path::PathChange;
use crate::model::route_filter::{RedirectScheme, RequestRedirect};

/// The port of a request that names none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
const FOUND: u16 = 302;

/// An answer that leads elsewhere, ready to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Its status.
    pub status: u16,
    scheme: Option<RedirectScheme>,
    host: Option<Box<str>>,
    path: Option<PathChange>,
    port: Option<u16>,
}

impl Redirect {
    /// Makes one ready; `prefix` as for [`PathChange::new`].
    ///
    /// Returns `None` when its path lacks a part.
    pub fn new(wanted: &RequestRedirect, prefix: Option<&str>) -> Option<Self> {
        Some(Self {
            status: wanted.status_code.unwrap_or(FOUND),
            scheme: wanted.scheme,
            host: wanted.hostname.as_deref().map(Into::into),
            path: match &wanted.path {
                None => None,
                Some(path) => Some(PathChange::new(path, prefix)?),
            },
            port: wanted.port,
        })
    }

    /// Returns the `Location` for a request, which came by HTTP; `service` is the host when nobody names one.
    ///
    /// The port is that of the filter, else the well-known one of its scheme, else that of the request; it is left out
    /// where it is the well-known one of the scheme.
    pub fn location(&self, head: &RequestHead, service: &str) -> String {
        let asked = head.authority.as_deref().filter(|asked| !asked.is_empty()).unwrap_or(service);
        let (scheme, known) = match self.scheme {
            None | Some(RedirectScheme::Http) => ("http", HTTP_PORT),
            Some(RedirectScheme::Https) => ("https", HTTPS_PORT),
        };
        let port = self.port.unwrap_or_else(|| {
            if self.scheme.is_some() { known } else { authority::port(asked).unwrap_or(HTTP_PORT) }
        });
        let host = self.host.as_deref().unwrap_or_else(|| authority::host(asked));
        let mut location = format!("{scheme}://{host}");
        if port != known {
            _ = write!(location, ":{port}");
        }
        match &self.path {
            Some(path) => location.push_str(&path.apply(&head.path)),
            None if head.path.starts_with('/') => location.push_str(&head.path),
            // `OPTIONS *` is about the server as a whole.
            None => {}
        }
        location
    }
}
