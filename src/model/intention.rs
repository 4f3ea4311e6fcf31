//! Intention: which identity may call which service (`mesh/v1`).

use serde::{Deserialize, Serialize};

use crate::model::name::ServiceName;

/// What happens to a call that an intention speaks of, or that none speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The call goes through.
    #[default]
    Allow,
    /// The call is refused: 403, `PERMISSION_DENIED` or a closed connection.
    Deny,
}

/// The body of an `Intention`: `sources` may, or may not, call `destination`.
///
/// Deny wins over allow. A service for which any allow intention exists refuses every caller that none of them names;
/// a service without one follows the mesh's default action. A bare name is that of a service in the object's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentionSpec {
    /// The service that is called: `web`, `web.shop`, or `*` for every service of the object's namespace.
    pub destination: String,
    /// The callers it speaks of; at least one.
    pub sources: Vec<SourceMatch>,
    /// What happens to their calls.
    pub action: Action,
}

/// A set of callers: exactly one of its fields is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceMatch {
    /// A service: `web`, `web.shop`, `*` (any service), `*.shop` (any service of a namespace).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A node's own identity: its name, or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
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
