//! The rules of one service, best first, and the search for the one that takes a request.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::logic::balance::hash;
use crate::logic::balance::session::{Carrier, SessionRules};
use crate::logic::duration;
use crate::logic::request::Head;
use crate::logic::resilience::backoff::Backoff;
use crate::logic::resilience::retry::RouteRetry;
use crate::logic::route::filter::{Filters, Place, cors};
use crate::logic::route::index::Index;
use crate::logic::route::matcher::Matcher;
use crate::model::grpc_route::{GrpcRouteMatch, GrpcRouteRule, GrpcRouteSpec};
use crate::model::name::ServiceName;
use crate::model::resource::{Metadata, Object, Resource};
use crate::model::route::{
    CookieLifetime, HttpBackendRef, HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteSpec,
    HttpRouteTimeouts, ParentRef, PathMatchKind, SessionPersistence,
};
use crate::model::tcp_route::{TcpRouteRule, TcpRouteSpec};
use crate::model::traffic_policy::SessionKind;

/// All rules that routes of one kind attach to one service for some of its callers.
#[derive(Debug, Clone)]
pub struct RouteTable {
    /// What the routes are.
    pub kind: RouteKind,
    /// Whose rules these are, oldest first.
    origins: Vec<Origin>,
    rules: Vec<Rule>,
    /// Every match with the index of its rule.
    index: Index,
    /// Whether any of the rules says which other origins may call.
    shares: bool,
    /// Whether any match asks for header fields or the query.
    by_fields: bool,
}

