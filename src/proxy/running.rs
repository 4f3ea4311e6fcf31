//! A proxy from its options to its last connection: builds every part, connects them, and takes them apart in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::api::client::{self, Client};
use crate::gossip::agent::{self, Agent, Said};
use crate::identity::renewer::Renewer;
use crate::identity::vault::{STATE_DIR, Vault};
use crate::identity::wallet::Wallet;
use crate::logic::compile::{Policy, Rulebook};
use crate::logic::intercept::Mode;
use crate::logic::metric::report::Report;
use crate::logic::naming::zone::Zone;
use crate::model::endpoint::{Announcement, Role};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::service::LocalService;
use crate::model::snapshot::{GossipPass, Snapshot};
use crate::model::token::Token;
use crate::model::view::IdentityStatus;
use crate::net::patience::Patience;
use crate::net::{clock, disk, interface, resolve, task};
use crate::proxy::admin::{self, AdminHandles, Unready};
use crate::proxy::announcer::{Announcer, FAREWELL};
use crate::proxy::assembler::Assembler;
use crate::proxy::bootstrap::{AccessLogTarget, Options};
use crate::proxy::intercept;
use crate::proxy::membership::{self, ControlIssuer, Membership};
use crate::proxy::names::{self, Names};
use crate::proxy::reporter::{self, Delivery, Local, Sources};
use crate::proxy::services::Services;
use crate::proxy::shared::Shared;
use crate::proxy::subscriber;
use crate::proxy::upstream::endpoint::now_ns;
use crate::proxy::worker::{self, WorkerConfig, Workers};
use crate::telemetry::access::{AccessLog, Target};
use crate::telemetry::log::LogHandle;
use crate::telemetry::metric::Registry;

/// Version of this executable.
const BUILD: &str = env!("CARGO_PKG_VERSION");
/// File that says where a proxy listens, in its data directory.
const ADDRESSES_FILE: &str = "addresses.json";
/// How long joining is tried while no control plane answers; a service manager starts the process again after that.
const JOIN_MAX: Duration = Duration::from_mins(1);
const JOIN_RETRY: Duration = Duration::from_secs(1);
/// How long the start waits for the catalogue. A node whose neighbours are all away serves what it knows.
const GOSSIP_MAX: Duration = Duration::from_secs(10);
/// How soon a new member is on disk, so that a start without control plane finds it.
const PEERS_KEPT_EVERY: Duration = Duration::from_secs(1);

