//! The control plane: certificate authority, configuration, API, and the merged view of all traffic.
//!
//! - [`bootstrap`]: what it is started with. [`founding`]: from a data directory to a mesh.
//! - [`store`]: the log of [`crate::logic::state`] on disk. [`authority`]: who signs.
//! - [`collector`], [`fleet`], [`programs`], [`timeline`]: what proxies told, which are here, what they run, what happened.
//! - [`transitions`]: since when conditions hold. [`inquiries`]: what proxies are asked. [`publisher`]: what they are given. [`enrollment`]: who is let in. [`plane`]: all of it, shared.
//! - [`recorder`]: what is kept on disk besides. [`why`]: what the proxies would do with a call.
//! - [`serving`]: its own certificate and place in the gossip. [`http`]: the API.
//!
//! Nothing above the store knows whether it is the only one.

pub mod bootstrap;
pub mod store;
pub mod authority;
pub mod collector;
pub mod fleet;
pub mod programs;
pub mod timeline;
pub mod inquiries;
pub mod transitions;
pub mod publisher;
pub mod plane;
pub mod recorder;
pub mod why;
pub mod enrollment;
pub mod founding;
pub mod http;
pub mod serving;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::bootstrap::{ADDRESSES_FILE, Addresses, Options, SOCKET_FILE, Started};
use crate::control::collector::Collector;
use crate::control::fleet::Fleet;
use crate::control::founding::Founded;
use crate::control::http::serve::{self, Site};
use crate::control::plane::Plane;
use crate::control::publisher::{Publisher, Surroundings};
use crate::control::serving::{Serving, Voice};
use crate::control::transitions::Transitions;
use crate::gossip::agent::DEFAULT_LISTEN;
use crate::net::{clock, disk, interface, task};

/// Connections get so long to end when the control plane stops; their requests get less.
const DRAIN: Duration = Duration::from_secs(6);
/// How often it is looked whether the store still lives.
const STORE_CHECK: Duration = Duration::from_secs(1);

/// Why a control plane did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory, the mesh in it, or its authority.
    #[error(transparent)]
    Founding(#[from] founding::Error),
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
    /// The token of the first start.
    #[error("cannot make the first join token: {0}")]
    Token(#[from] enrollment::Error),
    /// The file with the addresses.
    #[error("cannot write {path}: {source}")]
    Addresses {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk failed under way. What was acknowledged is on it.
    #[error("the store cannot be written any more: see the log; start again once the disk works")]
    StoreFailed,
    /// The gossip thread ended by itself, by a bug.
    #[error(
        "gossip has stopped, so that this control plane would not see the mesh any more: the log says why; start it again"
    )]
    GossipEnded,
}

/// The sockets, bound.
struct Listeners {
    api: TcpListener,
    admin: TcpListener,
    socket: UnixListener,
}

impl Listeners {
    async fn bind(options: &Options) -> Result<Self, Error> {
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
}

/// Runs a control plane until `shutdown` completes; `started` is told once it serves.
///
/// # Errors
/// When it cannot start, with what to do about it; or when its disk fails.
pub async fn run(
    options: Options,
    started: impl FnOnce(&Started),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let founded = founding::begin(&options).await?;
    let listeners = Listeners::bind(&options).await?;
    let running = Running::start(&options, founded, listeners).await?;
    let plane = &running.plane;
    let install = enrollment::first_token(plane).await?;
    let path = options.data_dir.join(ADDRESSES_FILE);
    let body = serde_json::to_vec(&running.addresses).map_err(io::Error::from);
    body.and_then(|body| disk::write_file(&path, &body, 0o644))
        .map_err(|source| Error::Addresses { path: path.clone(), source })?;
    started(&Started {
        addresses: running.addresses,
        trust_domain: plane.trust_domain.clone(),
        node: plane.node.clone(),
        advertised: plane.advertised.clone(),
        install,
    });
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        () = store_failed(plane) => Err(Error::StoreFailed),
        () = running.voice.failed() => Err(Error::GossipEnded),
    };
    for file in [path, options.data_dir.join(SOCKET_FILE)] {
        let _absent = std::fs::remove_file(file);
    }
    running.stop().await;
    outcome
}

async fn store_failed(plane: &Plane) {
    while !plane.store.has_failed() {
        tokio::time::sleep(STORE_CHECK).await;
    }
}

/// A control plane at work.
struct Running {
    plane: Arc<Plane>,
    voice: Arc<Voice>,
    addresses: Addresses,
    closing: watch::Sender<bool>,
    sites: Vec<Site>,
    tasks: Vec<JoinHandle<Option<()>>>,
    /// The task that ends by itself, when it has written what is to be kept.
    last: JoinHandle<Option<()>>,
}

impl Running {
    async fn start(options: &Options, founded: Founded, listeners: Listeners) -> Result<Self, Error> {
        let Founded { store, authority, trust_domain, node } = founded;
        let local = |listener: &TcpListener| {
            let refused =
                |source| Error::Listen { what: "the API", addr: options.listen.to_string(), source };
            listener.local_addr().map_err(refused)
        };
        let (listen, admin) = (local(&listeners.api)?, local(&listeners.admin)?);
        let host = advertised_host(options)?;
        let ip = gossip_ip(options, &host);
        let advertised = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let advertised = format!("{advertised}:{}", listen.port());
        let state = store.state();
        let mut around = Surroundings {
            trust_domain: trust_domain.clone(),
            bundle: authority.bundle(),
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
        let gossip = voice.local_addr();
        around.gossip.set_port(gossip.port());
        let (closing, closed) = watch::channel(false);
        let plane = Arc::new(Plane {
            node,
            trust_domain,
            advertised,
            started_ms: clock::wall_ms(),
            publisher: Publisher::new(around, &state),
            store,
            authority,
            fleet: Arc::new(Fleet::default()),
            programs: Arc::default(),
            collector: Collector::remembering(recorder::load(&options.data_dir)),
            inquiries: Arc::default(),
            transitions: Transitions::load(&options.data_dir),
            catalog: voice.catalog(),
            closing: closed.clone(),
            shown: Mutex::new(None),
        });
        let serving = Serving::begin(&plane, &host).await?;
        let voice = Arc::new(voice);
        let api = Site::mesh(http::router(&plane), closed.clone());
        let socket = Site::local(http::router(&plane), closed.clone());
        let health = Site::local(http::admin::router(&plane), closed);
        let keep_conditions = recorder::keep_conditions(Arc::clone(&plane), options.data_dir.clone());
        let tasks = vec![
            task::spawn("control-api", serve::mesh(listeners.api, api.clone(), serving.acceptor())),
            task::spawn("control-socket", serve::socket(listeners.socket, socket.clone())),
            task::spawn("control-admin", serve::plain(listeners.admin, health)),
            task::spawn("control-publisher", follow(Arc::clone(&plane))),
            task::spawn("control-serving", serving.keep(Arc::clone(&plane), Arc::clone(&voice))),
            task::spawn("control-voice", serving::relay(Arc::clone(&plane), Arc::clone(&voice))),
            task::spawn("control-members", serving::tell_members(Arc::clone(&plane))),
            task::spawn("control-conditions", keep_conditions),
        ];
        let keep_traffic = recorder::keep_traffic(Arc::clone(&plane), options.data_dir.clone());
        let last = task::spawn("control-traffic", keep_traffic);
        let addresses = Addresses { listen, gossip, admin };
        Ok(Self { plane, voice, addresses, closing, sites: vec![api, socket], tasks, last })
    }

    /// Stops taking work, lets what is under way end, says good-bye, and closes the store.
    async fn stop(self) {
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
