//! What a rule does to a request and to its response, in the order of the manifest.

pub mod header;

use crate::logic::http::fields::Fields;
use crate::logic::route::filter::header::HeaderChange;
use crate::model::route::{FilterKind, HttpRouteFilter};

/// One filter, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Changes the request's header fields.
    RequestHeaders(HeaderChange),
    /// Changes the response's header fields.
    ResponseHeaders(HeaderChange),
}

impl Filter {
    /// Makes a filter ready.
    ///
    /// Returns `None` when its body is missing or a field is not valid, which `logic::validate` refuses before.
    pub fn new(wanted: &HttpRouteFilter) -> Option<Self> {
        match wanted.kind {
            FilterKind::RequestHeaderModifier => {
                HeaderChange::new(wanted.request_header_modifier.as_ref()?).map(Self::RequestHeaders)
            }
            FilterKind::ResponseHeaderModifier => {
                HeaderChange::new(wanted.response_header_modifier.as_ref()?).map(Self::ResponseHeaders)
            }
        }
    }
}

/// Applies what `filters` do to a request on its way to a backend.
pub fn on_request(filters: &[Filter], fields: &mut Fields) {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(change) => change.apply(fields),
            Filter::ResponseHeaders(_) => {}
        }
    }
}

/// Applies what `filters` do to a response on its way back to the caller.
pub fn on_response(filters: &[Filter], fields: &mut Fields) {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(_) => {}
            Filter::ResponseHeaders(change) => change.apply(fields),
        }
    }
}
