//! What a rule, or one of its backends, does to requests and to their responses.
//!
//! The order is fixed, whatever that of the manifest: a preflight request is answered, then a redirection is; then header
//! fields are changed, then host and path; copies are made of what came of that.

pub mod header;
pub mod path;
pub mod redirect;
pub mod rewrite;
pub mod cors;
pub mod mirror;

use crate::logic::http::fields::Fields;
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::route::filter::cors::Cors;
use crate::logic::route::filter::header::HeaderChange;
use crate::logic::route::filter::mirror::Mirror;
use crate::logic::route::filter::redirect::Redirect;
use crate::logic::route::filter::rewrite::Rewrite;
use crate::model::route_filter::{FilterKind, HttpRouteFilter};

/// All filters of a rule or a backend, ready to be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Changes the request's header fields.
    pub request: Option<HeaderChange>,
    /// Changes the response's header fields.
    pub response: Option<HeaderChange>,
    /// Answers in place of a backend.
    pub redirect: Option<Box<Redirect>>,
    /// Changes the request's host and path.
    pub rewrite: Option<Box<Rewrite>>,
    /// Says who may call from other origins.
    pub cors: Option<Box<Cors>>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
}

/// Where filters stand.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The namespace of the route.
    pub namespace: &'a str,
    /// The label of the rule.
    pub label: &'a str,
    /// What the rule's only match asks of the path, if it is a prefix.
    pub prefix: Option<&'a str>,
}

impl Filters {
    /// Makes filters ready. One whose body is missing or not valid, which `logic::validate` refuses before, does nothing.
    pub fn new(wanted: &[HttpRouteFilter], place: Place<'_>) -> Self {
        let mut filters = Self::default();
        for filter in wanted {
            match filter.kind {
                FilterKind::RequestHeaderModifier => {
                    filters.request = filter.request_header_modifier.as_ref().and_then(HeaderChange::new);
                }
                FilterKind::ResponseHeaderModifier => {
                    filters.response = filter.response_header_modifier.as_ref().and_then(HeaderChange::new);
                }
                FilterKind::RequestRedirect => {
                    let made = filter.request_redirect.as_ref();
                    let made = made.and_then(|redirect| Redirect::new(redirect, place.prefix));
                    filters.redirect = made.map(Box::new);
                }
                FilterKind::UrlRewrite => {
                    let made = filter.url_rewrite.as_ref();
                    let made = made.and_then(|rewrite| Rewrite::new(rewrite, place.prefix));
                    filters.rewrite = made.map(Box::new);
                }
                FilterKind::Cors => filters.cors = filter.cors.as_ref().map(|cors| Box::new(Cors::new(cors))),
                FilterKind::RequestMirror => {
                    let made = filter.request_mirror.as_ref();
                    let made = made.and_then(|mirror| Mirror::new(mirror, place.namespace, place.label));
                    filters.mirrors.extend(made);
                }
            }
        }
        filters
    }

    /// Returns the answer that these filters give themselves; `service` is the host of a redirection when nobody names one.
    pub fn answer(&self, head: &RequestHead, service: &str) -> Option<ResponseHead> {
        if let Some(answer) = self.cors.as_ref().and_then(|cors| cors.preflight(head)) {
            return Some(answer);
        }
        let redirect = self.redirect.as_ref()?;
        let mut answer = ResponseHead::new(redirect.status);
        answer.fields.append(b"location", redirect.location(head, service).as_bytes());
        self.on_response(&mut answer.fields);
        if let Some(grant) = self.cors.as_ref().and_then(|cors| cors.grant(&head.fields)) {
            grant.apply(&mut answer.fields);
        }
        Some(answer)
    }

    /// Changes a response on its way back to the caller.
    pub fn on_response(&self, fields: &mut Fields) {
        if let Some(change) = &self.response {
            change.apply(fields);
        }
    }
}
