//! Does one match apply to a request, and how specific is it.
//!
//! Follows the Gateway API's `HTTPRouteMatch`. Where it leaves the choice to implementations, ours is Envoy's: regular
//! expressions must match the whole path or value, a repeated header field is compared as its values joined by commas,
//! and a regular expression on the path goes before a prefix and after an exact path, the longer expression first.

use http::{HeaderName, Method};
use regex::bytes::{Regex, RegexBuilder};

use crate::logic::http::fields::Fields;
use crate::logic::request::Head;
use crate::model::route::{HeaderMatchKind, HttpMethod, HttpPathMatch, HttpRouteMatch, PathMatchKind};

/// Most memory that one compiled expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 256 * 1_024;

/// Conditions that must all hold, ready to be asked.
#[derive(Debug, Clone)]
pub struct Matcher {
    path: PathMatcher,
    method: Option<Method>,
    headers: Vec<(HeaderName, ValueMatcher)>,
}

#[derive(Debug, Clone)]
enum PathMatcher {
    Exact(String),
    /// Without its final slashes, so that `/` is empty.
    Prefix(String),
    Regex(Regex),
}

#[derive(Debug, Clone)]
enum ValueMatcher {
    Exact(Vec<u8>),
    Regex(Regex),
}

/// How specific a match is: the greater goes first. A total order, by the Gateway API's criteria in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    path: PathSpecificity,
    method: bool,
    headers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PathSpecificity {
    /// Characters of the prefix.
    Prefix(usize),
    /// Characters of the expression.
    Regex(usize),
    Exact,
}

impl Matcher {
    /// Makes a match ready. Of header conditions with the same name in any case, the first counts.
    ///
    /// Returns `None` when a header name or an expression is not valid, which `logic::validate` refuses before.
    pub fn new(wanted: &HttpRouteMatch) -> Option<Self> {
        let path = match &wanted.path {
            None => PathMatcher::Prefix(String::new()),
            Some(path) => PathMatcher::new(path)?,
        };
        let mut headers: Vec<(HeaderName, ValueMatcher)> = Vec::new();
        for header in &wanted.headers {
            let name = HeaderName::try_from(&header.name).ok()?;
            let value = match header.kind {
                HeaderMatchKind::Exact => ValueMatcher::Exact(header.value.clone().into_bytes()),
                HeaderMatchKind::RegularExpression => ValueMatcher::Regex(whole(&header.value)?),
            };
            if headers.iter().all(|(known, _)| *known != name) {
                headers.push((name, value));
            }
        }
        Some(Self { path, method: wanted.method.map(method), headers })
    }

    /// Returns whether every condition holds.
    pub fn matches(&self, head: &Head<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.path.matches(head.path)
            && self.headers.iter().all(|(name, value)| value.matches(name, head.fields))
    }

    /// Returns how specific it is.
    pub fn specificity(&self) -> Specificity {
        let path = match &self.path {
            PathMatcher::Exact(_) => PathSpecificity::Exact,
            PathMatcher::Prefix(prefix) => PathSpecificity::Prefix(prefix.chars().count()),
            PathMatcher::Regex(regex) => PathSpecificity::Regex(regex.as_str().chars().count()),
        };
        Specificity { path, method: self.method.is_some(), headers: self.headers.len() }
    }
}

impl PathMatcher {
    fn new(path: &HttpPathMatch) -> Option<Self> {
        Some(match path.kind {
            PathMatchKind::Exact => Self::Exact(path.value.clone()),
            PathMatchKind::PathPrefix => Self::Prefix(path.value.trim_end_matches('/').to_owned()),
            PathMatchKind::RegularExpression => Self::Regex(whole(&path.value)?),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(value) => path == value,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
        }
    }
}

impl ValueMatcher {
    fn matches(&self, name: &HeaderName, fields: &Fields) -> bool {
        let mut values = fields.all(name.as_str());
        let Some(first) = values.next() else { return false };
        let Some(second) = values.next() else { return self.accepts(first) };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        self.accepts(&joined)
    }

    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => wanted == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Compiles an expression that must match a whole text.
///
/// # Errors
/// When it is not an expression, or its compiled form is too large; the text says which.
pub fn whole_regex(pattern: &str) -> Result<Regex, regex::Error> {
    // First by itself: `a)|(b` must not become valid by being put into a group.
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build()?;
    RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(REGEX_BYTES_MAX).build()
}

fn whole(pattern: &str) -> Option<Regex> {
    whole_regex(pattern).ok()
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Connect => Method::CONNECT,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Trace => Method::TRACE,
        HttpMethod::Patch => Method::PATCH,
    }
}