/// A kind of route; of several kinds for one service, only the greatest counts (GEP-1426).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RouteKind {
    /// `TCPRoute`.
    #[default]
    Tcp,
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`.
    Grpc,
}

/// A route of any kind.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// Of HTTP.
    Http(&'a Object<HttpRouteSpec>),
    /// Of gRPC.
    Grpc(&'a Object<GrpcRouteSpec>),
    /// Of TCP.
    Tcp(&'a Object<TcpRouteSpec>),
}

/// One version of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    namespace: String,
    name: String,
    version: Option<String>,
}

/// What happens to the requests that one rule takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `route/rule`: the route's name and the rule's name, or its index from 0.
    pub label: Arc<str>,
    /// Applied to every request.
    pub filters: Filters,
    /// Where requests go, by weight; a rule without any answers 500.
    pub backends: Vec<Backend>,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// When they are tried again; `None` for as the service says.
    pub retry: Option<RouteRetry>,
    /// How clients stay with their backend and endpoint; `None` for as the service says.
    pub session: Option<SessionRules>,
}

/// A service that a rule sends to. One that the policy does not know takes its share all the same: it is answered 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The service, whose own routes do not apply.
    pub service: ServiceName,
    /// Which of its ports, when it has several.
    pub port: Option<u16>,
    /// Its share among the rule's backends; 0 takes none.
    pub weight: u32,
    /// Applied after the rule's own.
    pub filters: Filters,
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
    /// Puts the rules of `routes`, all of one kind, into the order of precedence.
    ///
    /// The order is the Gateway API's: the more specific match first; ties go to the oldest route (one without a
    /// timestamp counts as the youngest), then to the first by `namespace/name`, then to the first rule of the route.
    pub fn new<'a, R: Into<Route<'a>>>(routes: impl IntoIterator<Item = R>) -> Self {
        let routes = in_order(routes.into_iter().map(Into::into));
        let (mut rules, mut entries) = (Vec::new(), Vec::new());
        for route in &routes {
            for (matches, rule) in route.rules() {
                let at = rules.len();
                entries.extend(matches.into_iter().map(|matcher| (matcher, at)));
                rules.push(rule);
            }
        }
        // Stable: what was pushed first wins ties.
        entries.sort_by_cached_key(|(matcher, _)| Reverse(matcher.specificity()));
        let kind = routes.first().map(|route| route.kind()).unwrap_or_default();
        let shares = rules.iter().any(Rule::shares);
        let by_fields = entries.iter().any(|(matcher, _)| matcher.asks_fields());
        Self { kind, origins: origins(&routes), rules, index: Index::new(entries), shares, by_fields }
    }

    /// Returns whether it was made of these very versions of these routes, so that it need not be made anew.
    pub fn is_of(&self, routes: &[Route<'_>]) -> bool {
        let known = self.origins.iter().all(|origin| origin.version.is_some());
        let kind = routes.first().map(|route| route.kind()).unwrap_or_default();
        known && self.kind == kind && self.origins == origins(&in_order(routes.iter().copied()))
    }

    /// Returns the rule that takes the request: the best of those that match.
    ///
    /// Returns `None` when no rule matches, which is answered 404: a service with routes serves only what they name.
    ///
    /// A preflight request is taken by the rule that would take the request that it asks about, if that rule is about other
    /// origins: matches seldom name OPTIONS.
    pub fn find(&self, head: &Head<'_>) -> Option<&Rule> {
        if self.shares
            && let Some(method) = cors::preflight_of(head)
        {
            let asked = self.index.find(&Head { method: &method, ..*head });
            let asked = asked.and_then(|rule| self.rules.get(rule)).filter(|rule| rule.shares());
            if asked.is_some() {
                return asked;
            }
        }
        self.rules.get(self.index.find(head)?)
    }

    /// Returns whether header fields or the query decide about some requests.
    pub fn asks_fields(&self) -> bool {
        self.by_fields
    }

    /// Returns every rule: oldest route first, rules of a route in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

fn in_order<'a>(routes: impl Iterator<Item = Route<'a>>) -> Vec<Route<'a>> {
    let mut routes: Vec<_> = routes.collect();
    routes.sort_by_cached_key(|route| precedence(route.metadata()));
    routes
}

fn origins(routes: &[Route<'_>]) -> Vec<Origin> {
    let origin = |route: &Route<'_>| {
        let Metadata { namespace, name, resource_version, .. } = route.metadata();
        Origin { namespace: namespace.clone(), name: name.clone(), version: resource_version.clone() }
    };
    routes.iter().map(origin).collect()
}

impl<'a> From<&'a Object<HttpRouteSpec>> for Route<'a> {
    fn from(route: &'a Object<HttpRouteSpec>) -> Self {
        Self::Http(route)
    }
}

impl<'a> From<&'a Object<GrpcRouteSpec>> for Route<'a> {
    fn from(route: &'a Object<GrpcRouteSpec>) -> Self {
        Self::Grpc(route)
    }
}

impl<'a> From<&'a Object<TcpRouteSpec>> for Route<'a> {
    fn from(route: &'a Object<TcpRouteSpec>) -> Self {
        Self::Tcp(route)
    }
}

impl<'a> Route<'a> {
    /// Returns the route in an object, if it is one.
    pub fn of(resource: &'a Resource) -> Option<Self> {
        match resource {
            Resource::HttpRoute(route) => Some(Self::Http(route)),
            Resource::GrpcRoute(route) => Some(Self::Grpc(route)),
            Resource::TcpRoute(route) => Some(Self::Tcp(route)),
            Resource::Intention(_) | Resource::Service(_) | Resource::TrafficPolicy(_) => None,
        }
    }

    /// Returns what it is.
    pub fn kind(self) -> RouteKind {
        match self {
            Self::Http(_) => RouteKind::Http,
            Self::Grpc(_) => RouteKind::Grpc,
            Self::Tcp(_) => RouteKind::Tcp,
        }
    }

    /// Returns its name, place and history.
    pub fn metadata(self) -> &'a Metadata {
        match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tcp(route) => &route.metadata,
        }
    }

    /// Returns the services that it is for.
    pub fn parents(self) -> &'a [ParentRef] {
        match self {
            Self::Http(route) => &route.spec.parent_refs,
            Self::Grpc(route) => &route.spec.parent_refs,
            Self::Tcp(route) => &route.spec.parent_refs,
        }
    }

    /// Returns the backends of each rule.
    pub fn backends(self) -> Vec<&'a [HttpBackendRef]> {
        match self {
            Self::Http(route) => route.spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect(),
            Self::Grpc(route) => route.spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect(),
            Self::Tcp(route) => route.spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect(),
        }
    }

    /// Returns each rule with its matches.
    fn rules(self) -> Vec<(Vec<Matcher>, Rule)> {
        let metadata = self.metadata();
        match self {
            Self::Http(route) => {
                let default_rule = [HttpRouteRule::default()];
                let rules = &route.spec.rules;
                let rules = if rules.is_empty() { &default_rule } else { rules.as_slice() };
                let made = |(index, rule): (usize, &HttpRouteRule)| {
                    let matches = rule.matches.iter().filter_map(Matcher::new).collect();
                    (or_any(matches, rule.matches.is_empty()), Rule::of_http(metadata, index, rule))
                };
                rules.iter().enumerate().map(made).collect()
            }
            Self::Grpc(route) => {
                let default_rule = [GrpcRouteRule::default()];
                let rules = &route.spec.rules;
                let rules = if rules.is_empty() { &default_rule } else { rules.as_slice() };
                let made = |(index, rule): (usize, &GrpcRouteRule)| {
                    let any = [GrpcRouteMatch::default()];
                    let matches = if rule.matches.is_empty() { &any } else { rule.matches.as_slice() };
                    let matches = matches.iter().filter_map(Matcher::of_grpc).collect();
                    (matches, Rule::of_grpc(metadata, index, rule))
                };
                rules.iter().enumerate().map(made).collect()
            }
            // Of several, the first takes everything.
            Self::Tcp(route) => {
                let first = route.spec.rules.first();
                first.map(|rule| (vec![Matcher::any()], Rule::of_tcp(metadata, rule))).into_iter().collect()
            }
        }
    }
}

fn or_any(matches: Vec<Matcher>, none: bool) -> Vec<Matcher> {
    if none { vec![Matcher::any()] } else { matches }
}

fn label(route: &Metadata, name: Option<&String>, index: usize) -> String {
    match name {
        Some(name) => format!("{}/{name}", route.name),
        None => format!("{}/{index}", route.name),
    }
}

impl Rule {
    fn shares(&self) -> bool {
        let mut all =
            std::iter::once(&self.filters).chain(self.backends.iter().map(|backend| &backend.filters));
        all.any(|filters| filters.cors.is_some())
    }

    fn of_http(route: &Metadata, index: usize, rule: &HttpRouteRule) -> Self {
        let label = label(route, rule.name.as_ref(), index);
        let place = Place { namespace: &route.namespace, label: &label, prefix: prefix(rule) };
        Self {
            filters: Filters::new(&rule.filters, place),
            backends: rule.backend_refs.iter().filter_map(|backend| Backend::new(backend, place)).collect(),
            timeouts: rule.timeouts.as_ref().map(Timeouts::new).unwrap_or_default(),
            retry: rule.retry.as_ref().map(retry),
            session: rule.session_persistence.as_ref().map(|wanted| session(wanted, &label)),
            label: label.into(),
        }
    }

    fn of_grpc(route: &Metadata, index: usize, rule: &GrpcRouteRule) -> Self {
        let label = label(route, rule.name.as_ref(), index);
        let place = Place { namespace: &route.namespace, label: &label, prefix: None };
        Self {
            filters: Filters::new(&rule.filters, place),
            backends: rule.backend_refs.iter().filter_map(|backend| Backend::new(backend, place)).collect(),
            session: rule.session_persistence.as_ref().map(|wanted| session(wanted, &label)),
            label: label.into(),
            ..Self::default()
        }
    }

    fn of_tcp(route: &Metadata, rule: &TcpRouteRule) -> Self {
        let label = label(route, rule.name.as_ref(), 0);
        let place = Place { namespace: &route.namespace, label: &label, prefix: None };
        Self {
            backends: rule.backend_refs.iter().filter_map(|backend| Backend::new(backend, place)).collect(),
            label: label.into(),
            ..Self::default()
        }
    }
}

impl Backend {
    fn new(wanted: &HttpBackendRef, place: Place<'_>) -> Option<Self> {
        let namespace = wanted.namespace.as_deref().unwrap_or(place.namespace);
        Some(Self {
            service: ServiceName::new(&wanted.name, namespace).ok()?,
            port: wanted.port,
            weight: wanted.weight,
            filters: Filters::new(&wanted.filters, place),
        })
    }
}

impl Timeouts {
    fn new(wanted: &HttpRouteTimeouts) -> Self {
        let limit = |text: &Option<String>| text.as_deref().and_then(duration::parse);
        Self { request: limit(&wanted.request), backend_request: limit(&wanted.backend_request) }
    }
}

fn retry(wanted: &HttpRouteRetry) -> RouteRetry {
    let mut codes = wanted.codes.clone();
    codes.sort_unstable();
    let base = wanted.backoff.as_deref().and_then(duration::parse);
    RouteRetry {
        attempts: wanted.attempts,
        codes: (!codes.is_empty()).then(|| codes.into()),
        backoff: base.map(|base| Backoff { base, cap: base * 10 }),
    }
}

/// Makes the sessions of the rule `label` ready. A rule has a cookie of its own: two rules of one host would otherwise take
/// each other's.
fn session(wanted: &SessionPersistence, label: &str) -> SessionRules {
    let name = wanted.session_name.clone();
    let (carrier, name) = match wanted.kind {
        SessionKind::Cookie => {
            let own = || format!("{}-{:08x}", SessionRules::NAME, hash::hash(label.as_bytes()) as u32);
            (Carrier::Cookie, name.unwrap_or_else(own))
        }
        SessionKind::Header => {
            (Carrier::Header, name.unwrap_or_else(|| SessionRules::NAME.to_owned()).to_ascii_lowercase())
        }
    };
    let limit =
        |text: &Option<String>| text.as_deref().and_then(duration::parse).filter(|limit| !limit.is_zero());
    let lifetime = wanted.cookie_config.as_ref().map(|config| config.lifetime_type);
    SessionRules {
        carrier,
        name: name.into(),
        absolute: limit(&wanted.absolute_timeout),
        idle: limit(&wanted.idle_timeout),
        permanent: lifetime == Some(CookieLifetime::Permanent),
    }
}

/// Returns what the only match of a rule asks of the path, if it is a prefix.
fn prefix(rule: &HttpRouteRule) -> Option<&str> {
    match rule.matches.as_slice() {
        // What is not said is the prefix of everything.
        [] | [HttpRouteMatch { path: None, .. }] => Some("/"),
        [HttpRouteMatch { path: Some(path), .. }] if path.kind == PathMatchKind::PathPrefix => {
            Some(&path.value)
        }
        _ => None,
    }
}

/// Returns what orders routes when nothing else tells them apart: `(has no timestamp, timestamp, namespace/name)`.
pub fn precedence(route: &Metadata) -> (bool, Option<jiff::Timestamp>, String) {
    let created = route.creation_timestamp.as_deref().and_then(|text| text.parse().ok());
    (created.is_none(), created, format!("{}/{}", route.namespace, route.name))
}
