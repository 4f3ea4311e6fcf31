//! Where services are: what each node says of itself, and the catalogue of all nodes, as gossip knows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::service::Protocol;

/// The relative share of calls an instance takes when nothing says otherwise.
pub const DEFAULT_WEIGHT: u32 = 100;

/// One service instance, as its own node announces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The service.
    pub service: ServiceName,
    /// The port the service listens on at its host; tells apart instances of one service on one node.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its share of calls relative to other instances; 0 takes none.
    pub weight: u32,
    /// Whether its local health check passes.
    pub healthy: bool,
}

/// All that one node says of itself. Only that node writes it; `(epoch, version)` orders its writings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The speaker.
    pub node: NodeName,
    /// Start of the speaker's process, in Unix milliseconds.
    pub epoch: u64,
    /// Counts the speaker's changes within the epoch.
    pub version: u64,
    /// What the node is in the mesh.
    pub role: Role,
    /// Where other proxies reach its services by mutual TLS; for control, its API.
    pub addr: SocketAddr,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
    /// Version of the mesh executable.
    pub build: String,
    /// Whether it asks for no new work.
    pub draining: bool,
    /// Its service instances, sorted by service and port.
    pub services: Vec<Announcement>,
}

/// What a node does in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the control plane.
    Control,
    /// Runs the data plane.
    Proxy,
    /// Is a person who administers the mesh: holds a certificate, and runs nothing.
    Operator,
}

impl Role {
    /// Returns its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Proxy => "proxy",
            Self::Operator => "operator",
        }
    }
}

/// What gossip thinks of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer lately: avoided while others do.
    Suspect,
    /// It is gone without saying so: not called.
    Dead,
    /// It said good-bye: not called.
    Left,
}

/// A node in the catalogue: what it says, and whether it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What the node says of itself; `None` until its record arrived.
    pub record: Option<NodeRecord>,
    /// What gossip thinks of it.
    pub state: MemberState,
    /// Where its gossip listens.
    pub gossip: SocketAddr,
    /// When the state last changed, in Unix milliseconds.
    pub since_ms: u64,
    /// Last measured gossip round trip, in microseconds; `None` before the first.
    pub rtt_us: Option<u32>,
    /// Until when control vouches for the node, by the last word of it that was heard, Unix milliseconds: later after each
    /// renewal of its certificates. `None` before its record arrived.
    #[serde(default)]
    pub vouched_ms: Option<u64>,
}

/// How one node reaches another, as it has seen itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// The other.
    pub node: NodeName,
    /// Where its gossip listens.
    pub gossip: SocketAddr,
    /// What gossip thinks of it.
    pub state: MemberState,
    /// Since it last answered a packet, UDP there and back, milliseconds; `None` when it never has.
    pub answered_ms_ago: Option<u64>,
    /// Since a packet of it last arrived, UDP from there to here, milliseconds; `None` when none ever has, or the node is of a
    /// version that does not say.
    #[serde(default)]
    pub heard_ms_ago: Option<u64>,
    /// Why an exchange by TCP failed that was tried just now; `None` when it did not.
    pub exchange_error: Option<String>,
    /// Since it last began an exchange by TCP itself, milliseconds; `None` when it never has.
    pub called_ms_ago: Option<u64>,
}

/// How one node reaches the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// For how long it has been speaking, milliseconds.
    pub speaking_ms: u64,
    /// The members that are there, sorted by name.
    pub contacts: Vec<Contact>,
}

/// Everything gossip knows, as one immutable value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Every node ever heard of and not yet forgotten, this one included.
    pub members: BTreeMap<NodeName, Member>,
}

/// One reachable instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The node it runs on.
    pub node: NodeName,
    /// The node's inbound address: mutual TLS.
    pub addr: SocketAddr,
    /// The service's own port there.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The node's failure domain.
    pub zone: Option<ZoneName>,
    /// Share of calls.
    pub weight: u32,
    /// How willing it is.
    pub standing: Standing,
}

/// How willing an endpoint is, best first. Worse ones are used only when no better one is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Alive and healthy.
    Ready,
    /// Its node is suspected to be gone.
    Suspect,
    /// Its health check fails.
    Unhealthy,
    /// It drains.
    Draining,
}

impl Catalog {
    /// Returns every instance of `service` that may be called, sorted by node and port.
    ///
    /// Instances on dead and departed nodes are left out; suspect, unhealthy and draining ones are there with their
    /// [`Standing`], so that the balancer can fall back on them rather than fail.
    pub fn endpoints(&self, service: &ServiceName) -> Vec<Endpoint> {
        self.instances().filter(|(name, _)| *name == service).map(|(_, endpoint)| endpoint).collect()
    }

    /// Returns every service with its instances: the whole catalogue turned around, in one pass.
    pub fn by_service(&self) -> BTreeMap<ServiceName, Vec<Endpoint>> {
        let mut services: BTreeMap<ServiceName, Vec<Endpoint>> = BTreeMap::new();
        for (name, endpoint) in self.instances() {
            services.entry(name.clone()).or_default().push(endpoint);
        }
        services
    }

    fn instances(&self) -> impl Iterator<Item = (&ServiceName, Endpoint)> {
        let there = |member: &&Member| matches!(member.state, MemberState::Alive | MemberState::Suspect);
        self.members.values().filter(there).flat_map(|member| {
            let said = member
                .record
                .iter()
                .flat_map(|record| record.services.iter().map(move |said| (record, said)));
            said.map(|(record, said)| (&said.service, endpoint(member, record, said)))
        })
    }
}

/// Returns an instance as callers see it.
fn endpoint(member: &Member, record: &NodeRecord, said: &Announcement) -> Endpoint {
    let standing = if record.draining {
        Standing::Draining
    } else if !said.healthy {
        Standing::Unhealthy
    } else if member.state == MemberState::Suspect {
        Standing::Suspect
    } else {
        Standing::Ready
    };
    Endpoint {
        node: record.node.clone(),
        addr: record.addr,
        port: said.port,
        protocol: said.protocol,
        zone: record.zone.clone(),
        weight: said.weight,
        standing,
    }
}
