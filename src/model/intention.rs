//! Intention: which identity may call which service, and what of it (`mesh/v1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::name::ServiceName;

/// Most callers of one intention.
pub const SOURCES_MAX: usize = 256;
/// Most rules of one intention.
pub const RULES_MAX: usize = 64;
/// Most methods of one rule.
pub const METHODS_MAX: usize = 16;
/// Most paths of one rule.
pub const PATHS_MAX: usize = 64;
/// Most header fields of one rule.
pub const HEADERS_MAX: usize = 16;
/// Most gRPC methods of one rule.
pub const GRPC_MAX: usize = 64;
/// Longest path of a condition, bytes.
pub const PATH_BYTES_MAX: usize = 1_024;

/// What happens to a call that an intention speaks of, or that none speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The call goes through.
    #[default]
    Allow,
    /// The call is refused: 403, `PERMISSION_DENIED` or a closed connection.
    Deny,
}

/// Whether what is decided is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What is not allowed is refused.
    #[default]
    Enforce,
    /// Nothing is refused: what would be is counted and listed.
    Audit,
}

/// The body of an `Intention`: `sources` may, or may not, call `destination`.
///
/// Deny wins over allow. A service for which any allow intention exists refuses every call that none of them names;
/// a service without one follows the mesh's default action (`mesh default`). A bare name is that of a service in the
/// object's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionSpec {
    /// The service that is called: `web`, `web.shop`, or `*` for every service of the object's namespace.
    pub destination: String,
    /// The callers it speaks of.
    #[schemars(length(min = 1, max = SOURCES_MAX))]
    pub sources: Vec<SourceMatch>,
    /// What happens to their calls.
    pub action: Action,
    /// Whether it is done. An intention that is audited changes nothing: what would be refused if it were enforced is
    /// counted and listed.
    #[serde(default = "enforce", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")]
    pub mode: Option<Mode>,
    /// The requests it speaks of, those that any rule takes; without rules, every request and connection.
    ///
    /// Nobody can tell what is said on a connection that is not HTTP: rules that allow some requests do not allow it, rules
    /// that deny some deny it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RULES_MAX))]
    pub rules: Vec<IntentionRule>,
}

#[expect(clippy::unnecessary_wraps, reason = "what serde calls for a field that may be left out")]
fn enforce() -> Option<Mode> {
    Some(Mode::Enforce)
}

/// A set of callers: exactly one of its fields is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceMatch {
    /// A service: `web`, `web.shop`, `*` (any service), `*.shop` (any service of a namespace).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Every service of a namespace: the same as `service: "*.NAMESPACE"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A node's own identity: its name, or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Requests by what they ask for: each list that is given must have one that fits; `headers` must fit all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionRule {
    /// Shown where the rule decides; its place in the list, from 0, when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The methods, such as `GET`; every method when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = METHODS_MAX))]
    pub methods: Vec<String>,
    /// The paths, without the query; every path when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PATHS_MAX))]
    pub paths: Vec<PathCondition>,
    /// Header fields that the request must have, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = HEADERS_MAX))]
    pub headers: Vec<HeaderCondition>,
    /// The gRPC methods; every request when empty. A gRPC method is the path `/SERVICE/METHOD`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = GRPC_MAX))]
    pub grpc: Vec<GrpcCondition>,
}

/// A condition on the path.
///
/// Services differ in what they make of `/a/../b`, `//b` or `/%62`. A path is therefore compared as it was sent and as it is
/// once decoded and resolved: a deny rule takes it when either fits, an allow rule when both do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathCondition {
    /// How `value` is compared.
    #[serde(default, rename = "type")]
    pub kind: PathConditionKind,
    /// The path; begins with `/`.
    #[schemars(length(min = 1, max = PATH_BYTES_MAX))]
    pub value: String,
}

/// How a path is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathConditionKind {
    /// The whole path.
    Exact,
    /// Its first elements: `/abc` fits `/abc` and `/abc/def`, not `/abcd`.
    #[default]
    PathPrefix,
}

/// A condition on a header field. Where a field is repeated, a deny rule takes the request when any of its values fits, an
/// allow rule when all do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderCondition {
    /// The field, in any case.
    pub name: String,
    /// How `value` is compared.
    #[serde(default, rename = "type")]
    pub kind: HeaderConditionKind,
    /// What it must be; left out with the type `Present`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How a header field is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeaderConditionKind {
    /// Byte for byte.
    #[default]
    Exact,
    /// Its first bytes.
    Prefix,
    /// It is there, whatever its value.
    Present,
}

/// A condition on a gRPC method: at least one of its fields is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcCondition {
    /// The service with its package, such as `shop.Cart`; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The method, such as `Checkout`; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// One side of an intention, parsed from its text by `logic::validate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicePattern {
    /// This service.
    One(ServiceName),
    /// Every service of a namespace.
    Namespace(String),
    /// Every service.
    Any,
}
