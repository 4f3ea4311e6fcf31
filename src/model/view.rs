//! The mesh as consoles and scripts see it: one value, computed once, shown everywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::endpoint::{MemberState, Role, Standing};
use crate::model::identity::{BACKDATE_MS, Subject};
use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::resource::Revision;
use crate::model::service::Protocol;

/// `GET /v1/view` (`?watch=true`: one a second, a line each): the mesh as consoles and scripts see it.
///
/// Rates are per second over the last `window_seconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshView {
    /// The trust domain.
    pub mesh: String,
    /// Who computed it: `control/NODE` or `node/NODE` (one proxy's own view).
    pub observer: Subject,
    /// When, Unix milliseconds, by the observer's clock.
    pub at_ms: u64,
    /// Length of the window of rates and percentiles, seconds.
    pub window_seconds: u32,
    /// The newest revision.
    pub revision: Revision,
    /// Sorted by name.
    pub services: Vec<ServiceView>,
    /// Sorted by source, destination, protocol.
    pub edges: Vec<EdgeView>,
    /// Sorted by name.
    pub nodes: Vec<NodeView>,
    /// Sorted by subject and node.
    pub identities: Vec<IdentityView>,
    /// The newest last; at most [`EVENTS_MAX`].
    pub events: Vec<EventView>,
}

/// Most events in a view.
pub const EVENTS_MAX: usize = 200;

/// Traffic in one window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficView {
    /// Requests (HTTP, gRPC) or ended connections (TCP) per second.
    pub requests_per_second: f64,
    /// Share that did not fail, `0..=1`; 1 when nothing ended.
    pub success_rate: f64,
    /// Failures per second.
    pub failures_per_second: f64,
    /// Refused by intentions, per second.
    pub denied_per_second: f64,
    /// Attempts beyond the first, per second.
    pub retries_per_second: f64,
    /// Of the window.
    pub latency_ms: LatencyView,
    /// Body bytes per second, both ways.
    pub bytes_per_second: f64,
    /// Connections and streams open.
    pub connections_open: i64,
    /// Since the observer started.
    pub requests_total: u64,
    /// Since the observer started.
    pub failures_total: u64,
    /// As long as the observer remembers: a control plane also after a restart.
    pub denied_total: u64,
    /// Those by the rule that refused them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denials: BTreeMap<String, u64>,
    /// Calls that went through and would have been refused, were it enforced, by the rule; as `denied_total`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audited: BTreeMap<String, u64>,
    /// Responses in the window by class: `2xx`, `3xx`, `4xx`, `5xx`, `none`.
    pub classes: BTreeMap<String, u64>,
    /// Failure tokens in the window.
    pub reasons: BTreeMap<String, u64>,
    /// Latency counts of the last tick by power of two: `[i]` counts `2^(i-3) ms` and below, up to `2^14 ms`; 18 entries.
    pub heat: Vec<u64>,
}

impl TrafficView {
    /// Returns the share that did not fail of the calls that no intention refused, `0..=1`; `None` when none got through.
    pub fn success(&self) -> Option<f64> {
        if self.denied_per_second <= 0.0 {
            return (self.requests_per_second > 0.0).then_some(self.success_rate);
        }
        let allowed = self.requests_per_second - self.denied_per_second;
        (allowed > 0.0).then(|| (1.0 - self.failures_per_second / allowed).clamp(0.0, 1.0))
    }
}

/// Percentiles; `None` with fewer than one sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "percentiles in milliseconds")]
pub struct LatencyView {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    /// Values counted in the window.
    pub samples: u64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// What it is declared to speak.
    pub protocol: Protocol,
    /// As its own side sees it; where no inbound proxy reports, as its callers do.
    #[serde(flatten)]
    pub traffic: TrafficView,
    /// Its instances.
    pub instances: Vec<InstanceView>,
    /// Its routes with what went through each.
    pub routes: Vec<RouteView>,
}

/// Traffic through one route rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// `route/rule`; empty for requests that no route took.
    pub route: String,
    /// As the callers see it.
    #[serde(flatten)]
    pub traffic: TrafficView,
}

/// An instance of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// Where it runs.
    pub node: NodeName,
    /// Its node's inbound address.
    pub addr: SocketAddr,
    /// Its own port.
    pub port: u16,
    /// The node's failure domain.
    pub zone: Option<ZoneName>,
    /// How willing it is.
    pub standing: Standing,
    /// Proxies that avoid it for failing.
    pub ejected_by: Vec<NodeName>,
    /// As this instance's side sees it.
    #[serde(flatten)]
    pub traffic: TrafficView,
}

/// Who calls whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeView {
    /// The caller.
    pub source: Subject,
    /// The called service.
    pub destination: ServiceName,
    /// What is spoken.
    pub protocol: EdgeProtocol,
    /// As the caller's side sees it; the called side's where only that reports.
    #[serde(flatten)]
    pub traffic: TrafficView,
    /// As the called side sees it, when it reports.
    pub server: Option<TrafficView>,
    /// Whether it is mutual TLS with checked identities at both ends.
    pub mtls: bool,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// Its inbound or API address; `None` until it said so.
    pub addr: Option<SocketAddr>,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
    /// What gossip thinks of it.
    pub state: MemberState,
    /// Whether it was removed from the mesh, whatever gossip thinks of it; only control knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
    /// Gossip round trip from the observer, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Whether it drains.
    pub draining: bool,
    /// Version of its executable.
    pub build: String,
    /// The revision in force there; `None` for control and for proxies that never reported.
    pub revision: Option<Revision>,
    /// Why it refused a newer one.
    pub refused: Option<String>,
    /// Which it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_revision: Option<Revision>,
    /// When its last report came, Unix milliseconds.
    pub reported_ms: Option<u64>,
    /// By how much its clock was ahead of the observer's at its last report, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_ms: Option<i64>,
    /// Resident memory, bytes.
    pub memory_bytes: Option<u64>,
    /// CPU use over the window, `1.0` = one core.
    pub cpu: Option<f64>,
    /// Open descriptors.
    pub descriptors: Option<u32>,
    /// Number of service instances.
    pub instances: usize,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityView {
    /// The node that holds it.
    pub node: NodeName,
    /// The certificate.
    #[serde(flatten)]
    pub status: IdentityStatus,
    /// Its whole identity.
    pub spiffe_id: String,
}

/// How much an event deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named for what they say")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// How much it deserves a look.
    pub severity: Severity,
    /// `member`, `apply`, `token`, `join`, `certificate`, `proxy`, `deny`, `outlier` or `control`.
    pub kind: String,
    /// What it is about: a node, an object, an edge.
    pub subject: String,
    /// What happened, as a sentence without a full stop.
    pub message: String,
}

/// Which side of a call counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The caller's proxy.
    Outbound,
    /// The called service's proxy.
    Inbound,
}

/// What was spoken on an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named for what they say")]
pub enum EdgeProtocol {
    Http,
    Grpc,
    Tcp,
}

/// A certificate that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityStatus {
    /// Whose.
    pub subject: Subject,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Beginning of validity, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of validity, Unix milliseconds.
    pub not_after_ms: u64,
    /// When it will be renewed, Unix milliseconds.
    pub renew_ms: u64,
    /// Renewals so far by this process.
    pub renewals: u32,
    /// Why the last attempt to renew failed; `None` when it did not.
    pub last_error: Option<String>,
}

impl IdentityStatus {
    /// Returns when it was issued, Unix milliseconds.
    pub fn issued_ms(&self) -> u64 {
        self.not_before_ms.saturating_add(BACKDATE_MS)
    }
}
