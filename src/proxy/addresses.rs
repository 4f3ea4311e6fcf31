//! Where a proxy listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::model::name::ServiceName;
use crate::proxy::names::Names;
use crate::proxy::worker;

/// Where a running proxy listens: the content of `addresses.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// Where applications send requests.
    pub outbound: SocketAddr,
    /// Where other proxies reach local services.
    pub inbound: SocketAddr,
    /// Gossip.
    pub gossip: SocketAddr,
    /// Health, metrics and the admin API.
    pub admin: SocketAddr,
    /// DNS; `null` while it is off.
    pub dns: Option<SocketAddr>,
    /// Where connections to virtual addresses are captured; `null` when they are not.
    pub capture: Option<SocketAddr>,
    /// Local ports that lead to one service each.
    pub upstreams: BTreeMap<ServiceName, SocketAddr>,
}

/// Gathers where this process listens.
pub(crate) fn gather(
    workers: &worker::Addresses,
    gossip: SocketAddr,
    admin: SocketAddr,
    names: &Names,
) -> Addresses {
    Addresses {
        outbound: workers.outbound,
        inbound: workers.inbound,
        gossip,
        admin,
        dns: names.addrs.first().copied(),
        capture: workers.capture.first().copied(),
        upstreams: workers.upstreams.clone(),
    }
}
