//! What the filters of a rule, or of a backend, do to a request on its way.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::logic::http::framing::Framing;
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::route::filter::Filters;
use crate::logic::route::filter::cors::Grant;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::proxy::http::client::Http;
use crate::proxy::http::exchange::Sides;
use crate::proxy::http::{message, mirror};

/// Who asks, and how.
#[derive(Clone, Copy)]
pub(crate) struct Original<'a> {
    /// Who calls.
    pub(crate) source: &'a Arc<Subject>,
    /// From which address.
    pub(crate) from: IpAddr,
    /// How the body is delimited.
    pub(crate) framing: Framing,
}

/// What came of filters.
pub(crate) enum Passed<'f> {
    /// The request goes on; its response may be read by the origin that it came from.
    On(Option<Grant<'f>>),
    /// It was answered.
    Answered(ResponseHead),
}

/// A request that passes filters.
pub(crate) struct Filtering<'a> {
    /// The connections, and what is remembered.
    pub(crate) http: &'a Rc<Http>,
    /// Which service is called.
    pub(crate) service: &'a ServiceName,
    /// Who asks.
    pub(crate) original: Original<'a>,
}

impl Filtering<'_> {
    /// Applies filters to a request. It costs nothing where there are none.
    pub(crate) fn request<'f>(
        &self,
        filters: &'f Filters,
        head: &mut RequestHead,
        sides: &mut Sides<'_, '_>,
    ) -> Passed<'f> {
        let mut grant = None;
        if filters.cors.is_some() || filters.redirect.is_some() {
            if let Some(answer) = filters.answer(head, self.service.name()) {
                return Passed::Answered(answer);
            }
            grant = filters.cors.as_ref().and_then(|cors| cors.grant(&head.fields));
        }
        if let Some(change) = &filters.request {
            message::change(head, |fields| change.apply(fields));
        }
        if let Some(rewrite) = &filters.rewrite {
            rewrite.apply(head);
        }
        for copy in &filters.mirrors {
            if copy.takes(self.http.context.draw()) {
                let Original { source, from, framing } = self.original;
                mirror::begin(self.http, copy, (source, from, framing, head), sides);
            }
        }
        Passed::On(grant)
    }
}
