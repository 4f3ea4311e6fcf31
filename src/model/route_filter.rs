//! What routes do to requests and responses besides sending them somewhere: the filters of `HTTPRoute` and `GRPCRoute`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::traffic_policy::Fraction;

/// Something done to a request or its response: `type` says what, the field of that name how.
///
/// A struct as in the upstream schema, rather than an enum, so that a parser can say where in a file it went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteFilter {
    /// What it does.
    #[serde(rename = "type")]
    pub kind: FilterKind,
    /// Given with the type `RequestHeaderModifier`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Given with the type `ResponseHeaderModifier`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// Given with the type `RequestMirror`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// Given with the type `RequestRedirect`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Given with the type `URLRewrite`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Given with the type `CORS`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsFilter>,
}

impl HttpRouteFilter {
    /// Makes a filter of a type, without what belongs to it.
    pub fn new(kind: FilterKind) -> Self {
        Self {
            kind,
            request_header_modifier: None,
            response_header_modifier: None,
            request_mirror: None,
            request_redirect: None,
            url_rewrite: None,
            cors: None,
        }
    }
}

/// What a filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FilterKind {
    /// Changes the request's header fields.
    RequestHeaderModifier,
    /// Changes the response's header fields.
    ResponseHeaderModifier,
    /// Sends a copy of the request to another service, whose answer nobody waits for.
    RequestMirror,
    /// Answers the request with a redirection.
    RequestRedirect,
    /// Changes the request's host and path.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Says to browsers which other origins may call (Cross-Origin Resource Sharing).
    #[serde(rename = "CORS")]
    Cors,
}

impl FilterKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::RequestHeaderModifier,
        Self::ResponseHeaderModifier,
        Self::RequestMirror,
        Self::RequestRedirect,
        Self::UrlRewrite,
        Self::Cors,
    ];
    /// Those that routes for gRPC can have.
    pub const GRPC: [Self; 3] =
        [Self::RequestHeaderModifier, Self::ResponseHeaderModifier, Self::RequestMirror];

    /// Returns its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "RequestHeaderModifier",
            Self::ResponseHeaderModifier => "ResponseHeaderModifier",
            Self::RequestMirror => "RequestMirror",
            Self::RequestRedirect => "RequestRedirect",
            Self::UrlRewrite => "URLRewrite",
            Self::Cors => "CORS",
        }
    }

    /// Returns the field of a filter that says how it is done.
    pub fn field(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "requestHeaderModifier",
            Self::ResponseHeaderModifier => "responseHeaderModifier",
            Self::RequestMirror => "requestMirror",
            Self::RequestRedirect => "requestRedirect",
            Self::UrlRewrite => "urlRewrite",
            Self::Cors => "cors",
        }
    }
}

/// Changes to header fields: `set` replaces, `add` appends, `remove` removes; at most 16 each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderModifier {
    /// Fields to put in place of any of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderField>,
    /// Fields to append.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderField>,
    /// Names of fields to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderField {
    /// Its name, in any case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The service that gets a copy of requests; exactly one of its endpoints does. At most one of `percent` and `fraction`
/// says of how many; of all without either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMirror {
    /// The service.
    pub backend_ref: BackendObjectReference,
    /// Of requests, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
}

/// A service to send to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendObjectReference {
    /// API group: `""` (core) for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The service.
    pub name: String,
    /// Namespace of the service; the route's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which of its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// An answer that sends the caller elsewhere; what is not said is as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestRedirect {
    /// The scheme of the `Location`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<RedirectScheme>,
    /// Its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// Its port, 1 to 65535; that of `scheme` when only that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308; 302 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// The schemes that a redirection can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the schemes of RFC 9110 §4.2")]
pub enum RedirectScheme {
    Http,
    Https,
}

/// Another host or path for a request on its way; which service gets it does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UrlRewrite {
    /// The value of `Host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The path; the query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// Another path: `type` says how much of it is replaced, the field of that name by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathModifier {
    /// How much of it.
    #[serde(rename = "type")]
    pub kind: PathModifierKind,
    /// Given with the type `ReplaceFullPath`, and only then; at most 1,024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,
    /// Given with the type `ReplacePrefixMatch`, and only then; at most 1,024 bytes. The rule has one match, a `PathPrefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

/// How much of a path is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierKind {
    /// All of it.
    ReplaceFullPath,
    /// The prefix that the rule's match names, element-wise.
    ReplacePrefixMatch,
}

/// Which other origins may call, and how. Preflight requests are answered by the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorsFilter {
    /// `scheme://host[:port]`, `*` as or at the beginning of the host for any; or `*` alone for all. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// Whether cookies and authorization may come along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Methods besides GET, HEAD and POST; or `*` alone for all. At most 9.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Request header fields; or `*` alone for all. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Response header fields that scripts may read; `*` for all. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// For how long a browser keeps the answer to a preflight request, seconds, 1 or more; 5 by default.
    #[serde(default = "five")]
    pub max_age: i32,
}

fn five() -> i32 {
    5
}
