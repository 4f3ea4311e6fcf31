//! Why a call ends where it does: the question, and the decision of every stage.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::endpoint::Standing;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::resource::Revision;

/// `POST /v1/why`: a call that somebody makes, or would.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhyRequest {
    /// Who calls: `web.default` or `node/NAME`.
    pub source: Subject,
    /// From which node; without it, the first one where the caller runs.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Which service.
    pub destination: ServiceName,
    /// Which of its ports, where it has several.
    #[serde(default)]
    pub port: Option<u16>,
    /// What it asks for; `None` for a connection that is no HTTP.
    #[serde(default)]
    pub request: Option<WhyHead>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhyHead {
    /// The method.
    pub method: String,
    /// The path, and the query.
    pub path: String,
    /// Name and value of header fields, in their order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// The answer to `POST /v1/why`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The revision that decides.
    pub revision: Revision,
    /// Who calls.
    pub source: Subject,
    /// The node whose proxy decides; `None` when the caller runs nowhere.
    pub node: Option<NodeName>,
    /// Which service was asked for.
    pub destination: ServiceName,
    /// What was asked for; `None` for a connection.
    pub request: Option<WhyHead>,
    /// What the routes say; `None` when the service has none, or is asked for a connection.
    pub route: Option<WhyRoute>,
    /// Where the call may go.
    pub backends: Vec<WhyBackend>,
    /// How it ends, in a sentence.
    pub outcome: String,
    /// Whether every backend with a share takes it.
    pub passes: bool,
}

/// What the routes say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyRoute {
    /// `route/rule` of the rule that takes the request; `None` when none does.
    pub rule: Option<String>,
    /// The object that has the rule, as in the API's paths.
    pub object: Option<String>,
    /// The rule as it is written.
    pub written: Option<Value>,
}

/// One of the services that a call may go to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyBackend {
    /// The service.
    pub service: ServiceName,
    /// Its share of the calls, `0..=1`.
    pub share: f64,
    /// How a filter answers in its place, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// What reaches it, after all filters; `None` for a connection.
    pub request: Option<WhyHead>,
    /// Whether the mesh knows it.
    pub known: bool,
    /// Its instances, as balancing sees them.
    pub endpoints: Vec<WhyEndpoint>,
    /// What is in force of balancing, limits and retries.
    pub traffic: WhyTraffic,
    /// Who may call it.
    pub intention: WhyIntention,
}

/// One instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyEndpoint {
    /// Its node.
    pub node: NodeName,
    /// Where other proxies reach it.
    pub addr: std::net::SocketAddr,
    /// The port of the service there.
    pub port: u16,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
    /// Whether it is in the caller's failure domain.
    pub near: bool,
    /// How willing it is.
    pub standing: Standing,
    /// Its weight.
    pub weight: u32,
    /// Why the caller's proxy avoids it, by its own last report.
    pub avoided: Option<String>,
}

/// What is in force of balancing, limits and retries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyTraffic {
    /// The policy that says so, as in the API's paths; `None` where the defaults do.
    pub object: Option<String>,
    /// How an endpoint is picked.
    pub balancing: String,
    /// The limit of the whole request, milliseconds; `None` for no limit.
    pub request_timeout_ms: Option<u64>,
    /// The limit of one attempt, milliseconds; `None` for no limit.
    pub attempt_timeout_ms: Option<u64>,
    /// How often it is tried again at most.
    pub retries: u32,
}

/// Who may call a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyIntention {
    /// Whether this call is let through.
    pub allowed: bool,
    /// What decides: `intention namespace/name/rule`, `allow list of …` or `default …`.
    pub by: String,
    /// What would refuse it, were it enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
}
