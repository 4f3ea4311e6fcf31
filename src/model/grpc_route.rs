//! `GRPCRoute` in the schema of the Gateway API (`gateway.networking.k8s.io/v1`), bound to services.
//!
//! What it shares with `HTTPRoute` is of the same types; which filters it can have is checked by `logic::validate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::route::{HeaderMatchKind, HttpBackendRef, HttpHeaderMatch, ParentRef, SessionPersistence};
use crate::model::route_filter::HttpRouteFilter;

/// The body of a `GRPCRoute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteSpec {
    /// The services it routes for, at most 32; none means that it applies to no calls yet.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Ignored in a mesh, as the specification says: the destination decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The rules, at most 16; none means one rule that matches all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<GrpcRouteRule>,
}

/// One rule: what it matches, what it changes, where it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteRule {
    /// Shown in metrics and the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these must match, at most 64; none matches every call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcRouteMatch>,
    /// Applied to every call of the rule, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpRouteFilter>,
    /// Where matching calls go, by weight, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,
    /// Keeps each client with the backend and the endpoint that answered it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteMatch {
    /// On what is called; everything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// On header fields, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpHeaderMatch>,
}

/// A condition on the service and the method of gRPC that are called: at least one of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMethodMatch {
    /// How both are compared; `Exact` by default.
    #[serde(default, rename = "type")]
    pub kind: HeaderMatchKind,
    /// The service with its package, such as `shop.v1.Cart`; every one when absent or empty. At most 1,024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The method; every one when absent or empty. At most 1,024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}
