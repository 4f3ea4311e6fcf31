//! The rules of one service, best first, and the search for the one that takes a request.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::logic::duration;
use crate::logic::request::Head;
use crate::logic::route::filter::Filter;
use crate::logic::route::index::Index;
use crate::logic::route::matcher::Matcher;
use crate::model::name::ServiceName;
use crate::model::resource::{Metadata, Object};
use crate::model::route::{
    HttpBackendRef, HttpRouteFilter, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, HttpRouteTimeouts,
};

/// All rules that routes attach to one service.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    rules: Vec<Rule>,
    /// Every match with the index of its rule.
    index: Index,
}

/// What happens to the requests that one rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `route/rule`: the route's name and the rule's name, or its index from 0.
    pub label: Arc<str>,
    /// Applied to every request, in order.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight; a rule without any answers 500.
    pub backends: Vec<Backend>,
    /// How long they may take.
    pub timeouts: Timeouts,
}

/// A service that a rule sends to. One that the policy does not know takes its share all the same: it is answered 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The service, whose own routes do not apply.
    pub service: ServiceName,
    /// Its share among the rule's backends; 0 takes none.
    pub weight: u32,
    /// Applied after the rule's own, in order.
    pub filters: Vec<Filter>,
}

/// What a rule says of limits of time; `None` where it says nothing, zero where it switches a limit off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Of the whole exchange with the caller.
    pub request: Option<Duration>,
    /// Of one attempt at one backend.
    pub backend_request: Option<Duration>,
}

impl RouteTable {
    /// Puts the rules of `routes` into the order of precedence.
    ///
    /// The order is the Gateway API's: the more specific match first; ties go to the oldest route (one without a
    /// timestamp counts as the youngest), then to the first by `namespace/name`, then to the first rule of the route.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Object<HttpRouteSpec>>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by_cached_key(|route| precedence(&route.metadata));
        let (mut rules, mut entries) = (Vec::new(), Vec::new());
        for route in routes {
            let default_rule = [HttpRouteRule::default()];
            let wanted =
                if route.spec.rules.is_empty() { &default_rule } else { route.spec.rules.as_slice() };
            for (index, rule) in wanted.iter().enumerate() {
                let any = [HttpRouteMatch::default()];
                let matches = if rule.matches.is_empty() { &any } else { rule.matches.as_slice() };
                let at = rules.len();
                entries.extend(matches.iter().filter_map(Matcher::new).map(|matcher| (matcher, at)));
                rules.push(Rule::new(&route.metadata, index, rule));
            }
        }
        // Stable: what was pushed first wins ties.
        entries.sort_by_cached_key(|(matcher, _)| Reverse(matcher.specificity()));
        Self { rules, index: Index::new(entries) }
    }

    /// Returns the rule that takes the request: the best of those that match.
    ///
    /// Returns `None` when no rule matches, which is answered 404: a service with routes serves only what they name.
    pub fn find(&self, head: &Head<'_>) -> Option<&Rule> {
        self.rules.get(self.index.find(head)?)
    }

    /// Returns every rule: oldest route first, rules of a route in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Rule {
    fn new(route: &Metadata, index: usize, rule: &HttpRouteRule) -> Self {
        let name = rule.name.clone().unwrap_or_else(|| index.to_string());
        Self {
            label: format!("{}/{name}", route.name).into(),
            filters: filters(&rule.filters),
            backends: rule.backend_refs.iter().filter_map(|backend| Backend::new(backend, route)).collect(),
            timeouts: rule.timeouts.as_ref().map(Timeouts::new).unwrap_or_default(),
        }
    }
}

impl Backend {
    fn new(wanted: &HttpBackendRef, route: &Metadata) -> Option<Self> {
        let namespace = wanted.namespace.as_deref().unwrap_or(&route.namespace);
        Some(Self {
            service: ServiceName::new(&wanted.name, namespace).ok()?,
            weight: wanted.weight,
            filters: filters(&wanted.filters),
        })
    }
}

impl Timeouts {
    fn new(wanted: &HttpRouteTimeouts) -> Self {
        let limit = |text: &Option<String>| text.as_deref().and_then(duration::parse);
        Self { request: limit(&wanted.request), backend_request: limit(&wanted.backend_request) }
    }
}

fn filters(wanted: &[HttpRouteFilter]) -> Vec<Filter> {
    wanted.iter().filter_map(Filter::new).collect()
}

/// Returns what orders routes when nothing else tells them apart: `(has no timestamp, timestamp, namespace/name)`.
pub fn precedence(route: &Metadata) -> (bool, Option<jiff::Timestamp>, String) {
    let created = route.creation_timestamp.as_deref().and_then(|text| text.parse().ok());
    (created.is_none(), created, format!("{}/{}", route.namespace, route.name))
}
