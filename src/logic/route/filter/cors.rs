//! Which other origins may call: the Gateway API's `CORS` filter (GEP-1767), by the protocol of the Fetch standard.

use http::Method;

use crate::logic::http::fields::Fields;
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::request::Head;
use crate::model::route_filter::CorsFilter;

const ALL: &str = "*";

/// Rules of sharing, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    methods: List,
    headers: List,
    /// The value of `Access-Control-Expose-Headers`; empty for none.
    exposed: Box<str>,
    max_age: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origins {
    All,
    Some(Vec<Pattern>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    All,
    /// Joined by commas; empty when nothing is said.
    Some(Box<str>),
}

/// `scheme://host[:port]`, the host with a wildcard or without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    scheme: Box<str>,
    /// What the host is, or ends in after a wildcard.
    host: Box<str>,
    wildcard: bool,
    port: u16,
}

/// What a response to an allowed origin says; see [`Cors::grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'c> {
    cors: &'c Cors,
    /// The value of `Access-Control-Allow-Origin`.
    origin: Vec<u8>,
}

impl Cors {
    /// Makes rules ready. An origin that is none, which `logic::validate` refuses before, allows nobody.
    pub fn new(wanted: &CorsFilter) -> Self {
        let list = |entries: &[String]| match entries {
            [only] if only == ALL => List::All,
            entries => List::Some(entries.join(", ").into()),
        };
        let credentials = wanted.allow_credentials.unwrap_or(false);
        let origins = match wanted.allow_origins.as_slice() {
            [only] if only == ALL => Origins::All,
            origins => Origins::Some(origins.iter().filter_map(|text| Pattern::parse(text)).collect()),
        };
        // With credentials, a wildcard would be taken for the name of a field.
        let exposed = wanted.expose_headers.iter().filter(|name| *name != ALL || !credentials);
        let exposed: Vec<_> = exposed.map(String::as_str).collect();
        Self {
            origins,
            credentials,
            methods: list(&wanted.allow_methods),
            headers: list(&wanted.allow_headers),
            exposed: exposed.join(", ").into(),
            max_age: wanted.max_age,
        }
    }

    /// Returns what the response to a request of an allowed origin says; `None` for all others, and for requests that no
    /// browser made for another origin.
    pub fn grant(&self, fields: &Fields) -> Option<Grant<'_>> {
        let origin = fields.get("origin")?;
        let origin = match &self.origins {
            Origins::All if self.credentials => origin,
            Origins::All => ALL.as_bytes(),
            Origins::Some(patterns) => {
                let asked = Pattern::parse(std::str::from_utf8(origin).ok()?)?;
                patterns.iter().any(|pattern| pattern.takes(&asked)).then_some(origin)?
            }
        };
        Some(Grant { cors: self, origin: origin.to_vec() })
    }

    /// Returns the answer to a preflight request, 204 in any case; `None` for requests that are none.
    pub fn preflight(&self, head: &RequestHead) -> Option<ResponseHead> {
        let fields = &head.fields;
        if head.method != Method::OPTIONS || !fields.contains("origin") {
            return None;
        }
        let method = fields.get("access-control-request-method")?;
        let mut answer = ResponseHead::new(204);
        let Some(grant) = self.grant(fields) else { return Some(answer) };
        grant.name(&mut answer.fields);
        self.list(&mut answer.fields, "access-control-allow-methods", &self.methods, Some(method));
        let asked = fields.get("access-control-request-headers");
        self.list(&mut answer.fields, "access-control-allow-headers", &self.headers, asked);
        answer.fields.set("access-control-max-age", self.max_age.to_string().as_bytes());
        Some(answer)
    }

    /// Says what is allowed: with credentials, what was asked for stands for all.
    fn list(&self, fields: &mut Fields, name: &str, list: &List, asked: Option<&[u8]>) {
        let value = match list {
            List::All if self.credentials => asked.unwrap_or_default(),
            List::All => ALL.as_bytes(),
            List::Some(text) => text.as_bytes(),
        };
        if !value.is_empty() {
            fields.set(name, value);
        }
    }
}

/// Returns the method that a preflight request asks about; `None` for requests that are none.
pub fn preflight_of(head: &Head<'_>) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.fields.contains("origin") {
        return None;
    }
    Method::from_bytes(head.fields.get("access-control-request-method")?).ok()
}

impl Grant<'_> {
    /// Says in a response that its origin may read it, in place of what the service says of that.
    pub fn apply(&self, fields: &mut Fields) {
        self.name(fields);
        if !self.cors.exposed.is_empty() {
            fields.set("access-control-expose-headers", self.cors.exposed.as_bytes());
        }
    }

    fn name(&self, fields: &mut Fields) {
        fields.set("access-control-allow-origin", &self.origin);
        if self.cors.credentials {
            fields.set("access-control-allow-credentials", b"true");
        }
        // Caches must not give one origin the answer of another (Fetch, "CORS protocol and HTTP caches").
        if self.origin != ALL.as_bytes() && !fields.lists("vary", "origin") {
            fields.append(b"vary", b"Origin");
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let known = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        // The last colon begins a port unless it is within an IPv6 address.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            Some(_) | None => (rest, known),
        };
        let (wildcard, host) = host.strip_prefix(ALL).map_or((false, host), |rest| (true, rest));
        let fine = !host.contains(['/', '*', '?', '#', '@', ' ']) && (wildcard || !host.is_empty());
        fine.then(|| Self {
            scheme: scheme.to_ascii_lowercase().into(),
            host: host.to_ascii_lowercase().into(),
            wildcard,
            port,
        })
    }

    /// Returns whether an origin, parsed as a pattern, is one of these.
    fn takes(&self, origin: &Self) -> bool {
        let host = if self.wildcard {
            origin.host.len() > self.host.len() && origin.host.ends_with(&*self.host)
        } else {
            origin.host == self.host
        };
        host && !origin.wildcard && origin.scheme == self.scheme && origin.port == self.port
    }
}

/// Returns whether a text is an origin that the filter can allow: `*`, or `scheme://host[:port]` with `*` as the host or its
/// first label.
pub fn is_origin(text: &str) -> bool {
    let labels = |pattern: &Pattern| match (pattern.wildcard, &*pattern.host) {
        (true, "") => true,
        (true, rest) => rest.strip_prefix('.').is_some_and(is_host),
        (false, host) => is_host(host),
    };
    text == ALL || Pattern::parse(text).is_some_and(|pattern| pattern.port > 0 && labels(&pattern))
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label)
}
