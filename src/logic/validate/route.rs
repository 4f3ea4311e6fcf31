//! Is one `HTTPRoute` what the Gateway API's schema allows, and can all of it be obeyed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::logic::duration;
use crate::logic::route::matcher::whole_regex;
use crate::logic::validate::problem::Problems;
use crate::model::name::is_label;
use crate::model::resource::Object;
use crate::model::route::{
    FilterKind, HeaderField, HeaderMatchKind, HeaderModifier, HttpBackendRef, HttpHeaderMatch, HttpPathMatch,
    HttpQueryParamMatch, HttpRouteFilter, HttpRouteRule, HttpRouteSpec, HttpRouteTimeouts, ParentRef,
    PathMatchKind,
};

const PARENTS_MAX: usize = 32;
const HOSTNAMES_MAX: usize = 16;
const RULES_MAX: usize = 16;
const MATCHES_MAX: usize = 64;
const MATCHES_TOTAL_MAX: usize = 128;
const HEADERS_MAX: usize = 16;
const QUERY_PARAMS_MAX: usize = 16;
const FILTERS_MAX: usize = 16;
const BACKENDS_MAX: usize = 16;
const WEIGHT_MAX: u32 = 1_000_000;
const PATH_BYTES_MAX: usize = 1_024;
const HEADER_NAME_BYTES_MAX: usize = 256;
const HEADER_VALUE_BYTES_MAX: usize = 4_096;
const QUERY_VALUE_BYTES_MAX: usize = 1_024;

/// Fields that belong to one connection or to the framing of a message (RFC 9110 §7.6.1): changing them would desynchronise
/// the two sides.
const FRAMING_FIELDS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Adds what is wrong or doubtful in a route.
pub fn check(route: &Object<HttpRouteSpec>, problems: &mut Problems) {
    let spec = &route.spec;
    parents(&spec.parent_refs, &route.metadata.namespace, problems);
    problems.at_most("spec.hostnames", spec.hostnames.len(), HOSTNAMES_MAX);
    if !spec.hostnames.is_empty() {
        problems.warning("spec.hostnames", "host names are ignored in a mesh: the called service decides");
    }
    problems.at_most("spec.rules", spec.rules.len(), RULES_MAX);
    let total: usize = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    if total > MATCHES_TOTAL_MAX {
        problems.error(
            "spec.rules",
            format!("{total} matches in all rules are too many: {MATCHES_TOTAL_MAX} at most"),
        );
    }
    if spec.rules.is_empty() {
        problems.warning("spec.rules", "a route without rules answers every request with 500");
    }
    let mut names = BTreeSet::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        if let Some(name) = &rule.name {
            if !name.split('.').all(is_label) {
                let expected = "labels of a-z, 0-9 and '-' joined by dots";
                problems.error(format!("{at}.name"), format!("'{name}' is not a name: expected {expected}"));
            } else if !names.insert(name) {
                problems
                    .error(format!("{at}.name"), format!("there is already a rule '{name}' in this route"));
            }
        }
        check_rule(rule, &at, problems);
    }
}

fn parents(parents: &[ParentRef], namespace: &str, problems: &mut Problems) {
    problems.at_most("spec.parentRefs", parents.len(), PARENTS_MAX);
    if parents.is_empty() {
        problems.error("spec.parentRefs", "a route needs at least one service as its parent");
    }
    let mut known = BTreeSet::new();
    for (index, parent) in parents.iter().enumerate() {
        let at = format!("spec.parentRefs[{index}]");
        reference(&at, parent.group.as_deref(), parent.kind.as_deref(), problems);
        name(&at, &parent.name, parent.namespace.as_deref(), problems);
        port(&at, parent.port, problems);
        if parent.namespace.as_ref().is_some_and(|other| other != namespace) {
            problems.error(
                format!("{at}.namespace"),
                format!(
                    "routes for services of another namespace (consumer routes) are not supported yet: expected '{namespace}'"
                ),
            );
        }
        if !known.insert((&parent.name, parent.port)) {
            problems.error(at, format!("service '{}' is already a parent of this route", parent.name));
        }
    }
}

fn check_rule(rule: &HttpRouteRule, at: &str, problems: &mut Problems) {
    problems.at_most(&format!("{at}.matches"), rule.matches.len(), MATCHES_MAX);
    for (index, wanted) in rule.matches.iter().enumerate() {
        let at = format!("{at}.matches[{index}]");
        if let Some(path) = &wanted.path {
            check_path(path, &format!("{at}.path.value"), problems);
        }
        check_headers(&wanted.headers, &at, problems);
        check_query(&wanted.query_params, &at, problems);
    }
    filters(&rule.filters, at, problems);
    problems.at_most(&format!("{at}.backendRefs"), rule.backend_refs.len(), BACKENDS_MAX);
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        check_backend(backend, &format!("{at}.backendRefs[{index}]"), problems);
    }
    if rule.backend_refs.is_empty() {
        problems.warning(at, "a rule without backendRefs answers its requests with 500");
    } else if rule.backend_refs.iter().all(|backend| backend.weight == 0) {
        problems.warning(
            format!("{at}.backendRefs"),
            "no backend has weight: the rule answers its requests with 500",
        );
    }
    if let Some(timeouts) = &rule.timeouts {
        check_timeouts(timeouts, &format!("{at}.timeouts"), problems);
    }
}

