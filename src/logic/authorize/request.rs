//! The rules of intentions about what a request asks for.
//!
//! Whoever asks may choose the spelling of a path, and services differ in what they make of it. Paths are therefore looked at
//! twice, as sent and in [`canonical`] form, and doubts go against the caller: see [`Doubt`].

use std::borrow::Cow;

use http::{HeaderName, Method};

use crate::logic::http::fields::Fields;
use crate::logic::request::Head;
use crate::model::intention::{
    GrpcCondition, HeaderCondition, HeaderConditionKind, IntentionRule, PathCondition, PathConditionKind,
};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// A connection, of whose content nothing is known.
    Connection,
    /// A request.
    Request(Head<'a>),
    /// Some request, nobody knows which: refused only if every one is.
    Anything,
}

/// What a rule does with a request that it cannot be sure of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It takes it, as rules that deny do.
    Takes,
    /// It leaves it, as rules that allow do.
    Leaves,
}

/// One rule, ready to be asked.
#[derive(Debug, Clone)]
pub struct RequestRule {
    methods: Vec<Method>,
    paths: Vec<PathCondition>,
    headers: Vec<(HeaderName, HeaderCondition)>,
    grpc: Vec<GrpcCondition>,
}

impl RequestRule {
    /// Makes a rule ready. Returns `None` when a method or header name is not valid, which `logic::validate` refuses before.
    pub fn new(wanted: &IntentionRule) -> Option<Self> {
        let methods = wanted.methods.iter().map(|method| Method::from_bytes(method.as_bytes()).ok());
        let headers = wanted.headers.iter().map(|header| {
            let name = HeaderName::try_from(&header.name).ok()?;
            Some((name, header.clone()))
        });
        Some(Self {
            methods: methods.collect::<Option<_>>()?,
            paths: wanted.paths.clone(),
            headers: headers.collect::<Option<_>>()?,
            grpc: wanted.grpc.clone(),
        })
    }

    /// Whether it says nothing, and so speaks of everything.
    fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.headers.is_empty() && self.grpc.is_empty()
    }

    /// Decides whether it takes what is asked for.
    pub fn takes(&self, asked: &Asked<'_>, doubt: Doubt) -> bool {
        let head = match asked {
            Asked::Connection => return self.is_empty() || doubt == Doubt::Takes,
            Asked::Anything => return self.is_empty() || doubt == Doubt::Leaves,
            Asked::Request(head) => head,
        };
        (self.methods.is_empty() || self.methods.contains(head.method))
            && (self.paths.is_empty() || on_path(head.path, doubt, |path| self.fits_path(path)))
            && (self.grpc.is_empty() || on_path(head.path, doubt, |path| self.fits_grpc(path)))
            && self.headers.iter().all(|(name, wanted)| fits_header(head.fields, (name, wanted), doubt))
    }

    fn fits_path(&self, path: &str) -> bool {
        self.paths.iter().any(|wanted| match wanted.kind {
            PathConditionKind::Exact => path == wanted.value,
            PathConditionKind::PathPrefix => {
                let prefix = wanted.value.trim_end_matches('/');
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        })
    }

    fn fits_grpc(&self, path: &str) -> bool {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return false;
        };
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        self.grpc.iter().any(|wanted| fits(&wanted.service, service) && fits(&wanted.method, method))
    }
}

/// Asks about both spellings of a path.
fn on_path(path: &str, doubt: Doubt, fits: impl Fn(&str) -> bool) -> bool {
    let sent = fits(path);
    match (canonical(path), doubt) {
        (Cow::Borrowed(_), _) => sent,
        (Cow::Owned(other), Doubt::Takes) => sent || fits(&other),
        (Cow::Owned(other), Doubt::Leaves) => sent && fits(&other),
    }
}

fn fits_header(fields: &Fields, (name, wanted): (&HeaderName, &HeaderCondition), doubt: Doubt) -> bool {
    let fits = |value: &[u8]| match wanted.kind {
        HeaderConditionKind::Exact => value == wanted.value.as_bytes(),
        HeaderConditionKind::Prefix => value.starts_with(wanted.value.as_bytes()),
        HeaderConditionKind::Present => true,
    };
    let mut values = fields.all(name.as_str()).peekable();
    match doubt {
        Doubt::Takes => values.any(fits),
        Doubt::Leaves => values.peek().is_some() && values.all(fits),
    }
}

/// Returns what most servers make of a path: decoded once, backslashes turned, parameters (`;…`) cut, `.` and `..` resolved
/// (RFC 3986 §5.2.4), slashes that follow each other made one. Borrowed when it is so already.
pub fn canonical(path: &str) -> Cow<'_, str> {
    let plain = |path: &str| !path.contains(['%', '\\', ';']) && !path.contains("//") && !path.contains("/.");
    if plain(path) {
        return Cow::Borrowed(path);
    }
    let decoded = decoded(path);
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let mut folder = false;
    for segment in text.split('/') {
        let segment = segment.split(';').next().unwrap_or_default();
        folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(segment),
        }
    }
    let end = if folder && !segments.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{end}", segments.join("/")))
}

/// Decodes `%XX`; what is none stays as it is.
fn decoded(path: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use crate::logic::authorize::request::canonical;

    #[test]
    fn a_path_is_what_servers_make_of_it() {
        let cases = [
            ("/a/../b", "/b"),
            ("//b", "/b"),
            ("/%62", "/b"),
            ("/a/%2e%2e/b", "/b"),
            ("/a\\..\\b", "/b"),
            ("/b;v=1/c", "/b/c"),
            ("/../../b/./", "/b/"),
            ("/b/.", "/b/"),
            ("/b/%2e", "/b/"),
            ("/b/c/..", "/b/"),
            ("/b/;v=1", "/b/"),
            ("/b/..", "/"),
            ("/%zz", "/%zz"),
            ("/%2F", "/"),
        ];
        for (sent, resolved) in cases {
            assert_eq!(canonical(sent), resolved, "{sent}");
        }
        assert!(matches!(canonical("/plain/path.html"), Cow::Borrowed(_)));
    }
}
