//! What an object leaves unsaid, said: so that who reads a stored object sees what holds.
//!
//! Some defaults are those of the types themselves, filled in while a manifest is read. Here are the others: every field that
//! has a default, as the Gateway API's schema fills it in where it is the Gateway API's. (What another object decides stays
//! unsaid, such as the retries of a route.)

use crate::logic::balance::session::SessionRules;
use crate::logic::duration;
use crate::logic::resilience::concurrency::ConcurrencyRules;
use crate::logic::resilience::retry::{self, Codes};
use crate::logic::resilience::timeouts::IDLE;
use crate::logic::route::table::{Route, RouteTable};
use crate::logic::traffic::TrafficRules;
use crate::model::intention::Mode;
use crate::model::resource::{Object, Resource};
use crate::model::route::{
    CookieConfig, HttpBackendRef, HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, ParentRef,
    PathMatchKind, SessionPersistence,
};
use crate::model::route_filter::HttpRouteFilter;
use crate::model::service_spec::successes;
use crate::model::traffic_policy::{
    FaultAbort, GrpcCode, Locality, LocalityMode, OutlierDetection, RateLimit, RetryMethods, SessionKind,
    TrafficPolicySpec, TrafficRetry,
};

/// Longest wait before a retry that a policy may name, seconds.
const BACKOFF_S_MAX: u64 = 60;
/// The span of a rate that names none: people speak of requests per second.
const RATE_INTERVAL: &str = "1s";
/// The kind that routes and policies are about, and its group.
const SERVICE: &str = "Service";
const CORE: &str = "";
/// A duration that is none.
const NO_LIMIT: &str = "0s";
/// The status of a redirection.
const FOUND: u16 = 302;
/// The status of a fault.
const UNAVAILABLE: u16 = 503;

/// Fills in the defaults of an object. What it means stays the same.
pub fn fill(resource: &mut Resource) {
    match resource {
        Resource::HttpRoute(route) => fill_http_route(route),
        Resource::GrpcRoute(route) => {
            let names = session_names(&RouteTable::new([Route::Grpc(route)]));
            route.spec.parent_refs.iter_mut().for_each(fill_parent);
            for (rule, name) in route.spec.rules.iter_mut().zip(names) {
                rule.backend_refs.iter_mut().for_each(fill_backend);
                rule.filters.iter_mut().for_each(fill_filter);
                rule.session_persistence
                    .iter_mut()
                    .for_each(|session| fill_session(session, name.as_deref()));
            }
        }
        Resource::TcpRoute(route) => {
            route.spec.parent_refs.iter_mut().for_each(fill_parent);
            let backends = route.spec.rules.iter_mut().flat_map(|rule| &mut rule.backend_refs);
            backends.for_each(fill_backend);
        }
        Resource::Intention(intention) => _ = intention.spec.mode.get_or_insert(Mode::Enforce),
        Resource::Service(service) => {
            for port in &mut service.spec.ports {
                port.target_port.get_or_insert(port.port);
            }
            let http = service.spec.health_check.as_mut().and_then(|check| check.http.as_mut());
            if let Some(http) = http.filter(|http| http.expected_statuses.is_empty()) {
                http.expected_statuses = successes();
            }
        }
        Resource::TrafficPolicy(policy) => fill_policy(&mut policy.spec),
    }
}

/// Takes out again what proxies of a version before it would refuse, as far as it is the default.
pub fn unfill(resource: &mut Resource) {
    match resource {
        Resource::Intention(Object { spec, .. }) if spec.mode == Some(Mode::Enforce) => spec.mode = None,
        Resource::Service(Object { spec, .. }) => {
            let http = spec.health_check.as_mut().and_then(|check| check.http.as_mut());
            if let Some(http) = http.filter(|http| http.expected_statuses == successes()) {
                http.expected_statuses.clear();
            }
        }
        Resource::TrafficPolicy(Object { spec, .. }) => unfill_policy(spec),
        Resource::Intention(_) | Resource::HttpRoute(_) | Resource::GrpcRoute(_) | Resource::TcpRoute(_) => {}
    }
}

