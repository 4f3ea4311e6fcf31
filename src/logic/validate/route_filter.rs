//! Are the filters of a route what the Gateway API's schema allows, alone and together.

use std::collections::BTreeSet;

use http::HeaderValue;

use crate::logic::route::filter::cors;
use crate::logic::validate::problem::Problems;
use crate::logic::validate::reference::{name, port, reference};
use crate::logic::validate::route_match::{header_name, header_size, path_characters};
use crate::model::name::is_label;
use crate::model::route_filter::{
    CorsFilter, FilterKind, HeaderField, HeaderModifier, HttpRouteFilter, PathModifier, PathModifierKind,
    RequestMirror, RequestRedirect, UrlRewrite,
};

const FILTERS_MAX: usize = 16;
const CHANGES_MAX: usize = 16;
const PATH_BYTES_MAX: usize = 1_024;
const HOST_BYTES_MAX: usize = 253;
const ORIGINS_MAX: usize = 64;
const METHODS_MAX: usize = 9;
const NAMES_MAX: usize = 64;
const REDIRECTIONS: [u16; 5] = [301, 302, 303, 307, 308];
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];

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

/// Where filters stand, and what follows from that.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Which types there may be.
    pub kinds: &'a [FilterKind],
    /// Whether the rule has one match, and that is a prefix.
    pub prefix: bool,
    /// Whether the rule sends requests to backends.
    pub backends: bool,
}

/// Adds what is wrong or doubtful in the filters of the rule or backend at `at`.
pub fn check(filters: &[HttpRouteFilter], at: &str, scope: Scope<'_>, problems: &mut Problems) {
    problems.at_most(&format!("{at}.filters"), filters.len(), FILTERS_MAX);
    let mut known = BTreeSet::new();
    for (index, filter) in filters.iter().enumerate() {
        let at = format!("{at}.filters[{index}]");
        let kind = filter.kind;
        if !scope.kinds.contains(&kind) {
            problems.error(format!("{at}.type"), "routes of this kind have no filter of this type");
        } else if !known.insert(kind) && kind != FilterKind::RequestMirror {
            problems.error(format!("{at}.type"), "a filter of this type is already there: one at most");
        }
        let other = match kind {
            FilterKind::RequestRedirect => Some(FilterKind::UrlRewrite),
            FilterKind::UrlRewrite => Some(FilterKind::RequestRedirect),
            FilterKind::RequestHeaderModifier
            | FilterKind::ResponseHeaderModifier
            | FilterKind::RequestMirror
            | FilterKind::Cors => None,
        };
        if other.is_some_and(|other| known.contains(&other)) {
            problems.error(format!("{at}.type"), "a redirection and a rewrite exclude each other");
        }
        if kind == FilterKind::RequestRedirect && scope.backends {
            problems.error(format!("{at}.type"), "a rule that redirects has no backendRefs");
        }
        bodies(filter, &at, scope, problems);
    }
}