/// Why a proxy did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no member.
    #[error(transparent)]
    Membership(#[from] membership::Error),
    /// Its disk.
    #[error(transparent)]
    Vault(#[from] crate::identity::vault::Error),
    /// Gossip did not start.
    #[error(transparent)]
    Gossip(#[from] agent::Error),
    /// The data path did not start.
    #[error("{0}{advice}", advice = advice(.0))]
    Workers(#[from] worker::Error),
    /// The admin address is taken, or not ours.
    #[error(
        "cannot listen on {addr} (admin): {source}; choose another address with --admin, or port 0 for a free one"
    )]
    Admin {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The name server does not start.
    #[error(
        "cannot listen on {addr} (dns): {source}; choose another address with --dns, port 0 for a free one, or 'off'"
    )]
    Names {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be intercepted.
    #[error(transparent)]
    Intercept(#[from] intercept::Error),
    /// The access log cannot be written.
    #[error("the access log cannot be written: {0}")]
    AccessLog(#[source] io::Error),
    /// The gossip thread ended by itself, by a bug.
    #[error(
        "gossip has stopped, so that this proxy would not hear of other hosts any more: the log says why; start it again"
    )]
    GossipEnded,
    /// The file that says where it listens cannot be written.
    #[error("{path} cannot be written: {source}")]
    Addresses {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Says what to do about a data path that did not start.
fn advice(error: &worker::Error) -> &'static str {
    match error {
        worker::Error::Listen { .. } => {
            "; choose another address with --outbound, --inbound or --upstream, or port 0 for a free one"
        }
        worker::Error::Thread(_) => "",
    }
}

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

/// Runs a proxy until `shutdown`; calls `started` once traffic would be served.
///
/// # Errors
/// When it cannot join or start. Nothing of it runs afterwards.
pub async fn run(
    options: Options,
    log: LogHandle,
    started: impl FnOnce(&Addresses),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    if options.intercept.mode != Mode::Off {
        intercept::prepare().await?;
    }
    let vault = Arc::new(Vault::open(&options.data_dir.join(STATE_DIR))?);
    let services = Services::load(vault.clone(), options.settings.clone())?;
    task::spawn("services", services.clone().follow());
    let options = Options { settings: services.settings(), ..options };
    let subjects = subjects(&options.node, &options.settings.borrow().services);
    let membership = enter(&options, &vault, &subjects).await?;
    let node = Node::start(&options, vault, membership, subjects).await?;
    let running = node.serve(&options, services, log).await?;
    if timeout(GOSSIP_MAX, running.node.agent.ready()).await.is_err() {
        tracing::warn!("no other member answers; serving with what is known");
    }
    running.node.ready.send_replace(true);
    let path = options.data_dir.join(ADDRESSES_FILE);
    let body = serde_json::to_vec(&running.addresses).map_err(io::Error::from);
    body.and_then(|body| disk::write_file(&path, &body, 0o644))
        .map_err(|source| Error::Addresses { path: path.clone(), source })?;
    tracing::info!(outbound = %running.addresses.outbound, inbound = %running.addresses.inbound, "serving");
    started(&running.addresses);

    let failed = running.node.agent.failed();
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        () = failed => Err(Error::GossipEnded),
    };
    tracing::info!("draining");
    // What is not there any more must not be connected to; its absence is no fault.
    let _ = std::fs::remove_file(&path);
    let grace = options.settings.borrow().drain;
    running.stop(grace).await;
    outcome
}

/// Returns whom this host speaks for: itself and its services.
fn subjects(node: &NodeName, services: &[LocalService]) -> BTreeSet<Subject> {
    let services = services.iter().map(|service| Subject::Service(service.name.clone()));
    services.chain([Subject::Node(node.clone())]).collect()
}

/// Finds the membership on disk, or joins with the token, trying again while no control plane answers.
async fn enter(
    options: &Options,
    vault: &Vault,
    subjects: &BTreeSet<Subject>,
) -> Result<Membership, membership::Error> {
    if let Some(membership) = Membership::load(vault, &options.node, options.join.as_ref())? {
        return Ok(membership);
    }
    let token: &Token = options.join.as_ref().ok_or(membership::Error::NoToken)?;
    let deadline = clock::now() + JOIN_MAX;
    let mut told = None;
    loop {
        match Membership::join(vault, &options.node, subjects, token).await {
            Err(membership::Error::Join(client::Error::Unreachable(reason))) if clock::now() < deadline => {
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, patience = ?JOIN_MAX, "cannot join yet; trying again");
                }
                told = Some(reason);
                sleep(JOIN_RETRY).await;
            }
            Ok(joined) => {
                tracing::info!(mesh = %joined.snapshot.trust_domain, "joined");
                return Ok(joined);
            }
            Err(error) => return Err(error),
        }
    }
}

/// What a node is made of, besides its data path.
struct Node {
    agent: Arc<Agent>,
    vault: Arc<Vault>,
    client: Client,
    wallets: Arc<watch::Sender<Arc<Wallet>>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    passes: watch::Sender<GossipPass>,
    statuses: watch::Sender<Vec<IdentityStatus>>,
    controls: watch::Sender<Vec<String>>,
    policies: watch::Sender<Arc<Policy>>,
    ready: watch::Sender<bool>,
    gossip_key: String,
    subjects: watch::Sender<BTreeSet<Subject>>,
    /// Where other hosts reach this one.
    advertise: IpAddr,
    started_ms: u64,
}