fn unfill_policy(spec: &mut TrafficPolicySpec) {
    if let Some(timeouts) = &mut spec.timeouts {
        let said = (timeouts.idle.as_deref(), timeouts.stream_idle.as_deref());
        if said == (Some(duration::write(IDLE).as_str()), Some(NO_LIMIT)) {
            (timeouts.idle, timeouts.stream_idle) = (None, None);
        } else if said.0 == said.1 {
            timeouts.stream_idle = None;
        }
    }
    if let Some(retry) = &mut spec.retry {
        match (&retry.codes, retry.methods) {
            (Some(codes), Some(RetryMethods::Idempotent)) if *codes == [retry::UNAVAILABLE] => {
                (retry.codes, retry.methods) = (None, None);
            }
            (Some(_), Some(RetryMethods::Any)) => retry.methods = None,
            (Some(_) | None, _) => {}
        }
    }
}

fn fill_http_route(route: &mut Object<HttpRouteSpec>) {
    if route.spec.rules.is_empty() {
        route.spec.rules.push(HttpRouteRule::default());
    }
    let names = session_names(&RouteTable::new([Route::Http(route)]));
    route.spec.parent_refs.iter_mut().for_each(fill_parent);
    for (rule, name) in route.spec.rules.iter_mut().zip(names) {
        if rule.matches.is_empty() {
            rule.matches.push(HttpRouteMatch::default());
        }
        for wanted in &mut rule.matches {
            let everything = || HttpPathMatch { kind: PathMatchKind::PathPrefix, value: "/".to_owned() };
            wanted.path.get_or_insert_with(everything);
        }
        rule.backend_refs.iter_mut().for_each(fill_backend);
        rule.filters.iter_mut().for_each(fill_filter);
        rule.session_persistence.iter_mut().for_each(|session| fill_session(session, name.as_deref()));
    }
}

/// A parent of no kind is none of a mesh, which `logic::validate` says.
fn fill_parent(parent: &mut ParentRef) {
    if parent.kind.as_deref() == Some(SERVICE) {
        parent.group.get_or_insert_with(|| CORE.to_owned());
    }
}

fn fill_backend(backend: &mut HttpBackendRef) {
    fill_reference(&mut backend.group, &mut backend.kind);
    backend.filters.iter_mut().for_each(fill_filter);
}

fn fill_reference(group: &mut Option<String>, kind: &mut Option<String>) {
    group.get_or_insert_with(|| CORE.to_owned());
    kind.get_or_insert_with(|| SERVICE.to_owned());
}

fn fill_filter(filter: &mut HttpRouteFilter) {
    if let Some(redirect) = &mut filter.request_redirect {
        redirect.status_code.get_or_insert(FOUND);
    }
    if let Some(mirror) = &mut filter.request_mirror {
        fill_reference(&mut mirror.backend_ref.group, &mut mirror.backend_ref.kind);
        if mirror.fraction.is_none() {
            mirror.percent.get_or_insert(100);
        }
    }
    if let Some(cors) = &mut filter.cors {
        cors.allow_credentials.get_or_insert(false);
    }
}

/// Returns what the sessions of each rule are called.
fn session_names(table: &RouteTable) -> Vec<Option<String>> {
    let name = |session: &SessionRules| session.name.to_string();
    table.rules().iter().map(|rule| rule.session.as_ref().map(name)).collect()
}

fn fill_session(session: &mut SessionPersistence, name: Option<&str>) {
    if let Some(name) = name {
        session.session_name.get_or_insert_with(|| name.to_owned());
    }
    if session.kind == SessionKind::Cookie {
        session.cookie_config.get_or_insert_with(CookieConfig::default);
    }
}