/// Checks that a filter has the body of its type and no other, and that body.
fn bodies(filter: &HttpRouteFilter, at: &str, scope: Scope<'_>, problems: &mut Problems) {
    let given = [
        (FilterKind::RequestHeaderModifier, filter.request_header_modifier.is_some()),
        (FilterKind::ResponseHeaderModifier, filter.response_header_modifier.is_some()),
        (FilterKind::RequestMirror, filter.request_mirror.is_some()),
        (FilterKind::RequestRedirect, filter.request_redirect.is_some()),
        (FilterKind::UrlRewrite, filter.url_rewrite.is_some()),
        (FilterKind::Cors, filter.cors.is_some()),
    ];
    for (kind, given) in given {
        let field = kind.field();
        match (given, kind == filter.kind) {
            (true, false) => problems
                .error(format!("{at}.{field}"), "this field does not belong to a filter of another type"),
            (false, true) => {
                problems.error(at, format!("a filter of this type needs the field '{field}'"));
            }
            (true, true) | (false, false) => {}
        }
    }
    let of = |kind: FilterKind| filter.kind == kind;
    if let Some(body) =
        filter.request_header_modifier.as_ref().filter(|_| of(FilterKind::RequestHeaderModifier))
    {
        modifier(body, &format!("{at}.requestHeaderModifier"), true, problems);
    }
    if let Some(body) =
        filter.response_header_modifier.as_ref().filter(|_| of(FilterKind::ResponseHeaderModifier))
    {
        modifier(body, &format!("{at}.responseHeaderModifier"), false, problems);
    }
    if let Some(body) = filter.request_mirror.as_ref().filter(|_| of(FilterKind::RequestMirror)) {
        mirror(body, &format!("{at}.requestMirror"), problems);
    }
    if let Some(body) = filter.request_redirect.as_ref().filter(|_| of(FilterKind::RequestRedirect)) {
        redirect(body, &format!("{at}.requestRedirect"), scope.prefix, problems);
    }
    if let Some(body) = filter.url_rewrite.as_ref().filter(|_| of(FilterKind::UrlRewrite)) {
        rewrite(body, &format!("{at}.urlRewrite"), scope.prefix, problems);
    }
    if let Some(body) = filter.cors.as_ref().filter(|_| of(FilterKind::Cors)) {
        sharing(body, &format!("{at}.cors"), problems);
    }
}

fn modifier(modifier: &HeaderModifier, at: &str, request: bool, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    let mut check = |name: &str, at: &str, set: bool, problems: &mut Problems| {
        header_name(name, at, problems);
        let lower = name.to_ascii_lowercase();
        if FRAMING_FIELDS.contains(&lower.as_str()) {
            problems
                .error(at, format!("'{name}' belongs to the connection and cannot be changed by a route"));
        } else if lower == "host" && !(request && set) {
            problems.error(at, "a request has one host: it can be set, not added or removed");
        }
        if !known.insert(lower) {
            problems
                .error(at, format!("'{name}' is already in this filter: one change of each header field"));
        }
    };
    let fields: [(&str, &[HeaderField]); 2] = [("set", &modifier.set), ("add", &modifier.add)];
    for (list, fields) in fields {
        problems.at_most(&format!("{at}.{list}"), fields.len(), CHANGES_MAX);
        for (index, field) in fields.iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            check(&field.name, &format!("{at}.name"), list == "set", problems);
            let value_at = format!("{at}.value");
            header_size(&field.value, &value_at, problems);
            if HeaderValue::from_str(&field.value).is_err() {
                problems.error(value_at, "a header field's value has no control characters");
            }
        }
    }
    problems.at_most(&format!("{at}.remove"), modifier.remove.len(), CHANGES_MAX);
    for (index, name) in modifier.remove.iter().enumerate() {
        check(name, &format!("{at}.remove[{index}]"), false, problems);
    }
}

fn mirror(mirror: &RequestMirror, at: &str, problems: &mut Problems) {
    let backend = &mirror.backend_ref;
    let backend_at = format!("{at}.backendRef");
    reference(&backend_at, backend.group.as_deref(), backend.kind.as_deref(), problems);
    name(&backend_at, &backend.name, backend.namespace.as_deref(), problems);
    port(&backend_at, backend.port, problems);
    if let Some(percent) = mirror.percent.filter(|percent| *percent > 100) {
        problems.error(format!("{at}.percent"), format!("{percent} is too much: 100 at most"));
    }
    if let Some(fraction) = &mirror.fraction {
        if fraction.denominator == 0 {
            problems.error(format!("{at}.fraction.denominator"), "0 is not allowed: expected 1 or more");
        } else if fraction.numerator > fraction.denominator {
            problems.error(format!("{at}.fraction.numerator"), "expected at most the denominator");
        }
        if mirror.percent.is_some() {
            problems.error(format!("{at}.fraction"), "expected either 'percent' or 'fraction'");
        }
    }
}

fn redirect(redirect: &RequestRedirect, at: &str, prefix: bool, problems: &mut Problems) {
    host(redirect.hostname.as_deref(), at, problems);
    if let Some(path) = &redirect.path {
        path_modifier(path, &format!("{at}.path"), prefix, problems);
    }
    port(at, redirect.port, problems);
    if let Some(status) = redirect.status_code.filter(|status| !REDIRECTIONS.contains(status)) {
        problems.error(
            format!("{at}.statusCode"),
            format!("{status} is not one of the choices: expected 301, 302, 303, 307, 308"),
        );
    }
}