impl Node {
    async fn start(
        options: &Options,
        vault: Arc<Vault>,
        membership: Membership,
        subjects: BTreeSet<Subject>,
    ) -> Result<Self, Error> {
        let started_ms = clock::wall_ms();
        let snapshot = Arc::new(membership.snapshot.clone());
        let signer = membership.signer()?;
        let gossip_key = signer.public_key_base64();
        let advertise = advertise(options, &snapshot).await;
        let agent = Agent::start(agent::Config {
            node: membership.node.clone(),
            role: Role::Proxy,
            listen: options.gossip,
            advertise,
            epoch_ms: started_ms,
            keys: snapshot.gossip.clone(),
            pass: membership.pass.clone(),
            signer,
            roots: membership::roots(&snapshot)?,
            trust_domain: snapshot.trust_domain.clone(),
            seeds: Vec::new(),
            known_peers: membership::peers(&vault)?,
        })?;
        agent.ban(snapshot.banned.iter().cloned().collect());
        let wallets = Arc::new(watch::Sender::new(Arc::new(membership.wallet()?)));
        let controls = watch::Sender::new(snapshot.controls.clone());
        let source = Subject::Node(membership.node.clone());
        let client = Client::with_wallet(controls.subscribe(), wallets.subscribe(), source);
        let policy = Rulebook::new(&snapshot, &membership.node).policy(&agent.catalog().borrow());
        Ok(Self {
            agent: Arc::new(agent),
            vault,
            client,
            wallets,
            snapshots: watch::Sender::new(snapshot),
            passes: watch::Sender::new(membership.pass),
            statuses: watch::Sender::new(Vec::new()),
            controls,
            policies: watch::Sender::new(Arc::new(policy)),
            ready: watch::Sender::new(false),
            gossip_key,
            subjects: watch::Sender::new(subjects),
            advertise,
            started_ms,
        })
    }

    /// Starts the data path and everything that feeds it.
    async fn serve(
        self,
        options: &Options,
        services: Arc<Services>,
        log: LogHandle,
    ) -> Result<Running, Error> {
        let registry = Registry::new();
        let access = access_log(&options.access_log).map_err(Error::AccessLog)?;
        let policy = self.policies.borrow().as_ref().clone();
        let shared = Shared::new(policy, self.wallets.subscribe(), registry.clone(), access.clone());
        shared.set_locals(options.settings.borrow().services.clone());
        let refused = |source| Error::Admin { addr: options.admin, source };
        let admin = TcpListener::bind(options.admin).await.map_err(refused)?;
        let is_intercepting = options.intercept.mode != Mode::Off;
        let workers = Workers::start(WorkerConfig {
            patience: Patience::default(),
            outbound: options.outbound,
            inbound: options.inbound,
            upstreams: options.upstreams.clone(),
            capture: is_intercepting.then_some(options.intercept.capture),
            workers: options.workers,
            reuse: options.tls_reuse,
            shared: shared.clone(),
        })?;
        let names = Names::start(&options.names, names::lead(workers.addresses()), self.policies.subscribe());
        let names = names.map_err(|names::Error { addr, source }| Error::Names { addr, source })?;
        let addresses = Addresses {
            outbound: workers.addresses().outbound,
            inbound: workers.addresses().inbound,
            gossip: self.agent.local_addr(),
            admin: admin.local_addr().map_err(refused)?,
            dns: names.addrs.first().copied(),
            capture: workers.addresses().capture.first().copied(),
            upstreams: workers.addresses().upstreams.clone(),
        };
        shared.set_zone(names.zone.clone());
        let local = Arc::new(Local::default());
        let sources = Arc::new(self.sources(&shared));
        let handles = self.admin_handles(&shared, &local, &sources, (log, access), (&names, services));
        let (farewell, mut said) = (watch::Sender::new(false), Vec::new());
        let goodbye = || {
            let mut leaving = farewell.subscribe();
            async move { drop(leaving.wait_for(|leaving| *leaving).await) }
        };
        said.push(task::spawn("admin", admin::serve(admin, handles, goodbye()).map(drop)));
        let reports = self.reports(registry, sources, local);
        said.push(task::spawn("reporter", reporter::run(reports, goodbye())));
        self.follow(&shared, options, addresses.inbound);
        if is_intercepting {
            let interception = intercept::begin(options, workers.addresses(), &names).await?;
            said.push(task::spawn("interception", interception.run(goodbye())));
        }
        Ok(Running { node: self, workers, addresses, farewell, said })
    }

