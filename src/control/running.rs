//! A control plane at work: its listeners and its tasks, from start to stop.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::control::bootstrap::{Addresses, Options, SOCKET_FILE};
use crate::control::collector::Collector;
use crate::control::fleet::Fleet;
use crate::control::founding::Founded;
use crate::control::http::serve::{self, Site};
use crate::control::plane::Plane;
use crate::control::publisher::{Publisher, Surroundings};
use crate::control::serving::{Serving, Voice};
use crate::control::transitions::Transitions;
use crate::control::{http, publisher, recorder, serving};
use crate::gossip::agent::DEFAULT_LISTEN;
use crate::net::{clock, interface, task};

/// Connections get so long to end when the control plane stops; their requests get less.
const DRAIN: Duration = Duration::from_secs(6);

/// Why a control plane did not begin its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is taken, or not ours.
    #[error("cannot listen on {addr} ({what}): {source}; choose another address, or port 0 for a free one")]
    Listen {
        /// For what.
        what: &'static str,
        /// The address.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not the name of a host.
    #[error("'{0}' cannot be advertised: expected a host name or an IP address, without a port")]
    Advertise(String),
    /// Gossip, or the certificate to serve with.
    #[error(transparent)]
    Serving(#[from] serving::Error),
}

/// The sockets, bound.
pub struct Listeners {
    api: TcpListener,
    admin: TcpListener,
    socket: UnixListener,
}

impl Listeners {
    /// Binds them.
    pub async fn bind(options: &Options) -> Result<Self, Error> {
        let tcp = async |what, addr: SocketAddr| {
            let refused = |source| Error::Listen { what, addr: addr.to_string(), source };
            TcpListener::bind(addr).await.map_err(refused)
        };
        let path = options.data_dir.join(SOCKET_FILE);
        let socket = serve::bind_socket(&path).map_err(|source| {
            let addr = path.display().to_string();
            Error::Listen { what: "the administrators' socket", addr, source }
        })?;
        Ok(Self {
            api: tcp("the API", options.listen).await?,
            admin: tcp("health and metrics", options.admin).await?,
            socket,
        })
    }

    /// Returns where the API listens, and what tells of health.
    fn addresses(&self, options: &Options) -> Result<(SocketAddr, SocketAddr), Error> {
        let local = |listener: &TcpListener| {
            let refused =
                |source| Error::Listen { what: "the API", addr: options.listen.to_string(), source };
            listener.local_addr().map_err(refused)
        };
        Ok((local(&self.api)?, local(&self.admin)?))
    }
}

/// A control plane at work.
pub struct Running {
    /// Its parts.
    pub plane: Arc<Plane>,
    /// Its gossip.
    pub voice: Arc<Voice>,
    /// Where it listens.
    pub addresses: Addresses,
    closing: watch::Sender<bool>,
    sites: Vec<Site>,
    tasks: Vec<JoinHandle<Option<()>>>,
    /// The task that ends by itself, when it has written what is to be kept.
    last: JoinHandle<Option<()>>,
}

impl Running {
    /// Starts all of it.
    pub async fn start(options: &Options, founded: Founded, listeners: Listeners) -> Result<Self, Error> {
        let Founded { store, authority, trust_domain, node } = founded;
        let (listen, admin) = listeners.addresses(options)?;
        let host = advertised_host(options)?;
        let ip = gossip_ip(options, &host);
        let advertised = reachable(&host, listen.port());
        warn_of_family(&host, &advertised, listen);
        let state = store.state();
        let mut around = Surroundings {
            trust_domain: trust_domain.clone(),
            authority: Arc::clone(&authority),
            advertised: advertised.clone(),
            gossip: SocketAddr::new(ip, 0),
        };
        let keys = publisher::snapshot(&state, &around).gossip;
        let voice = Voice::start(&serving::Place {
            node: &node,
            trust_domain: &trust_domain,
            authority: &authority,
            store: &store,
            gossip: options.gossip,
            api: SocketAddr::new(ip, listen.port()),
            keys,
        })?;
        around.gossip.set_port(voice.local_addr().port());
        let (closing, closed) = watch::channel(false);
        let plane = Arc::new(Plane {
            node,
            data_dir: options.data_dir.clone(),
            trust_domain,
            advertised,
            started_ms: clock::wall_ms(),
            publisher: Publisher::new(around, &state),
            store,
            authority,
            fleet: Arc::new(Fleet::default()),
            programs: Arc::default(),
            collector: Collector::remembering(recorder::hours(&options.data_dir)),
            inquiries: Arc::default(),
            transitions: Arc::new(Transitions::load(&options.data_dir)),
            catalog: voice.catalog(),
            gossip: Some(voice.agent()),
            reached: tokio::sync::Mutex::default(),
            closing: closed.clone(),
            restoring: Notify::new(),
            shown: Mutex::new(None),
        });
        plane.collector.recall(recorder::memory(&plane.store));
        let serving = Serving::begin(&plane, &host).await?;
        let voice = Arc::new(voice);
        let api = Site::mesh(http::router(&plane), closed.clone());
        let socket = Site::local(http::router(&plane), closed.clone());
        let health = Site::local(http::admin::router(&plane), closed);
        let tasks = vec![
            task::spawn("control-api", serve::mesh(listeners.api, api.clone(), serving.acceptor())),
            task::spawn("control-socket", serve::socket(listeners.socket, socket.clone())),
            task::spawn("control-admin", serve::plain(listeners.admin, health)),
            task::spawn("control-publisher", follow(Arc::clone(&plane))),
            task::spawn("control-serving", serving.keep(Arc::clone(&plane), Arc::clone(&voice))),
            task::spawn("control-voice", serving::relay(Arc::clone(&plane), Arc::clone(&voice))),
            task::spawn("control-members", serving::tell_members(Arc::clone(&plane))),
            task::spawn("control-conditions", recorder::keep_conditions(Arc::clone(&plane))),
            task::spawn("control-memory", recorder::keep_memory(Arc::clone(&plane))),
        ];
        let last = task::spawn("control-traffic", recorder::keep_traffic(Arc::clone(&plane)));
        let addresses = Addresses { listen, gossip: voice.local_addr(), admin };
        Ok(Self { plane, voice, addresses, closing, sites: vec![api, socket], tasks, last })
    }

    /// Stops taking work, lets what is under way end, says good-bye, and closes the store.
    pub async fn stop(self) {
        self.closing.send_replace(true);
        self.voice.leave(&self.plane.store).await;
        let drained = async {
            for site in &self.sites {
                site.drained().await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("connections were cut");
        }
        // What it writes is a convenience: the end does not wait for a slow disk.
        _ = tokio::time::timeout(DRAIN, self.last).await;
        recorder::write_memory(&self.plane, &mut None).await;
        self.plane.store.close().await;
        // Whoever starts next in this directory finds it unlocked only once nobody holds the store.
        for task in self.tasks {
            task.abort();
            let _ended = task.await;
        }
    }
}

async fn follow(plane: Arc<Plane>) {
    plane.publisher.run(plane.store.watch()).await;
}

/// Returns a host and a port as URLs have them.
fn reachable(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Warns where others are told an address of IPv6, and nobody listens there.
fn warn_of_family(host: &str, advertised: &str, listen: SocketAddr) {
    if host.parse::<Ipv6Addr>().is_ok() && listen.is_ipv4() {
        tracing::warn!(
            %listen,
            "other hosts cannot reach {advertised}: the control plane listens on IPv4 alone; start it with --listen '[::]:7443' \
             --gossip '[::]:7946', which take IPv4 too, and every proxy with --inbound '[::]:15008' --gossip '[::]:7946'"
        );
    }
}

/// Returns the address that others reach the gossip at: the advertised one, if that is an address.
fn gossip_ip(options: &Options, host: &str) -> IpAddr {
    host.parse().unwrap_or_else(|_| interface::outward(options.gossip.unwrap_or(DEFAULT_LISTEN).ip()))
}

fn advertised_host(options: &Options) -> Result<String, Error> {
    let Some(host) = &options.advertise else {
        return Ok(interface::outward(options.listen.ip()).to_string());
    };
    let named = host.split('.').all(crate::model::name::is_label);
    if host.parse::<IpAddr>().is_ok() || named {
        Ok(host.clone())
    } else {
        Err(Error::Advertise(host.clone()))
    }
}