fn check_path(path: &HttpPathMatch, at: &str, problems: &mut Problems) {
    let value = &path.value;
    if value.len() > PATH_BYTES_MAX {
        problems.error(at, format!("{} bytes are too long: {PATH_BYTES_MAX} at most", value.len()));
        return;
    }
    match path.kind {
        PathMatchKind::Exact | PathMatchKind::PathPrefix => {
            if let Some(message) = path_fault(value) {
                problems.error(at, message);
            }
        }
        PathMatchKind::RegularExpression => expression(value, at, problems),
    }
}

/// Says what makes a path impossible to match, by the rules of the Gateway API's schema.
fn path_fault(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("'{path}' should begin with '/'"));
    }
    let part = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|part| path.contains(part));
    let end = ["/..", "/."].into_iter().find(|end| path.ends_with(end));
    if let Some(part) = part {
        return Some(format!("'{path}' should not contain '{part}'"));
    }
    if let Some(end) = end {
        return Some(format!("'{path}' should not end with '{end}'"));
    }
    let mut rest = path.bytes();
    while let Some(b) = rest.next() {
        let fine = match b {
            b'%' => {
                let mut hex = || rest.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                hex() && hex()
            }
            _ => b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&b),
        };
        if !fine {
            return Some(format!(
                "'{path}' is not a path of a URI: other characters than letters, digits and -._~!$&'()*+,;=:@/ are written as %XX"
            ));
        }
    }
    None
}

fn check_headers(headers: &[HttpHeaderMatch], at: &str, problems: &mut Problems) {
    problems.at_most(&format!("{at}.headers"), headers.len(), HEADERS_MAX);
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for (index, header) in headers.iter().enumerate() {
        let at = format!("{at}.headers[{index}]");
        header_name(&header.name, &format!("{at}.name"), problems);
        let value_at = format!("{at}.value");
        header_size(&header.value, &value_at, problems);
        if header.kind == HeaderMatchKind::RegularExpression {
            expression(&header.value, &value_at, problems);
        }
        match known.get(&header.name.to_ascii_lowercase()) {
            Some(first) if *first == header.name => {
                problems.error(format!("{at}.name"), format!("there is already a condition on '{first}'"));
            }
            Some(first) => problems.warning(
                format!("{at}.name"),
                format!("ignored: '{first}' is the same header field, and the first condition counts"),
            ),
            None => {
                known.insert(header.name.to_ascii_lowercase(), &header.name);
            }
        }
    }
}

fn check_query(params: &[HttpQueryParamMatch], at: &str, problems: &mut Problems) {
    problems.at_most(&format!("{at}.queryParams"), params.len(), QUERY_PARAMS_MAX);
    let mut known = BTreeSet::new();
    for (index, param) in params.iter().enumerate() {
        let at = format!("{at}.queryParams[{index}]");
        header_name(&param.name, &format!("{at}.name"), problems);
        let value_at = format!("{at}.value");
        let bytes = param.value.len();
        if !(1..=QUERY_VALUE_BYTES_MAX).contains(&bytes) {
            problems.error(
                &value_at,
                format!("{bytes} bytes are not allowed: expected 1 to {QUERY_VALUE_BYTES_MAX}"),
            );
        }
        if param.kind == HeaderMatchKind::RegularExpression {
            expression(&param.value, &value_at, problems);
        }
        if !known.insert(&param.name) {
            problems.error(format!("{at}.name"), format!("there is already a condition on '{}'", param.name));
        }
    }
}

fn filters(filters: &[HttpRouteFilter], at: &str, problems: &mut Problems) {
    problems.at_most(&format!("{at}.filters"), filters.len(), FILTERS_MAX);
    let mut known = BTreeSet::new();
    for (index, filter) in filters.iter().enumerate() {
        let at = format!("{at}.filters[{index}]");
        if !known.insert(filter.kind) {
            problems.error(format!("{at}.type"), "a filter of this type is already there: one at most");
        }
        let bodies = [
            (FilterKind::RequestHeaderModifier, "requestHeaderModifier", &filter.request_header_modifier),
            (FilterKind::ResponseHeaderModifier, "responseHeaderModifier", &filter.response_header_modifier),
        ];
        for (kind, field, body) in bodies {
            match body {
                Some(body) if kind == filter.kind => modifier(body, &format!("{at}.{field}"), problems),
                Some(_) => problems
                    .error(format!("{at}.{field}"), "this field does not belong to a filter of another type"),
                None if kind == filter.kind => {
                    problems.error(&at, format!("a filter of this type needs the field '{field}'"));
                }
                None => {}
            }
        }
    }
}

