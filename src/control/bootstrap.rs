//! What a control plane is started with, and what it says once it has started.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::identity::TrustDomain;
use crate::model::intention::Action;
use crate::model::name::NodeName;

/// Where the API listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "0.0.0.0:7443";
/// Where health and metrics listen unless told otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:7440";
/// The file in the data directory that tells where a running control plane listens.
pub const ADDRESSES_FILE: &str = "addresses.json";
/// The socket in the data directory that administrators use.
pub const SOCKET_FILE: &str = "control.sock";

/// Everything a control plane needs to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything that must survive a restart is kept; made with mode 0700 when missing.
    pub data_dir: PathBuf,
    /// Where the API listens (TLS); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where gossip listens (UDP and TCP); port 0 takes a free one, `None` the usual one or the next that is free.
    pub gossip: Option<SocketAddr>,
    /// Where `/healthz`, `/readyz` and `/metrics` answer (plain HTTP); port 0 takes a free one.
    pub admin: SocketAddr,
    /// The host name or IP address under which other hosts reach this one; `None` finds the address of the interface
    /// that leads to the world.
    pub advertise: Option<String>,
    /// The trust domain of a new mesh; `None` draws a random one. On later starts it must equal the one in the store.
    pub trust_domain: Option<TrustDomain>,
    /// What happens to calls in a new mesh that no intention speaks of; `None` allows them. Later starts change nothing.
    pub default_action: Option<Action>,
    /// The name of this node; `None` takes the host's name.
    pub name: Option<NodeName>,
    /// Certificate of a root brought along, PEM; first start only, together with `root_key`.
    pub root_cert: Option<PathBuf>,
    /// Key of a root brought along, PEM; signs the intermediate and is not kept.
    pub root_key: Option<PathBuf>,
    /// A token of an existing control plane to become a second one of; refused: one control plane per mesh for now.
    pub join: Option<String>,
}

/// Where a running control plane listens: the content of `addresses.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The API.
    pub listen: SocketAddr,
    /// Gossip.
    pub gossip: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

/// What a control plane tells whoever started it, once it serves.
#[derive(Clone)]
pub struct Started {
    /// Where it listens.
    pub addresses: Addresses,
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// This node.
    pub node: NodeName,
    /// `host:port` under which other hosts reach the API.
    pub advertised: String,
    /// The line that makes another host a member, with a fresh token, while nobody has joined or has a token; `None`
    /// after that, as `mesh token create --install` makes more. It holds a secret: print it, never log it.
    pub install: Option<String>,
}

impl Started {
    /// Returns whether only this host reaches what is advertised.
    pub fn is_local(&self) -> bool {
        let host = self.advertised.rsplit_once(':').map_or(self.advertised.as_str(), |(host, _)| host);
        let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
    }
}
