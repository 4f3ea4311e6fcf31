//! Is one `HTTPRoute` what the Gateway API's schema allows, and can all of it be obeyed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::logic::balance::session::SessionRules;
use crate::logic::duration;
use crate::logic::validate::problem::Problems;
use crate::logic::validate::reference::{name, parents, port, reference};
use crate::logic::validate::route_filter::{self, Scope};
use crate::logic::validate::route_match;
use crate::model::name::is_label;
use crate::model::resource::Object;
use crate::model::route::{
    CookieLifetime, HttpBackendRef, HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteSpec,
    HttpRouteTimeouts, PathMatchKind, SessionPersistence,
};
use crate::model::route_filter::FilterKind;
use crate::model::traffic_policy::SessionKind;

const HOSTNAMES_MAX: usize = 16;
const HOSTNAME_BYTES_MAX: usize = 253;
const RULES_MAX: usize = 16;
const MATCHES_MAX: usize = 64;
const MATCHES_TOTAL_MAX: usize = 128;
const BACKENDS_MAX: usize = 16;
const WEIGHT_MAX: u32 = 1_000_000;
const SESSION_NAME_BYTES_MAX: usize = 128;

/// Adds what is wrong or doubtful in a route.
pub fn check(route: &Object<HttpRouteSpec>, problems: &mut Problems) {
    let spec = &route.spec;
    parents(&spec.parent_refs, &route.metadata.namespace, problems);
    hostnames(&spec.hostnames, problems);
    bounds(spec.rules.iter().map(|rule| rule.matches.len()), problems);
    rule_names(spec.rules.iter().map(|rule| rule.name.as_ref()), problems);
    if spec.rules.is_empty() {
        problems.warning("spec.rules", "a route without rules answers every request with 500");
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, &format!("spec.rules[{index}]"), problems);
    }
}

/// Adds what is wrong with host names, and that they mean nothing in a mesh.
pub fn hostnames(names: &[String], problems: &mut Problems) {
    problems.at_most("spec.hostnames", names.len(), HOSTNAMES_MAX);
    for (index, name) in names.iter().enumerate() {
        let precise = name.strip_prefix("*.").unwrap_or(name);
        if name.len() > HOSTNAME_BYTES_MAX || !precise.split('.').all(is_label) {
            problems.error(
                format!("spec.hostnames[{index}]"),
                format!("'{name}' is not a host name: expected labels of a-z, 0-9 and '-' joined by dots"),
            );
        }
    }
    if !names.is_empty() {
        problems.warning("spec.hostnames", "host names are ignored in a mesh: the called service decides");
    }
}

/// Adds that there are too many rules, or too many matches in all of them together; each rule is given by how many it has.
pub fn bounds(matches: impl ExactSizeIterator<Item = usize>, problems: &mut Problems) {
    problems.at_most("spec.rules", matches.len(), RULES_MAX);
    let total: usize = matches.sum();
    if total > MATCHES_TOTAL_MAX {
        problems.error(
            "spec.rules",
            format!("{total} matches in all rules are too many: {MATCHES_TOTAL_MAX} at most"),
        );
    }
}

/// Adds what is wrong with the names of rules.
pub fn rule_names<'r>(names: impl Iterator<Item = Option<&'r String>>, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        let at = format!("spec.rules[{index}].name");
        if name.len() > HOSTNAME_BYTES_MAX || !name.split('.').all(is_label) {
            let expected = "labels of a-z, 0-9 and '-' joined by dots";
            problems.error(at, format!("'{name}' is not a name: expected {expected}"));
        } else if !known.insert(name) {
            problems.error(at, format!("there is already a rule '{name}' in this route"));
        }
    }
}

/// Adds that the rule at `at` has nowhere to send requests, which it then answers with `answer`.
pub fn leads_somewhere(backends: &[HttpBackendRef], at: &str, answer: &str, problems: &mut Problems) {
    if backends.is_empty() {
        problems.warning(at, format!("a rule without backendRefs answers its requests with {answer}"));
    } else if backends.iter().all(|backend| backend.weight == 0) {
        problems.warning(
            format!("{at}.backendRefs"),
            format!("no backend has weight: the rule answers its requests with {answer}"),
        );
    }
}

