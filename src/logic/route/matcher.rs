//! Does one match apply to a request, and how specific is it.
//!
//! Follows the Gateway API's `HTTPRouteMatch`. Where it leaves the choice to implementations, ours is Envoy's: regular
//! expressions must match the whole path or value, a repeated header field is compared as its values joined by commas,
//! and a regular expression on the path goes before a prefix and after an exact path, the longer expression first. Of a
//! repeated query parameter the first value counts.

use http::{HeaderName, Method};
use regex::bytes::{Regex, RegexBuilder};

use crate::logic::http::fields::Fields;
use crate::logic::request::Head;
use crate::logic::route::query;
use crate::model::route::{HeaderMatchKind, HttpHeaderMatch, HttpMethod, HttpRouteMatch, PathMatchKind};

/// Most memory that one compiled expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 256 * 1_024;
/// The header field that is not among the others.
const HOST: &str = "host";

/// Conditions that must all hold, ready to be asked.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// On the path.
    pub path: PathMatcher,
    method: Option<Method>,
    headers: Vec<(HeaderName, ValueMatcher)>,
    query: Vec<(Box<str>, ValueMatcher)>,
}

/// A condition on the path.
#[derive(Debug, Clone)]
pub enum PathMatcher {
    /// The whole path.
    Exact(Box<str>),
    /// Its first elements, without final slashes, so that `/` is empty.
    Prefix(Box<str>),
    /// An expression for the whole path.
    Regex(Pattern),
}

#[derive(Debug, Clone)]
enum ValueMatcher {
    Exact(Box<[u8]>),
    Regex(Pattern),
}

/// An expression that must match a whole text.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// One that has nothing but itself to match: it is not worth compiling.
    Literal(Box<str>),
    /// Any other, and how many characters its text has.
    Regex(Regex, usize),
}

impl Pattern {
    fn new(text: &str) -> Option<Self> {
        if text.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$']) {
            Some(Self::Regex(whole_regex(text).ok()?, text.chars().count()))
        } else {
            Some(Self::Literal(text.into()))
        }
    }

    fn chars(&self) -> usize {
        match self {
            Self::Literal(text) => text.chars().count(),
            Self::Regex(_, chars) => *chars,
        }
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Literal(text) => text.as_bytes() == value,
            Self::Regex(regex, _) => regex.is_match(value),
        }
    }
}

/// How specific a match is: the greater goes first. A total order, by the Gateway API's criteria in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    path: PathSpecificity,
    method: bool,
    headers: usize,
    query: usize,
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
    /// Makes a match ready. Of header conditions with the same name in any case, and of query conditions with the same
    /// name, the first counts.
    ///
    /// Returns `None` when a header name or an expression is not valid, which `logic::validate` refuses before.
    pub fn new(wanted: &HttpRouteMatch) -> Option<Self> {
        let path = match &wanted.path {
            None => PathMatcher::Prefix("".into()),
            Some(path) => match path.kind {
                PathMatchKind::Exact => PathMatcher::Exact(path.value.as_str().into()),
                PathMatchKind::PathPrefix => PathMatcher::Prefix(path.value.trim_end_matches('/').into()),
                PathMatchKind::RegularExpression => PathMatcher::Regex(Pattern::new(&path.value)?),
            },
        };
        let mut query: Vec<(Box<str>, ValueMatcher)> = Vec::new();
        for param in &wanted.query_params {
            if query.iter().all(|(known, _)| **known != *param.name) {
                query.push((param.name.as_str().into(), ValueMatcher::new(param.kind, &param.value)?));
            }
        }
        Some(Self { path, method: wanted.method.map(method), headers: headers(&wanted.headers)?, query })
    }

    /// Returns whether every condition holds.
    pub fn matches(&self, head: &Head<'_>) -> bool {
        self.path.matches(head.path) && self.holds(head)
    }

    /// Returns whether every condition besides that on the path holds.
    pub fn holds(&self, head: &Head<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.headers.iter().all(|(name, value)| value.matches_field(name, head))
            && self.query.iter().all(|(name, value)| {
                let first = head.query.and_then(|query| query::first(query, name));
                first.is_some_and(|first| value.accepts(&first))
            })
    }

    /// Returns how specific it is.
    pub fn specificity(&self) -> Specificity {
        let path = match &self.path {
            PathMatcher::Exact(_) => PathSpecificity::Exact,
            PathMatcher::Prefix(prefix) => PathSpecificity::Prefix(prefix.chars().count()),
            PathMatcher::Regex(pattern) => PathSpecificity::Regex(pattern.chars()),
        };
        let (headers, query) = (self.headers.len(), self.query.len());
        Specificity { path, method: self.method.is_some(), headers, query }
    }
}

impl PathMatcher {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(value) => path == &**value,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/')),
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
        }
    }
}

fn headers(wanted: &[HttpHeaderMatch]) -> Option<Vec<(HeaderName, ValueMatcher)>> {
    let mut headers: Vec<(HeaderName, ValueMatcher)> = Vec::new();
    for header in wanted {
        let name = HeaderName::try_from(&header.name).ok()?;
        let value = ValueMatcher::new(header.kind, &header.value)?;
        if headers.iter().all(|(known, _)| *known != name) {
            headers.push((name, value));
        }
    }
    Some(headers)
}

impl ValueMatcher {
    fn new(kind: HeaderMatchKind, value: &str) -> Option<Self> {
        Some(match kind {
            HeaderMatchKind::Exact => Self::Exact(value.as_bytes().into()),
            HeaderMatchKind::RegularExpression => Self::Regex(Pattern::new(value)?),
        })
    }

    fn matches_field(&self, name: &HeaderName, head: &Head<'_>) -> bool {
        if name == HOST {
            return head.authority.is_some_and(|authority| self.accepts(authority.as_bytes()));
        }
        self.matches_all(name, head.fields)
    }

    fn matches_all(&self, name: &HeaderName, fields: &Fields) -> bool {
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
            Self::Exact(wanted) => **wanted == *value,
            Self::Regex(pattern) => pattern.matches(value),
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