fn modifier(modifier: &HeaderModifier, at: &str, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    let mut check = |name: &str, at: &str, problems: &mut Problems| {
        header_name(name, at, problems);
        let lower = name.to_ascii_lowercase();
        if FRAMING_FIELDS.contains(&lower.as_str()) {
            problems
                .error(at, format!("'{name}' belongs to the connection and cannot be changed by a route"));
        } else if lower == "host" {
            problems.error(at, "changing the host is a rewrite, which is not supported yet");
        }
        if !known.insert(lower) {
            problems
                .error(at, format!("'{name}' is already in this filter: one change of each header field"));
        }
    };
    let fields: [(&str, &[HeaderField]); 2] = [("set", &modifier.set), ("add", &modifier.add)];
    for (list, fields) in fields {
        problems.at_most(&format!("{at}.{list}"), fields.len(), HEADERS_MAX);
        for (index, field) in fields.iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            check(&field.name, &format!("{at}.name"), problems);
            let value_at = format!("{at}.value");
            header_size(&field.value, &value_at, problems);
            if HeaderValue::from_str(&field.value).is_err() {
                problems.error(value_at, "a header field's value has no control characters");
            }
        }
    }
    problems.at_most(&format!("{at}.remove"), modifier.remove.len(), HEADERS_MAX);
    for (index, name) in modifier.remove.iter().enumerate() {
        check(name, &format!("{at}.remove[{index}]"), problems);
    }
}

fn check_backend(backend: &HttpBackendRef, at: &str, problems: &mut Problems) {
    reference(at, backend.group.as_deref(), backend.kind.as_deref(), problems);
    name(at, &backend.name, backend.namespace.as_deref(), problems);
    port(at, backend.port, problems);
    if backend.weight > WEIGHT_MAX {
        problems
            .error(format!("{at}.weight"), format!("{} is too much: {WEIGHT_MAX} at most", backend.weight));
    }
    filters(&backend.filters, at, problems);
}

fn check_timeouts(timeouts: &HttpRouteTimeouts, at: &str, problems: &mut Problems) {
    let mut limit = |field: &str, text: &Option<String>| {
        let text = text.as_deref()?;
        let parsed = duration::parse(text);
        if parsed.is_none() {
            let expected = "a number and a unit, as in 10s, 500ms or 1h30m; 0s for no limit";
            problems
                .error(format!("{at}.{field}"), format!("'{text}' is not a duration: expected {expected}"));
        }
        parsed
    };
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

fn expression(pattern: &str, at: &str, problems: &mut Problems) {
    let Err(error) = whole_regex(pattern) else { return };
    if let regex::Error::CompiledTooBig(bytes) = error {
        problems.error(
            at,
            format!("this regular expression takes more than {bytes} bytes when compiled: make it simpler"),
        );
        return;
    }
    // The parser draws the place in several lines; its last says what is wrong.
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    problems.error(at, format!("'{pattern}' is not a regular expression: {reason}"));
}

fn reference(at: &str, group: Option<&str>, kind: Option<&str>, problems: &mut Problems) {
    if let Some(kind) = kind.filter(|kind| *kind != "Service") {
        problems
            .error(format!("{at}.kind"), format!("'{kind}' is not supported: in a mesh, expected 'Service'"));
    }
    if let Some(group) = group.filter(|group| !matches!(*group, "" | "core")) {
        problems.error(
            format!("{at}.group"),
            format!("'{group}' is not supported: expected '' (core), the group of Service"),
        );
    }
}

fn name(at: &str, name: &str, namespace: Option<&str>, problems: &mut Problems) {
    let expected = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
    if !is_label(name) {
        problems.error(
            format!("{at}.name"),
            format!("'{name}' is not the name of a service: expected {expected}"),
        );
    }
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        problems.error(
            format!("{at}.namespace"),
            format!("'{namespace}' is not a namespace: expected {expected}"),
        );
    }
}

fn port(at: &str, port: Option<u16>, problems: &mut Problems) {
    if port == Some(0) {
        problems.error(format!("{at}.port"), "0 is not a port: expected 1 to 65535");
    }
}

fn header_name(name: &str, at: &str, problems: &mut Problems) {
    if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX || HeaderName::try_from(name).is_err() {
        problems.error(
            at,
            format!(
                "'{name}' is not the name of a header field: expected letters, digits and !#$%&'*+-.^_`|~"
            ),
        );
    }
}

fn header_size(value: &str, at: &str, problems: &mut Problems) {
    if value.is_empty() || value.len() > HEADER_VALUE_BYTES_MAX {
        problems.error(
            at,
            format!("{} bytes are not allowed: expected 1 to {HEADER_VALUE_BYTES_MAX}", value.len()),
        );
    }
}