    fn sources(&self, shared: &Arc<Shared>) -> Sources {
        let (snapshots, statuses) = (self.snapshots.subscribe(), self.statuses.subscribe());
        let tables = shared.clone();
        Sources {
            node: shared.node.clone(),
            build: BUILD.to_owned(),
            started_ms: self.started_ms,
            revision: Box::new(move || snapshots.borrow().revision),
            identities: Box::new(move || statuses.borrow().clone()),
            ejected: Box::new(move || tables.tables().ejected(now_ns())),
        }
    }

    fn admin_handles(
        &self,
        shared: &Arc<Shared>,
        local: &Arc<Local>,
        sources: &Arc<Sources>,
        (log, access): (LogHandle, Option<Arc<AccessLog>>),
        (names, services): (&Names, Arc<Services>),
    ) -> AdminHandles {
        let zone = names.zone.clone();
        let (snapshots, ready, policies) =
            (self.snapshots.subscribe(), self.ready.subscribe(), self.policies.subscribe());
        AdminHandles {
            registry: shared.registry.clone(),
            sources: sources.clone(),
            local: local.clone(),
            catalog: self.agent.catalog(),
            snapshot: Box::new(move || Some(snapshots.borrow().clone())),
            unready: Box::new(move || unready(*ready.borrow())),
            tables: Box::new(move || tables(&policies.borrow(), &zone.borrow())),
            log: Some(log),
            access,
            questions: names.counts.clone(),
            services: Some(services),
        }
    }

    fn reports(&self, registry: Arc<Registry>, sources: Arc<Sources>, local: Arc<Local>) -> reporter::Config {
        let wallets = self.wallets.clone();
        let source = Subject::Node(sources.node.clone());
        let clients: std::sync::Mutex<BTreeMap<String, Client>> = std::sync::Mutex::default();
        let send = move |address: String, report: Report| {
            // One client for each control plane: a report is for that one alone.
            let mut clients = clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let client = clients.entry(address.clone()).or_insert_with(|| {
                let only = watch::Sender::new(vec![address]).subscribe();
                Client::with_wallet(only, wallets.subscribe(), source.clone())
            });
            deliver(client.clone(), report).boxed()
        };
        let controls = self.controls.subscribe();
        reporter::Config { registry, sources, local, controls, send: Box::new(send) }
    }

    /// Starts what keeps the tables, the wallet and the neighbours up to date.
    fn follow(&self, shared: &Arc<Shared>, options: &Options, inbound: SocketAddr) {
        let (client, vault) = (self.client.clone(), self.vault.clone());
        task::spawn("subscriber", subscriber::run(client.clone(), vault.clone(), self.snapshots.clone()));
        let renewer = Renewer {
            wanted: self.subjects.subscribe(),
            wallets: self.wallets.clone(),
            vault: vault.clone(),
            issuer: ControlIssuer {
                client,
                gossip_key: self.gossip_key.clone(),
                vault: vault.clone(),
                passes: self.passes.clone(),
            },
            statuses: self.statuses.clone(),
        };
        task::spawn("renewer", renewer.run());
        let assembler = Assembler {
            snapshots: self.snapshots.subscribe(),
            catalog: self.agent.catalog(),
            shared: shared.clone(),
            policies: self.policies.clone(),
            wallets: self.wallets.clone(),
            controls: self.controls.clone(),
            agent: self.agent.clone(),
        };
        task::spawn("assembler", assembler.run());
        let (agent, mut passes) = (self.agent.clone(), self.passes.subscribe());
        task::spawn("passes", async move {
            while passes.changed().await.is_ok() {
                agent.repass(passes.borrow_and_update().clone());
            }
        });
        task::spawn("peers", keep_peers(self.agent.clone(), vault));
        task::spawn("announcer", self.announcer(shared, options, inbound).run());
    }

    /// Returns what tells gossip, and those here who need to know, which services run here.
    fn announcer(&self, shared: &Arc<Shared>, options: &Options, inbound: SocketAddr) -> Announcer {
        let (shared, subjects) = (shared.clone(), self.subjects.clone());
        let enforce = move |services: &[LocalService]| {
            shared.set_locals(services.to_vec());
            subjects.send_replace(self::subjects(&shared.node, services));
        };
        let agent = self.agent.clone();
        let addr = SocketAddr::new(self.advertise, inbound.port());
        let announce = move |zone: Option<ZoneName>, draining: bool, services: Vec<Announcement>| {
            agent.announce(Said { addr, zone, build: BUILD.to_owned(), draining, services });
        };
        Announcer {
            settings: options.settings.clone(),
            policies: self.policies.subscribe(),
            wallets: self.wallets.subscribe(),
            enforce: Box::new(enforce),
            announce: Box::new(announce),
        }
    }
}

