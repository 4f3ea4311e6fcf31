//! What a proxy is told at its start. `cli` fills it from flags, environment and file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::logic::intercept::{Exception, Mode};
use crate::model::name::{NodeName, ZoneName};
use crate::model::service::{LocalService, UpstreamPort};
use crate::model::token::Token;
use crate::net::dns::resolvers::Upstreams;
use crate::proxy::successor::Successor;

/// Everything a proxy can be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its state lives; created with mode 0700.
    pub data_dir: PathBuf,
    /// How to join; needed on the first start, and after the node was removed.
    pub join: Option<Token>,
    /// What this host is called in the mesh.
    pub node: NodeName,
    /// Whether it must be called so; else it goes on under the name that the data directory knows.
    pub insists: bool,
    /// Local ports that lead to services elsewhere.
    pub upstreams: Vec<UpstreamPort>,
    /// Where applications send requests for the mesh.
    pub outbound: SocketAddr,
    /// Where other proxies reach this host: mutual TLS only.
    pub inbound: SocketAddr,
    /// Where gossip listens, UDP and TCP; `None` takes the usual port or the next that is free.
    pub gossip: Option<SocketAddr>,
    /// Where the admin API listens; has no authentication, so loopback unless you know better.
    pub admin: SocketAddr,
    /// The address that other hosts reach this one at; found from the route to the control plane when absent.
    pub advertise: Option<IpAddr>,
    /// Data-plane threads; at least 1.
    pub workers: usize,
    /// Whether TLS sessions are resumed; `false` makes every meshed TCP connection cost a full handshake.
    pub tls_reuse: bool,
    /// Where access records go.
    pub access_log: AccessLogTarget,
    /// How it names services to this host.
    pub names: NamesOptions,
    /// How it intercepts this host's connections.
    pub intercept: InterceptOptions,
    /// How another process is started that takes over from this one.
    pub successor: Successor,
    /// Whether it takes over from the proxy that runs on the same data directory, if there is one.
    pub take_over: bool,
    /// How long another process may take to be ready that takes over from this one.
    pub ready_max: Duration,
    /// What may change while it runs.
    pub settings: watch::Receiver<Settings>,
}

/// How a proxy names services to its host.
#[derive(Debug, Clone)]
pub struct NamesOptions {
    /// Where its name server listens; `None` for no name server.
    pub listen: Option<SocketAddr>,
    /// Whether it must be that port; else another will do when it is taken.
    pub insists: bool,
    /// Whether it listens on the same port of `::1` too, if there is one.
    pub both: bool,
    /// Whom it asks about other names.
    pub upstreams: Upstreams,
}

/// How a proxy intercepts connections of its host.
#[derive(Debug, Clone)]
pub struct InterceptOptions {
    /// Which.
    pub mode: Mode,
    /// Where those to virtual addresses go: a loopback address.
    pub capture: SocketAddr,
    /// Who reaches the host's services past the mesh all the same.
    pub exceptions: Vec<Exception>,
}

/// What a proxy can be told anew while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The services that run here.
    pub services: Vec<LocalService>,
    /// The failure domain.
    pub zone: Option<ZoneName>,
    /// How long running requests may take to end after SIGTERM.
    pub drain: Duration,
}

/// Where access records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// Standard error.
    Stderr,
    /// This file, appended to.
    File(PathBuf),
}