fn fill_policy(spec: &mut TrafficPolicySpec) {
    let rules = TrafficRules::new(spec);
    fill_reference(&mut spec.target_ref.group, &mut spec.target_ref.kind);
    let balancing = spec.load_balancing.get_or_insert_default();
    let locality = balancing.locality.get_or_insert_with(Locality::default);
    let zones = if rules.balance.zones { LocalityMode::Prefer } else { LocalityMode::Ignore };
    locality.mode.get_or_insert(zones);
    locality.overprovisioning_percent.get_or_insert(rules.balance.overprovisioning_percent);
    if let (Some(affinity), Some(rules)) = (&mut spec.session_affinity, &rules.session) {
        affinity.session_name.get_or_insert_with(|| rules.name.to_string());
    }
    if let (Some(start), Some(rules)) = (&mut spec.slow_start, &rules.slow_start) {
        start.min_weight_percent.get_or_insert(rules.min_percent);
    }
    let timeouts = spec.timeouts.get_or_insert_default();
    timeouts.connect.get_or_insert_with(|| duration::write(rules.timeouts.connect));
    for (said, holds) in [
        (&mut timeouts.request, rules.timeouts.request),
        (&mut timeouts.backend_request, rules.timeouts.attempt),
        (&mut timeouts.idle, rules.timeouts.idle),
        (&mut timeouts.stream_idle, rules.timeouts.idle_stream),
    ] {
        said.get_or_insert_with(|| holds.map_or_else(|| NO_LIMIT.to_owned(), duration::write));
    }
    fill_retry(spec.retry.get_or_insert_default(), &rules);
    let limits = spec.circuit_breaking.get_or_insert_default();
    limits.max_connections.get_or_insert(rules.limits.connections_max);
    limits.max_pending_requests.get_or_insert(rules.limits.pending_max);
    limits.max_requests.get_or_insert(rules.limits.requests_max);
    fill_outlier(spec.outlier_detection.get_or_insert_default(), &rules);
    let adaptive = spec.concurrency.as_mut().and_then(|concurrency| concurrency.adaptive.as_mut());
    if let (Some(adaptive), Some(ConcurrencyRules::Adaptive { min, max })) = (adaptive, rules.concurrency) {
        adaptive.min.get_or_insert(min);
        adaptive.max.get_or_insert(max);
    }
    if let Some(limit) = &mut spec.rate_limit {
        fill_rate(limit);
    }
    if let Some(FaultAbort { http_status, grpc_status, .. }) =
        spec.fault_injection.as_mut().and_then(|fault| fault.abort.as_mut())
    {
        http_status.get_or_insert(UNAVAILABLE);
        grpc_status.get_or_insert(GrpcCode::Unavailable);
    }
}

fn fill_retry(retry: &mut TrafficRetry, rules: &TrafficRules) {
    let rules = &rules.retry;
    retry.attempts.get_or_insert(rules.attempts);
    let (codes, methods) = match &rules.codes {
        Codes::Idempotent(codes) => (codes, RetryMethods::Idempotent),
        Codes::Listed(codes) => (codes, RetryMethods::Any),
    };
    retry.codes.get_or_insert_with(|| codes.to_vec());
    retry.methods.get_or_insert(methods);
    retry.grpc_codes.get_or_insert_default();
    retry.backoff.get_or_insert_with(|| duration::write(rules.backoff.base));
    if rules.backoff.cap.as_secs() < BACKOFF_S_MAX {
        retry.max_backoff.get_or_insert_with(|| duration::write(rules.backoff.cap));
    }
    let budget = retry.budget.get_or_insert_default();
    budget.percent.get_or_insert(rules.budget.percent);
    budget.interval.get_or_insert_with(|| duration::write(rules.budget.interval));
    budget.min_retries_per_second.get_or_insert(rules.budget.min_per_second);
}

fn fill_outlier(outlier: &mut OutlierDetection, rules: &TrafficRules) {
    let rules = &rules.outlier;
    outlier.consecutive_gateway_errors.get_or_insert(rules.gateway_errors);
    outlier.consecutive_5xx_errors.get_or_insert(rules.server_errors);
    outlier.interval.get_or_insert_with(|| duration::write(rules.interval));
    outlier.base_ejection_time.get_or_insert_with(|| duration::write(rules.ejection.base));
    outlier.max_ejection_time.get_or_insert_with(|| duration::write(rules.ejection.cap));
    outlier.max_ejection_percent.get_or_insert(rules.max_percent);
    outlier.min_health_percent.get_or_insert(rules.min_health_percent);
    let rate = outlier.success_rate.get_or_insert_default();
    rate.request_volume.get_or_insert(rules.volume);
    rate.minimum_hosts.get_or_insert(rules.hosts);
}

fn fill_rate(limit: &mut RateLimit) {
    for rate in [&mut limit.total, &mut limit.per_source].into_iter().flatten() {
        rate.interval.get_or_insert_with(|| RATE_INTERVAL.to_owned());
        rate.burst.get_or_insert(rate.requests);
    }
}