/// A proxy that serves.
struct Running {
    node: Node,
    workers: Workers,
    addresses: Addresses,
    farewell: watch::Sender<bool>,
    said: Vec<tokio::task::JoinHandle<Option<()>>>,
}

impl Running {
    /// Leaves the mesh, lets what is under way finish within `grace`, and sends the last report.
    async fn stop(self, grace: Duration) {
        self.node.ready.send_replace(false);
        self.node.agent.leave().await;
        sleep(FAREWELL).await;
        self.workers.drain(grace).await;
        self.farewell.send_replace(true);
        futures_util::future::join_all(self.said).await;
    }
}

/// Returns the address under which others reach this host: as told, else the one that faces the control plane.
async fn advertise(options: &Options, snapshot: &Snapshot) -> IpAddr {
    if let Some(ip) = options.advertise {
        return ip;
    }
    if !options.inbound.ip().is_unspecified() {
        return options.inbound.ip();
    }
    for control in &snapshot.controls {
        let found = resolve::addresses(control).await.unwrap_or_default();
        if let Some(ip) = found.into_iter().find_map(interface::towards) {
            return ip;
        }
    }
    interface::outward(options.inbound.ip())
}

fn access_log(target: &AccessLogTarget) -> io::Result<Option<Arc<AccessLog>>> {
    match target {
        AccessLogTarget::Off => Ok(None),
        AccessLogTarget::Stderr => AccessLog::open(Target::Stderr).map(Some),
        AccessLogTarget::File(path) => AccessLog::open(Target::File(path)).map(Some),
    }
}

fn unready(ready: bool) -> Vec<Unready> {
    let missing = || Unready { check: "mesh".to_owned(), message: "starting, or draining".to_owned() };
    (!ready).then(missing).into_iter().collect()
}

/// Returns the tables for people.
fn tables(policy: &Policy, zone: &Zone) -> serde_json::Value {
    let service = |(name, service): (&ServiceName, &crate::logic::compile::ServicePolicy)| {
        let ports = service.ports.iter().flat_map(|(_, port)| port.routes.tables());
        let rules = service.routes.tables().chain(ports).flat_map(|table| table.rules());
        let rules: Vec<_> = rules.map(|rule| rule.label.to_string()).collect();
        let body = serde_json::json!({
            "protocol": service.protocol,
            "endpoints": service.endpoints,
            "rules": rules,
            "healthCheck": service.health_check,
            "addresses": zone.address(name).map(|address| (address.v4, address.v6)),
        });
        (name.to_string(), body)
    };
    let services: serde_json::Map<_, _> = policy.services().map(service).collect();
    serde_json::json!({ "revision": policy.revision, "services": services })
}

async fn deliver(client: Client, report: Report) -> Delivery {
    match client.report(&report).await {
        Ok(()) => Delivery::Accepted,
        Err(error) if error.is_transient() => Delivery::Lost,
        Err(error) => {
            tracing::warn!(%error, "control refused a report");
            Delivery::Refused
        }
    }
}

/// Keeps the addresses of members for the next start, whenever they have changed.
async fn keep_peers(agent: Arc<Agent>, vault: Arc<Vault>) {
    let mut kept = Vec::new();
    loop {
        sleep(PEERS_KEPT_EVERY).await;
        let peers = agent.peers();
        if peers == kept || peers.is_empty() {
            continue;
        }
        let (vault, written) = (vault.clone(), peers.clone());
        let outcome = tokio::task::spawn_blocking(move || membership::keep_peers(&vault, &written)).await;
        match outcome {
            Ok(Ok(())) => kept = peers,
            Ok(Err(error)) => tracing::warn!(%error, "the addresses of members were not kept"),
            Err(_) => {}
        }
    }
}