fn rewrite(rewrite: &UrlRewrite, at: &str, prefix: bool, problems: &mut Problems) {
    host(rewrite.hostname.as_deref(), at, problems);
    if let Some(path) = &rewrite.path {
        path_modifier(path, &format!("{at}.path"), prefix, problems);
    }
}

fn host(host: Option<&str>, at: &str, problems: &mut Problems) {
    let fine = |host: &&str| host.len() <= HOST_BYTES_MAX && host.split('.').all(is_label);
    if let Some(host) = host.filter(|host| !fine(host)) {
        problems.error(
            format!("{at}.hostname"),
            format!("'{host}' is not a host name: expected labels of a-z, 0-9 and '-' joined by dots"),
        );
    }
}

fn path_modifier(modifier: &PathModifier, at: &str, prefix: bool, problems: &mut Problems) {
    let PathModifier { kind, replace_full_path, replace_prefix_match } = modifier;
    let fields = [
        (PathModifierKind::ReplaceFullPath, "replaceFullPath", replace_full_path),
        (PathModifierKind::ReplacePrefixMatch, "replacePrefixMatch", replace_prefix_match),
    ];
    for (of, field, value) in fields {
        match value {
            Some(_) if of != *kind => {
                problems.error(format!("{at}.{field}"), "this field does not belong to this type");
            }
            None if of == *kind => problems.error(at, format!("this type needs the field '{field}'")),
            Some(value) if value.len() > PATH_BYTES_MAX => problems.error(
                format!("{at}.{field}"),
                format!("{} bytes are too long: {PATH_BYTES_MAX} at most", value.len()),
            ),
            Some(value) => {
                if let Some(fault) = path_characters(value) {
                    problems.error(format!("{at}.{field}"), fault);
                }
            }
            None => {}
        }
    }
    if *kind == PathModifierKind::ReplacePrefixMatch && !prefix {
        problems.error(
            format!("{at}.replacePrefixMatch"),
            "this takes the place of what the rule's match names: the rule needs exactly one, of type PathPrefix",
        );
    }
}

fn sharing(cors: &CorsFilter, at: &str, problems: &mut Problems) {
    let lists: [(&str, &[String], usize); 4] = [
        ("allowOrigins", &cors.allow_origins, ORIGINS_MAX),
        ("allowMethods", &cors.allow_methods, METHODS_MAX),
        ("allowHeaders", &cors.allow_headers, NAMES_MAX),
        ("exposeHeaders", &cors.expose_headers, NAMES_MAX),
    ];
    for (list, entries, max) in lists {
        let at = format!("{at}.{list}");
        problems.at_most(&at, entries.len(), max);
        if list != "exposeHeaders" && entries.len() > 1 && entries.iter().any(|entry| entry == "*") {
            problems.error(&at, "'*' stands for all: expected nothing beside it");
        }
        let mut known = BTreeSet::new();
        for (index, entry) in entries.iter().enumerate() {
            let at = format!("{at}[{index}]");
            if !known.insert(entry) {
                problems.error(&at, format!("'{entry}' is there twice"));
            }
            match list {
                "allowOrigins" if !cors::is_origin(entry) => problems.error(
                    at,
                    format!(
                        "'{entry}' is not an origin: expected scheme://host[:port] of http or https, or '*'"
                    ),
                ),
                "allowMethods" if !METHODS.contains(&entry.as_str()) => problems.error(
                    at,
                    format!("'{entry}' is not one of the choices: expected {}", METHODS.join(", ")),
                ),
                "allowHeaders" | "exposeHeaders" => header_name(entry, &at, problems),
                _ => {}
            }
        }
    }
    if cors.max_age < 1 {
        problems
            .error(format!("{at}.maxAge"), format!("{} is not allowed: expected 1 or more", cors.max_age));
    }
}
