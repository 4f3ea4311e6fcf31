//! How a route fares: the `status` of the Gateway API's routes, as the control plane says it.

use serde::{Deserialize, Serialize};

use crate::model::route::ParentRef;

/// Who says so: the `controllerName` of every status.
pub const CONTROLLER: &str = "mesh/control";

/// How a route fares with each of its parents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// One for each of `parentRefs`, in their order.
    pub parents: Vec<ParentStatus>,
}

/// How a route fares with one parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The parent, as the route names it.
    pub parent_ref: ParentRef,
    /// [`CONTROLLER`].
    pub controller_name: String,
    /// What holds.
    pub conditions: Vec<Condition>,
}

/// Something that holds of a route, or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// The `metadata.generation` that this is about.
    pub observed_generation: u64,
    /// Since when `status` is what it is: RFC 3339, UTC; `None` where nobody has kept watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

/// What can hold of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// It is attached to the parent.
    Accepted,
    /// All services that it sends to are there.
    ResolvedRefs,
    /// Some of its rules cannot be obeyed; said only while it is so.
    PartiallyInvalid,
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of Kubernetes")]
pub enum ConditionStatus {
    True,
    False,
}

/// Why something holds, or does not: the Gateway API's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It is attached.
    Accepted,
    /// No such service, or no such port of it.
    NoMatchingParent,
    /// A route of a more specific kind takes its place (GEP-1426).
    Conflicted,
    /// Something in it cannot be obeyed.
    UnsupportedValue,
    /// All are there.
    ResolvedRefs,
    /// A service that it names is not there.
    BackendNotFound,
}
