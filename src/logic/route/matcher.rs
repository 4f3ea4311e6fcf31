//! Does one match apply to a request, and how specific is it.
//!
//! Follows the Gateway API's `HTTPRouteMatch` and `GRPCRouteMatch`. Where it leaves the choice to implementations, ours is Envoy's: regular
//! expressions must match the whole path or value, a repeated header field is compared as its values joined by commas,
//! and a regular expression on the path goes before a prefix and after an exact path, the longer expression first. Of a
//! repeated query parameter the first value counts.

use http::{HeaderName, Method};
use regex::bytes::{Regex, RegexBuilder};

use crate::logic::http::fields::Fields;
use crate::logic::request::Head;
use crate::logic::route::query;
use crate::model::grpc_route::GrpcRouteMatch;
use crate::model::route::{
    HeaderMatchKind, HttpHeaderMatch, HttpMethod, HttpPathMatch, HttpRouteMatch, PathMatchKind,
};

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
    specificity: Specificity,
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
    /// A call of gRPC, `/service/method`, by either or both.
    Call(Option<ValueMatcher>, Option<ValueMatcher>),
}

/// A condition on a text.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    /// Byte for byte.
    Exact(Box<[u8]>),
    /// An expression for all of it.
    Regex(Pattern),
}

/// An expression that must match a whole text.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// One that has nothing but itself to match: it is not worth compiling.
    Literal(Box<str>),
    /// Any other.
    Regex(Regex),
}

impl Pattern {
    fn new(text: &str) -> Option<Self> {
        if text.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$']) {
            Some(Self::Regex(whole_regex(text).ok()?))
        } else {
            Some(Self::Literal(text.into()))
        }
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Literal(text) => text.as_bytes() == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// How specific a match is: the greater goes first. A total order among the matches of one kind of route, by the Gateway
/// API's criteria in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// Of an `HTTPRoute`.
    Http {
        /// Of the path.
        path: PathSpecificity,
        /// Whether it asks for a method.
        method: bool,
        /// Conditions on header fields.
        headers: usize,
        /// Conditions on the query.
        query: usize,
    },
    /// Of a `GRPCRoute`.
    Grpc {
        /// Characters of the service.
        service: usize,
        /// Characters of the method.
        method: usize,
        /// Conditions on header fields.
        headers: usize,
    },
}

/// How specific a condition on a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathSpecificity {
    /// Characters of the prefix.
    Prefix(usize),
    /// Characters of the expression.
    Regex(usize),
    /// The whole path.
    Exact,
}

impl Matcher {
    /// Returns whether it asks for header fields or parameters of the query.
    pub fn asks_fields(&self) -> bool {
        !self.headers.is_empty() || !self.query.is_empty()
    }

    /// Makes a match ready. Of header conditions with the same name in any case, and of query conditions with the same
    /// name, the first counts.
    ///
    /// Returns `None` when a header name or an expression is not valid, which `logic::validate` refuses before.
    pub fn new(wanted: &HttpRouteMatch) -> Option<Self> {
        let (path, of_path) = match &wanted.path {
            None => (PathMatcher::Prefix("".into()), PathSpecificity::Prefix(0)),
            Some(path) => PathMatcher::new(path)?,
        };
        let mut query: Vec<(Box<str>, ValueMatcher)> = Vec::new();
        for param in &wanted.query_params {
            if query.iter().all(|(known, _)| **known != *param.name) {
                query.push((param.name.as_str().into(), ValueMatcher::new(param.kind, &param.value)?));
            }
        }
        let headers = headers(&wanted.headers)?;
        let specificity = Specificity::Http {
            path: of_path,
            method: wanted.method.is_some(),
            headers: headers.len(),
            query: query.len(),
        };
        Some(Self { path, method: wanted.method.map(method), headers, query, specificity })
    }

    /// Makes a match of a `GRPCRoute` ready.
    ///
    /// Returns `None` when a header name or an expression is not valid.
    pub fn of_grpc(wanted: &GrpcRouteMatch) -> Option<Self> {
        let headers = headers(&wanted.headers)?;
        let (path, service, method) = match &wanted.method {
            None => (PathMatcher::Prefix("".into()), 0, 0),
            Some(wanted) => {
                let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
                let (service, method) = (said(&wanted.service), said(&wanted.method));
                let chars = |text: &Option<String>| text.as_ref().map_or(0, |text| text.chars().count());
                let lengths = (chars(&service), chars(&method));
                (PathMatcher::call(wanted.kind, service, method)?, lengths.0, lengths.1)
            }
        };
        let specificity = Specificity::Grpc { service, method, headers: headers.len() };
        Some(Self { path, method: None, headers, query: Vec::new(), specificity })
    }

    /// Makes the match that takes everything.
    pub fn any() -> Self {
        let specificity =
            Specificity::Http { path: PathSpecificity::Prefix(0), method: false, headers: 0, query: 0 };
        let path = PathMatcher::Prefix("".into());
        Self { path, method: None, headers: Vec::new(), query: Vec::new(), specificity }
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
        self.specificity
    }
}

impl PathMatcher {
    fn new(path: &HttpPathMatch) -> Option<(Self, PathSpecificity)> {
        let value = path.value.as_str();
        Some(match path.kind {
            PathMatchKind::Exact => (Self::Exact(value.into()), PathSpecificity::Exact),
            PathMatchKind::PathPrefix => {
                let prefix = value.trim_end_matches('/');
                (Self::Prefix(prefix.into()), PathSpecificity::Prefix(prefix.chars().count()))
            }
            PathMatchKind::RegularExpression => {
                (Self::Regex(Pattern::new(value)?), PathSpecificity::Regex(value.chars().count()))
            }
        })
    }

    /// Makes a condition on a call of gRPC: of those that say exactly what they want, one on the path.
    fn call(kind: HeaderMatchKind, service: Option<String>, method: Option<String>) -> Option<Self> {
        Some(match (kind, service, method) {
            (_, None, None) => Self::Prefix("".into()),
            (HeaderMatchKind::Exact, Some(service), Some(method)) => {
                Self::Exact(format!("/{service}/{method}").into())
            }
            (HeaderMatchKind::Exact, Some(service), None) => Self::Prefix(format!("/{service}").into()),
            (_, service, method) => {
                let part = |text: Option<String>| match text {
                    None => Some(None),
                    Some(text) => ValueMatcher::new(kind, &text).map(Some),
                };
                Self::Call(part(service)?, part(method)?)
            }
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(value) => path == &**value,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/')),
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
            Self::Call(service, method) => {
                let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                let fits = |wanted: &Option<ValueMatcher>, part: &str| {
                    wanted.as_ref().is_none_or(|wanted| wanted.accepts(part.as_bytes()))
                };
                parts.is_some_and(|parts| fits(service, parts.0) && fits(method, parts.1))
            }
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
