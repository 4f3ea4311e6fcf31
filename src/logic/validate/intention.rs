//! Does one intention say whom and what it is about.

use http::{HeaderName, Method};

use crate::logic::authorize;
use crate::logic::validate::problem::Problems;
use crate::model::intention::{
    GRPC_MAX, GrpcCondition, HEADERS_MAX, HeaderCondition, HeaderConditionKind, IntentionRule, IntentionSpec,
    METHODS_MAX, PATH_BYTES_MAX, PATHS_MAX, PathCondition, RULES_MAX, SOURCES_MAX,
};
use crate::model::name::is_label;
use crate::model::resource::Object;

const VALUE_BYTES_MAX: usize = 4_096;

/// Adds what is wrong in an intention.
pub fn check(intention: &Object<IntentionSpec>, problems: &mut Problems) {
    let namespace = &intention.metadata.namespace;
    let spec = &intention.spec;
    if let Err(message) = authorize::destination(&spec.destination, namespace) {
        problems.error("spec.destination", message);
    }
    problems.at_most("spec.sources", spec.sources.len(), SOURCES_MAX);
    if spec.sources.is_empty() {
        problems.error("spec.sources", "an intention needs at least one source");
    }
    for (index, wanted) in spec.sources.iter().enumerate() {
        if let Err(message) = authorize::source(wanted, namespace) {
            let field = match (&wanted.service, &wanted.namespace, &wanted.node) {
                (Some(_), None, None) => ".service",
                (None, Some(_), None) => ".namespace",
                (None, None, Some(_)) => ".node",
                (_, _, _) => "",
            };
            problems.error(format!("spec.sources[{index}]{field}"), message);
        }
    }
    problems.at_most("spec.rules", spec.rules.len(), RULES_MAX);
    for (index, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, &format!("spec.rules[{index}]"), problems);
        let name = rule.name.as_ref();
        if name.is_some() && spec.rules.iter().take(index).any(|other| other.name.as_ref() == name) {
            problems
                .error(format!("spec.rules[{index}].name"), "another rule of this intention has this name");
        }
    }
}

fn check_rule(rule: &IntentionRule, at: &str, problems: &mut Problems) {
    if let Some(name) = rule.name.as_ref().filter(|name| !is_label(name)) {
        let expected = "expected 1 to 63 of a-z, 0-9 and '-'";
        problems.error(format!("{at}.name"), format!("'{name}' is not a name: {expected}"));
    }
    problems.at_most(&format!("{at}.methods"), rule.methods.len(), METHODS_MAX);
    for (index, method) in rule.methods.iter().enumerate() {
        if Method::from_bytes(method.as_bytes()).is_err() || method.bytes().any(|b| b.is_ascii_lowercase()) {
            let message = format!("'{method}' is not a method: expected one such as GET, in upper case");
            problems.error(format!("{at}.methods[{index}]"), message);
        }
    }
    problems.at_most(&format!("{at}.paths"), rule.paths.len(), PATHS_MAX);
    for (index, path) in rule.paths.iter().enumerate() {
        check_path(path, &format!("{at}.paths[{index}].value"), problems);
    }
    problems.at_most(&format!("{at}.headers"), rule.headers.len(), HEADERS_MAX);
    for (index, header) in rule.headers.iter().enumerate() {
        check_header(header, &format!("{at}.headers[{index}]"), problems);
    }
    problems.at_most(&format!("{at}.grpc"), rule.grpc.len(), GRPC_MAX);
    for (index, method) in rule.grpc.iter().enumerate() {
        check_grpc(method, &format!("{at}.grpc[{index}]"), problems);
    }
}

fn check_path(path: &PathCondition, at: &str, problems: &mut Problems) {
    let value = &path.value;
    if !value.starts_with('/') || value.contains(['?', '#']) {
        problems.error(
            at,
            format!("'{value}' is not a path: expected one that begins with '/', without a query"),
        );
    } else if value.len() > PATH_BYTES_MAX {
        problems.error(at, format!("a path has {PATH_BYTES_MAX} bytes at most"));
    } else if authorize::request::canonical(value) != *value {
        let resolved = authorize::request::canonical(value);
        problems.error(
            at,
            format!("'{value}' never fits: paths are compared as '{resolved}' too, so write that"),
        );
    }
}

fn check_header(header: &HeaderCondition, at: &str, problems: &mut Problems) {
    if HeaderName::try_from(&header.name).is_err() {
        problems.error(format!("{at}.name"), format!("'{}' is not the name of a header field", header.name));
    }
    let value = &header.value;
    match header.kind {
        HeaderConditionKind::Present if !value.is_empty() => {
            problems.error(
                format!("{at}.value"),
                "with the type Present there is nothing to compare: leave it out",
            );
        }
        HeaderConditionKind::Prefix if value.is_empty() => {
            problems.error(format!("{at}.value"), "the prefix is missing; any value is the type Present");
        }
        HeaderConditionKind::Exact | HeaderConditionKind::Prefix if value.len() > VALUE_BYTES_MAX => {
            problems.error(format!("{at}.value"), format!("a value has {VALUE_BYTES_MAX} bytes at most"));
        }
        HeaderConditionKind::Exact | HeaderConditionKind::Prefix | HeaderConditionKind::Present => {}
    }
}

fn check_grpc(wanted: &GrpcCondition, at: &str, problems: &mut Problems) {
    if wanted.service.is_none() && wanted.method.is_none() {
        problems.error(at, "a gRPC method needs 'service', 'method' or both");
    }
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
    };
    for (field, text) in [("service", &wanted.service), ("method", &wanted.method)] {
        if let Some(text) = text.as_ref().filter(|text| !plain(text)) {
            problems.error(format!("{at}.{field}"), format!("'{text}' is not the name of a gRPC {field}"));
        }
    }
}
