//! Are the matches of a route what the Gateway API's schema allows.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;

use crate::logic::route::matcher::whole_regex;
use crate::logic::validate::problem::Problems;
use crate::model::route::{
    HeaderMatchKind, HttpHeaderMatch, HttpPathMatch, HttpQueryParamMatch, HttpRouteMatch, PathMatchKind,
};

const HEADERS_MAX: usize = 16;
const QUERY_PARAMS_MAX: usize = 16;
const PATH_BYTES_MAX: usize = 1_024;
const HEADER_NAME_BYTES_MAX: usize = 256;
const HEADER_VALUE_BYTES_MAX: usize = 4_096;
const QUERY_VALUE_BYTES_MAX: usize = 1_024;

/// Adds what is wrong or doubtful in a match of an `HTTPRoute`.
pub fn check(wanted: &HttpRouteMatch, at: &str, problems: &mut Problems) {
    if let Some(path) = &wanted.path {
        check_path(path, &format!("{at}.path.value"), problems);
    }
    headers(&wanted.headers, at, problems);
    check_query(&wanted.query_params, at, problems);
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
    path_characters(path)
}

/// Says which characters of a text cannot be in a path.
pub fn path_characters(path: &str) -> Option<String> {
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

/// Adds what is wrong or doubtful in conditions on header fields.
pub fn headers(headers: &[HttpHeaderMatch], at: &str, problems: &mut Problems) {
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

/// Adds why a text is no regular expression.
pub fn expression(pattern: &str, at: &str, problems: &mut Problems) {
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

/// Adds why a text is not the name of a header field.
pub fn header_name(name: &str, at: &str, problems: &mut Problems) {
    if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX || HeaderName::try_from(name).is_err() {
        problems.error(
            at,
            format!(
                "'{name}' is not the name of a header field: expected letters, digits and !#$%&'*+-.^_`|~"
            ),
        );
    }
}

/// Adds that the value of a header field is empty or too long.
pub fn header_size(value: &str, at: &str, problems: &mut Problems) {
    if value.is_empty() || value.len() > HEADER_VALUE_BYTES_MAX {
        problems.error(
            at,
            format!("{} bytes are not allowed: expected 1 to {HEADER_VALUE_BYTES_MAX}", value.len()),
        );
    }
}
