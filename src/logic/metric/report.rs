//! What proxies count and how they tell: edges, their counts, and the report that carries them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::logic::metric::histogram::Histogram;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::Revision;
use crate::model::view::{EdgeProtocol, IdentityStatus, Side};

/// `POST /v1/reports`: what one proxy counted since its last accepted report.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Start of the sender's process, Unix milliseconds: with `sequence`, tells a repeat from news.
    pub epoch: u64,
    /// Counts the sender's reports.
    pub sequence: u64,
    /// The time it covers, milliseconds; longer when earlier ones were lost.
    pub covers_ms: u64,
    /// Traffic by edge: deltas.
    pub edges: Vec<EdgeDelta>,
    /// The sender itself: absolute values.
    pub proxy: ProxyStatus,
}

/// What a stream of calls has in common. Its values come from configuration and certificates, never from requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeKey {
    /// Who counted.
    pub side: Side,
    /// The caller.
    pub source: Subject,
    /// The called service.
    pub destination: ServiceName,
    /// `http`, `grpc` or `tcp`: what was seen, not what was configured.
    pub protocol: EdgeProtocol,
    /// `route/rule` that matched; empty without one.
    pub route: String,
    /// The node called (outbound, once an endpoint was chosen) or calling it (inbound: this node).
    pub node: Option<NodeName>,
}

/// An [`EdgeKey`] that borrows: what a request looks its counts up with, without copying a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields of EdgeKey")]
pub struct EdgeRef<'a> {
    pub side: Side,
    pub source: &'a Subject,
    pub destination: &'a ServiceName,
    pub protocol: EdgeProtocol,
    pub route: &'a str,
    pub node: Option<&'a NodeName>,
}

impl EdgeRef<'_> {
    /// Copies it.
    pub fn to_key(self) -> EdgeKey {
        EdgeKey {
            side: self.side,
            source: self.source.clone(),
            destination: self.destination.clone(),
            protocol: self.protocol,
            route: self.route.to_owned(),
            node: self.node.cloned(),
        }
    }
}

/// Source and destination, as name and namespace, of all series that found no room.
const OVERFLOW: (&str, &str) = ("other", "overflow");

impl EdgeKey {
    /// Returns it borrowed.
    pub fn as_ref(&self) -> EdgeRef<'_> {
        EdgeRef {
            side: self.side,
            source: &self.source,
            destination: &self.destination,
            protocol: self.protocol,
            route: &self.route,
            node: self.node.as_ref(),
        }
    }

    /// Returns the key to count this edge under when there is no room for a series of its own: one for each side and
    /// protocol, from and to the service `other.overflow`.
    #[must_use]
    pub fn overflow(&self) -> Self {
        let other = ServiceName::new(OVERFLOW.0, OVERFLOW.1).expect("both are labels");
        Self {
            side: self.side,
            source: Subject::Service(other.clone()),
            destination: other,
            protocol: self.protocol,
            route: String::new(),
            node: None,
        }
    }
}

/// Counts for one edge. For `tcp`, a connection counts as one request when it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCounts {
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the ones that failed: 5xx, a gRPC status that is the server's fault, a reset, or a failure of ours.
    pub failures: u64,
    /// By HTTP status; 0 where none was received.
    pub statuses: BTreeMap<u16, u64>,
    /// By gRPC status.
    pub grpc_statuses: BTreeMap<u16, u64>,
    /// By failure token, where a proxy made the answer (`UH`, `UF`, `NR`, …).
    pub reasons: BTreeMap<String, u64>,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Calls that intentions refused.
    pub denied: u64,
    /// Those by the rule that refused them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denials: BTreeMap<String, u64>,
    /// Calls that went through and would have been refused, were it enforced, by the rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audited: BTreeMap<String, u64>,
    /// Body bytes from the caller.
    pub bytes_sent: u64,
    /// Body bytes to the caller.
    pub bytes_received: u64,
    /// Connections or streams opened.
    pub opened: u64,
    /// Connections or streams closed.
    pub closed: u64,
    /// Time to the end of the response head (HTTP), of the whole connection (TCP), in microseconds.
    pub latency: Histogram,
}

/// An edge and what was counted on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeDelta {
    /// Which.
    pub key: EdgeKey,
    /// What.
    pub counts: EdgeCounts,
}

/// One proxy, as it sees itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// Version of its executable.
    pub build: String,
    /// Start of its process, Unix milliseconds.
    pub started_ms: u64,
    /// Its clock, Unix milliseconds; 0 from versions that do not say.
    #[serde(default)]
    pub now_ms: u64,
    /// The revision in force.
    pub revision: Revision,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU time used so far, milliseconds.
    pub cpu_ms: u64,
    /// Open file descriptors.
    pub descriptors: u32,
    /// The certificates it holds.
    pub identities: Vec<IdentityStatus>,
    /// The endpoints it has put aside for failing, `service@node`, with the reason.
    pub ejected: Vec<EjectedEndpoint>,
}

/// An endpoint that a proxy avoids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EjectedEndpoint {
    /// The service.
    pub service: ServiceName,
    /// The node.
    pub node: NodeName,
    /// Why.
    pub reason: String,
}
