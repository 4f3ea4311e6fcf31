//! `TCPRoute` in the schema of the Gateway API (`gateway.networking.k8s.io/v1alpha2`), bound to services.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::route::{HttpBackendRef, ParentRef};

/// The body of a `TCPRoute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRouteSpec {
    /// The services it routes for, at most 32; none means that it applies to no calls yet.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// The rules, 1 to 16; the first takes every connection.
    pub rules: Vec<TcpRouteRule>,
}

/// Where connections go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRouteRule {
    /// Shown in metrics and the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The services that take them, by weight, 1 to 16; without filters.
    pub backend_refs: Vec<HttpBackendRef>,
}
