//! Is one `GRPCRoute` what the Gateway API's schema allows, and can all of it be obeyed.

use crate::logic::validate::problem::Problems;
use crate::logic::validate::reference::parents;
use crate::logic::validate::route::{
    backends, bounds, check_session, hostnames, leads_somewhere, rule_names,
};
use crate::logic::validate::route_filter::{self, Scope};
use crate::logic::validate::route_match;
use crate::model::grpc_route::{GrpcMethodMatch, GrpcRouteRule, GrpcRouteSpec};
use crate::model::resource::Object;
use crate::model::route::HeaderMatchKind;
use crate::model::route_filter::FilterKind;

const MATCHES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 1_024;

/// Adds what is wrong or doubtful in a route.
pub fn check(route: &Object<GrpcRouteSpec>, problems: &mut Problems) {
    let spec = &route.spec;
    parents(&spec.parent_refs, &route.metadata.namespace, problems);
    hostnames(&spec.hostnames, problems);
    bounds(spec.rules.iter().map(|rule| rule.matches.len()), problems);
    rule_names(spec.rules.iter().map(|rule| rule.name.as_ref()), problems);
    for (index, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, &format!("spec.rules[{index}]"), problems);
    }
}

fn check_rule(rule: &GrpcRouteRule, at: &str, problems: &mut Problems) {
    problems.at_most(&format!("{at}.matches"), rule.matches.len(), MATCHES_MAX);
    for (index, wanted) in rule.matches.iter().enumerate() {
        let at = format!("{at}.matches[{index}]");
        if let Some(method) = &wanted.method {
            check_method(method, &format!("{at}.method"), problems);
        }
        route_match::headers(&wanted.headers, &at, problems);
    }
    let scope = Scope { kinds: &FilterKind::GRPC, prefix: false, backends: false };
    route_filter::check(&rule.filters, at, scope, problems);
    backends(&rule.backend_refs, at, scope, problems);
    leads_somewhere(&rule.backend_refs, at, "UNAVAILABLE", problems);
    if let Some(session) = &rule.session_persistence {
        check_session(session, &format!("{at}.sessionPersistence"), problems);
    }
}

fn check_method(wanted: &GrpcMethodMatch, at: &str, problems: &mut Problems) {
    if wanted.service.is_none() && wanted.method.is_none() {
        problems.error(at, "expected at least one of 'service' and 'method'");
    }
    for (field, text) in [("service", &wanted.service), ("method", &wanted.method)] {
        let Some(text) = text else { continue };
        let at = format!("{at}.{field}");
        if text.len() > NAME_BYTES_MAX {
            problems.error(at, format!("{} bytes are too long: {NAME_BYTES_MAX} at most", text.len()));
            continue;
        }
        match wanted.kind {
            HeaderMatchKind::RegularExpression => route_match::expression(text, &at, problems),
            HeaderMatchKind::Exact if field == "service" => {
                let rest = text.strip_prefix('.').unwrap_or(text);
                if !rest.split('.').all(is_word) {
                    problems.error(
                        at,
                        format!("'{text}' is not the name of a gRPC service: expected words joined by dots, as in shop.v1.Cart"),
                    );
                }
            }
            HeaderMatchKind::Exact if !is_word(text) => {
                problems.error(
                    at,
                    format!("'{text}' is not the name of a gRPC method: expected letters, digits and '_'"),
                );
            }
            HeaderMatchKind::Exact => {}
        }
    }
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