fn check_rule(rule: &HttpRouteRule, at: &str, problems: &mut Problems) {
    problems.at_most(&format!("{at}.matches"), rule.matches.len(), MATCHES_MAX);
    for (index, wanted) in rule.matches.iter().enumerate() {
        let at = format!("{at}.matches[{index}]");
        route_match::check(wanted, &at, problems);
    }
    let prefix = match rule.matches.as_slice() {
        [] | [HttpRouteMatch { path: None, .. }] => true,
        [HttpRouteMatch { path: Some(path), .. }] => path.kind == PathMatchKind::PathPrefix,
        _ => false,
    };
    let scope = Scope { kinds: &FilterKind::ALL, prefix, backends: !rule.backend_refs.is_empty() };
    route_filter::check(&rule.filters, at, scope, problems);
    backends(&rule.backend_refs, at, Scope { backends: false, ..scope }, problems);
    let redirects = rule.filters.iter().any(|filter| filter.kind == FilterKind::RequestRedirect);
    if !redirects {
        leads_somewhere(&rule.backend_refs, at, "500", problems);
    }
    if let Some(timeouts) = &rule.timeouts {
        check_timeouts(timeouts, &format!("{at}.timeouts"), problems);
    }
    if let Some(retry) = &rule.retry {
        check_retry(retry, &format!("{at}.retry"), problems);
    }
    if let Some(session) = &rule.session_persistence {
        check_session(session, &format!("{at}.sessionPersistence"), problems);
    }
}

/// Adds what is wrong in the backends of the rule at `at`.
pub fn backends(backends: &[HttpBackendRef], at: &str, scope: Scope<'_>, problems: &mut Problems) {
    problems.at_most(&format!("{at}.backendRefs"), backends.len(), BACKENDS_MAX);
    for (index, backend) in backends.iter().enumerate() {
        check_backend(backend, &format!("{at}.backendRefs[{index}]"), scope, problems);
    }
}

fn check_backend(backend: &HttpBackendRef, at: &str, scope: Scope<'_>, problems: &mut Problems) {
    reference(at, backend.group.as_deref(), backend.kind.as_deref(), problems);
    name(at, &backend.name, backend.namespace.as_deref(), problems);
    port(at, backend.port, problems);
    if backend.weight > WEIGHT_MAX {
        problems
            .error(format!("{at}.weight"), format!("{} is too much: {WEIGHT_MAX} at most", backend.weight));
    }
    route_filter::check(&backend.filters, at, scope, problems);
}

fn check_timeouts(timeouts: &HttpRouteTimeouts, at: &str, problems: &mut Problems) {
    let mut limit =
        |field: &str, text: &Option<String>| time(text.as_deref(), &format!("{at}.{field}"), problems);
    let request = limit("request", &timeouts.request);
    let attempt = limit("backendRequest", &timeouts.backend_request);
    if let (Some(request), Some(attempt)) = (request, attempt)
        && request > Duration::ZERO
        && attempt > request
    {
        problems.error(
            format!("{at}.backendRequest"),
            "one attempt cannot take longer than the whole request: at most 'request'",
        );
    }
}

/// Reads a duration of the Gateway API (GEP-2257), and adds why a text is none.
fn time(text: Option<&str>, at: &str, problems: &mut Problems) -> Option<Duration> {
    let text = text?;
    let parsed = duration::parse(text);
    if parsed.is_none() {
        let expected = "a number and a unit, as in 10s, 500ms or 1h30m; 0s for no limit";
        problems.error(at, format!("'{text}' is not a duration: expected {expected}"));
    }
    parsed
}

fn check_retry(retry: &HttpRouteRetry, at: &str, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    for (index, code) in retry.codes.iter().enumerate() {
        let at = format!("{at}.codes[{index}]");
        if !(400..=599).contains(code) {
            problems.error(&at, format!("{code} is not allowed: expected 400 to 599"));
        }
        if !known.insert(code) {
            problems.error(at, format!("{code} is there twice"));
        }
    }
    if time(retry.backoff.as_deref(), &format!("{at}.backoff"), problems) == Some(Duration::ZERO) {
        problems.error(format!("{at}.backoff"), "retries at once make an outage worse: expected 1ms or more");
    }
}

/// Adds what is wrong with the sessions of the rule at `at`.
pub fn check_session(session: &SessionPersistence, at: &str, problems: &mut Problems) {
    if let Some(name) = &session.session_name {
        let name_at = format!("{at}.sessionName");
        if name.len() > SESSION_NAME_BYTES_MAX {
            problems.error(
                &name_at,
                format!("{} bytes are too long: {SESSION_NAME_BYTES_MAX} at most", name.len()),
            );
        }
        route_match::header_name(name, &name_at, problems);
        let internal = name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("mesh-"));
        if session.kind == SessionKind::Header && internal && !name.eq_ignore_ascii_case(SessionRules::NAME) {
            problems.error(name_at, "header fields that begin with 'mesh-' belong to the proxies");
        }
    }
    let absolute = time(session.absolute_timeout.as_deref(), &format!("{at}.absoluteTimeout"), problems);
    time(session.idle_timeout.as_deref(), &format!("{at}.idleTimeout"), problems);
    let Some(config) = &session.cookie_config else { return };
    if session.kind == SessionKind::Header {
        problems.error(format!("{at}.cookieConfig"), "a session in a header field has no cookie");
    }
    if config.lifetime_type == CookieLifetime::Permanent && absolute.is_none() {
        problems.error(
            format!("{at}.cookieConfig.lifetimeType"),
            "a permanent cookie needs to know for how long: expected 'absoluteTimeout' too",
        );
    }
}
