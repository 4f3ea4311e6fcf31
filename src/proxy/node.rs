//! What makes a host a node: its membership, its voice, what it is told and what it tells. Everything but the data path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::api::client::Client;
use crate::gossip::agent::{self, Agent, Estate, Said};
use crate::identity::renewer::Renewer;
use crate::identity::vault::Vault;
use crate::identity::wallet::Wallet;
use crate::logic::bans;
use crate::logic::compile::{Policy, Rulebook};
use crate::logic::gossip::cluster::PUBLISH_PERIOD;
use crate::logic::metric::report::Report;
use crate::logic::naming::zone::Zone;
use crate::model::endpoint::{Announcement, Catalog, Role};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::service::LocalService;
use crate::model::snapshot::{GossipPass, Snapshot};
use crate::model::view::IdentityStatus;
use crate::net::{clock, interface, resolve, task};
use crate::proxy::admin::{AdminHandles, Examine, Unready};
use crate::proxy::announcer::Announcer;
use crate::proxy::answerer::Answerer;
use crate::proxy::assembler::Assembler;
use crate::proxy::bootstrap::Options;
use crate::proxy::examiner::{Examiner, Intercepting, Told};
use crate::proxy::membership::{self, ControlIssuer, Membership};
use crate::proxy::names::Names;
use crate::proxy::reporter::{self, Delivery, Local, Sources};
use crate::proxy::services::Services;
use crate::proxy::shared::Shared;
use crate::proxy::subscriber;
use crate::proxy::upstream::endpoint::now_ns;
use crate::telemetry::access::AccessLog;
use crate::telemetry::log::LogHandle;

/// Version of this executable.
pub(crate) const BUILD: &str = env!("CARGO_PKG_VERSION");
/// Shortest time between two writings of who is there.
const PEERS_KEPT_EVERY: Duration = Duration::from_secs(1);

/// When a list of bans that could not be kept is tried again.
const KEEP_AGAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether this host still has the address that others know.
const ADDRESS_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long the start waits until this node's tables hold that catalogue: making them takes milliseconds.
const TABLES_MAX: Duration = Duration::from_secs(2);
/// How long the first members may take until their calls reach a service that they have just heard of. This is a time, as
/// nobody tells a node what others have in force: whoever is told publishes within one period and makes its tables within
/// the next, and the third is for the way. It is a courtesy to scripts that call as soon as a proxy is ready: who takes longer
/// hears of the service as soon as it would anyway.
const INTRODUCTION: Duration = PUBLISH_PERIOD.saturating_mul(3);

/// Why a host is no node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is no member.
    #[error(transparent)]
    Membership(#[from] membership::Error),
    /// Gossip did not start.
    #[error(transparent)]
    Gossip(#[from] agent::Error),
}

/// Returns whom this host speaks for: itself and its services.
pub(crate) fn subjects(node: &NodeName, services: &[LocalService]) -> BTreeSet<Subject> {
    let services = services.iter().map(|service| Subject::Service(service.name.clone()));
    services.chain([Subject::Node(node.clone())]).collect()
}

/// What a node is made of, besides its data path.
pub(crate) struct Node {
    pub(crate) agent: Arc<Agent>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) client: Client,
    pub(crate) wallets: Arc<watch::Sender<Arc<Wallet>>>,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) passes: watch::Sender<GossipPass>,
    pub(crate) statuses: watch::Sender<Vec<IdentityStatus>>,
    pub(crate) controls: watch::Sender<Vec<String>>,
    pub(crate) policies: watch::Sender<Arc<Policy>>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) gossip_key: String,
    pub(crate) subjects: watch::Sender<BTreeSet<Subject>>,
    /// Where other hosts reach this one.
    pub(crate) advertise: watch::Sender<IpAddr>,
    pub(crate) started_ms: u64,
    /// What a process before this one last said of the services here.
    pub(crate) said_before: Vec<Announcement>,
    /// Those tasks that write to the store.
    pub(crate) writers: Mutex<Vec<JoinHandle<Option<()>>>>,
    /// The addresses of members that are on disk.
    kept_peers: Arc<tokio::sync::Mutex<Vec<SocketAddr>>>,
    /// Why this node cannot call others, as far as control tells.
    doubt: watch::Sender<Option<String>>,
    /// The catalogue of which the tables in force are made; `None` before the first.
    assembled: watch::Sender<Option<Arc<Catalog>>>,
}

impl Node {
    pub(crate) async fn start(
        options: &Options,
        vault: Arc<Vault>,
        membership: Membership,
        (subjects, estate): (BTreeSet<Subject>, Option<Estate>),
    ) -> Result<Self, Error> {
        let said_before = estate.as_ref().and_then(|estate| estate.legacy.said.clone());
        let started_ms = clock::wall_ms();
        let snapshot = Arc::new(membership.snapshot.clone());
        let told = bans::amend(&snapshot, membership.bans.as_ref());
        let signer = membership.signer()?;
        let gossip_key = signer.public_key_base64();
        let before = estate.as_ref().map(|estate| estate.legacy.me.addr.ip());
        let advertise = match options.advertise.or(before) {
            Some(ip) => ip,
            None => advertise(options, &snapshot).await,
        };
        let known_peers = membership::peers(&vault)?;
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
            bans: membership.bans.clone(),
            known_peers: known_peers.clone(),
            estate,
        })?;
        agent.ban(told.banned.iter().cloned().collect());
        let wallets = Arc::new(watch::Sender::new(Arc::new(membership.wallet()?)));
        let controls = watch::Sender::new(snapshot.controls.clone());
        let source = Subject::Node(membership.node.clone());
        let client = Client::with_wallet(controls.subscribe(), wallets.subscribe(), source);
        let policy = Rulebook::new(&told, &membership.node).policy(&agent.catalog().borrow());
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
            advertise: watch::Sender::new(advertise),
            started_ms,
            said_before: said_before.map_or_else(Vec::new, |said| said.services),
            writers: Mutex::default(),
            kept_peers: Arc::new(tokio::sync::Mutex::new(known_peers)),
            doubt: watch::Sender::new(None),
            assembled: watch::Sender::new(None),
        })
    }

    pub(crate) fn sources(&self, shared: &Arc<Shared>) -> Sources {
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

    pub(crate) fn admin_handles(
        &self,
        shared: &Arc<Shared>,
        local: &Arc<Local>,
        sources: &Arc<Sources>,
        (log, access): (LogHandle, Option<Arc<AccessLog>>),
        (names, services, examine): (&Names, Arc<Services>, Examine),
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
            examine: Some(examine),
        }
    }

    /// Returns what finds out how this host stands.
    pub(crate) fn examiner(
        &self,
        sources: &Arc<Sources>,
        names: &Names,
        interception: watch::Receiver<Intercepting>,
        options: &Options,
    ) -> Examine {
        let told = Told {
            controls: self.controls.subscribe(),
            policies: self.policies.subscribe(),
            snapshots: self.snapshots.subscribe(),
            doubt: self.doubt.subscribe(),
        };
        let ways = (self.agent.clone(), self.client.clone(), sources.clone());
        let examiner = Arc::new(Examiner::new(ways, told, names, interception, options.data_dir.clone()));
        Box::new(move |unready| {
            let examiner = examiner.clone();
            async move { examiner.examine(unready).await }.boxed()
        })
    }

    pub(crate) fn reports(
        &self,
        shared: &Arc<Shared>,
        sources: Arc<Sources>,
        local: Arc<Local>,
    ) -> reporter::Config {
        let registry = shared.registry.clone();
        let answerer = Answerer::new(shared.recent.clone(), self.started_ms);
        let wallets = self.wallets.clone();
        let source = Subject::Node(sources.node.clone());
        let clients: Mutex<BTreeMap<String, Client>> = Mutex::default();
        let send = move |address: String, report: Report| {
            // One client for each control plane: a report is for that one alone.
            let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
            let client = clients.entry(address.clone()).or_insert_with(|| {
                let only = watch::Sender::new(vec![address]).subscribe();
                Client::with_wallet(only, wallets.subscribe(), source.clone())
            });
            deliver(client.clone(), report, answerer.clone()).boxed()
        };
        let controls = self.controls.subscribe();
        reporter::Config { registry, sources, local, controls, send: Box::new(send) }
    }

    /// Puts on disk who is there by now: a node that is ready finds others after a crash, without a control plane too.
    pub(crate) async fn keep_peers(&self) {
        let peers = self.agent.peers();
        if !peers.is_empty() {
            keep(&self.vault, &self.kept_peers, peers).await;
        }
    }

    /// Waits until calls of this host go to those who are there, and the first of the others know the way here.
    pub(crate) async fn settle(&self) {
        let ((), assembled) = tokio::join!(sleep(INTRODUCTION), timeout(TABLES_MAX, self.is_assembled()));
        if assembled.is_err() {
            tracing::warn!("the tables do not keep up with what gossip tells; serving with those in force");
        }
    }

    /// Waits until the tables in force are made of all that gossip has told.
    async fn is_assembled(&self) {
        let (mut assembled, told) = (self.assembled.subscribe(), self.agent.catalog());
        let is_newest =
            |made: &Option<Arc<Catalog>>| made.as_ref().is_some_and(|made| Arc::ptr_eq(made, &told.borrow()));
        // It cannot fail: this node holds the sender.
        _ = assembled.wait_for(is_newest).await;
    }

    /// Starts what writes to the store.
    pub(crate) fn write(&self) {
        let (client, vault) = (self.client.clone(), self.vault.clone());
        let subscriber =
            subscriber::run(client.clone(), vault.clone(), self.snapshots.clone(), self.doubt.clone());
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
        let writers = vec![
            task::spawn("subscriber", subscriber),
            task::spawn("renewer", renewer.run()),
            task::spawn("bans", keep_bans(self.agent.clone(), vault.clone())),
            task::spawn("peers", keep_peers(self.agent.clone(), vault, self.kept_peers.clone())),
        ];
        *self.writers.lock().unwrap_or_else(PoisonError::into_inner) = writers;
    }

    /// Starts what keeps the tables, the wallet and the neighbours up to date.
    pub(crate) fn follow(&self, shared: &Arc<Shared>, options: &Options, inbound: SocketAddr) {
        shared.set_doubt(self.doubt.subscribe());
        self.write();
        let assembler = Assembler {
            snapshots: self.snapshots.subscribe(),
            bans: self.agent.bans(),
            catalog: self.agent.catalog(),
            shared: shared.clone(),
            policies: self.policies.clone(),
            wallets: self.wallets.clone(),
            controls: self.controls.clone(),
            assembled: self.assembled.clone(),
            agent: self.agent.clone(),
        };
        task::spawn("assembler", assembler.run());
        let (agent, mut passes) = (self.agent.clone(), self.passes.subscribe());
        task::spawn("passes", async move {
            while passes.changed().await.is_ok() {
                agent.repass(passes.borrow_and_update().clone());
            }
        });
        task::spawn("announcer", self.announcer(shared, options, inbound).run());
        // What was said by hand, or is a listener's own, may be right though it is no address of this host.
        if options.advertise.is_none() && options.inbound.ip().is_unspecified() {
            let (snapshots, current) = (self.snapshots.subscribe(), self.advertise.clone());
            task::spawn("address", follow_address(snapshots, current, self.agent.clone()));
        }
    }

    /// Returns what tells gossip, and those here who need to know, which services run here.
    fn announcer(&self, shared: &Arc<Shared>, options: &Options, inbound: SocketAddr) -> Announcer {
        let (shared, subjects) = (shared.clone(), self.subjects.clone());
        let enforce = move |services: &[LocalService], proven: Vec<LocalService>| {
            shared.set_locals(proven);
            let wanted = self::subjects(&shared.node, services);
            subjects.send_if_modified(|subjects| wanted != std::mem::replace(subjects, wanted.clone()));
        };
        let agent = self.agent.clone();
        let advertise = self.advertise.subscribe();
        let announce = move |zone: Option<ZoneName>, draining: bool, services: Vec<Announcement>| {
            let addr = SocketAddr::new(*advertise.borrow(), inbound.port());
            agent.announce(Said { addr, zone, build: BUILD.to_owned(), draining, services });
        };
        Announcer {
            settings: options.settings.clone(),
            policies: self.policies.subscribe(),
            wallets: self.wallets.subscribe(),
            before: self.said_before.clone(),
            enforce: Box::new(enforce),
            announce: Box::new(announce),
        }
    }
}

/// Follows the address under which others reach this host: once it is not the host's own any more, the one that faces the
/// control plane by then.
async fn follow_address(
    snapshots: watch::Receiver<Arc<Snapshot>>,
    current: watch::Sender<IpAddr>,
    agent: Arc<Agent>,
) {
    loop {
        sleep(ADDRESS_LOOK_EVERY).await;
        let old = *current.borrow();
        if interface::is_own(old) && !old.is_loopback() {
            continue;
        }
        let snapshot = snapshots.borrow().clone();
        // Without a way there, there is none that others could come back by.
        let Some(new) = facing(&snapshot.controls).await.filter(|new| *new != old) else { continue };
        tracing::warn!(%old, %new, "the address of this host has changed");
        current.send_replace(new);
        agent.relocate(new);
    }
}

/// Returns the address under which others reach this host: the one that faces the control plane.
async fn advertise(options: &Options, snapshot: &Snapshot) -> IpAddr {
    if !options.inbound.ip().is_unspecified() {
        return options.inbound.ip();
    }
    facing(&snapshot.controls).await.unwrap_or_else(|| interface::outward(options.inbound.ip()))
}

/// Returns the address of this host that faces the control planes; `None` without a way there.
async fn facing(controls: &[String]) -> Option<IpAddr> {
    for control in controls {
        let found = resolve::addresses(control).await.unwrap_or_default();
        if let Some(ip) = found.into_iter().find_map(interface::towards) {
            return Some(ip);
        }
    }
    None
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

async fn deliver(client: Client, report: Report, answerer: Answerer) -> Delivery {
    match client.report(&report).await {
        Ok(inquiries) => {
            answerer.take(&client, inquiries);
            Delivery::Accepted
        }
        Err(error) if error.is_transient() => Delivery::Lost,
        Err(error) => Delivery::Refused(error.to_string()),
    }
}

/// Keeps the addresses of members for the next start, whenever they have changed, until gossip ends.
async fn keep_peers(agent: Arc<Agent>, vault: Arc<Vault>, kept: Arc<tokio::sync::Mutex<Vec<SocketAddr>>>) {
    loop {
        let known = kept.lock().await.clone();
        let Some(peers) = agent.peers_besides(&known).await else { return };
        keep(&vault, &kept, peers).await;
        sleep(PEERS_KEPT_EVERY).await;
    }
}

/// Writes the addresses of members down, unless they are on disk.
async fn keep(vault: &Arc<Vault>, kept: &tokio::sync::Mutex<Vec<SocketAddr>>, peers: Vec<SocketAddr>) {
    let mut kept = kept.lock().await;
    if *kept == peers {
        return;
    }
    let (vault, written) = (vault.clone(), peers.clone());
    match tokio::task::spawn_blocking(move || membership::keep_peers(&vault, &written)).await {
        Ok(Ok(())) => *kept = peers,
        Ok(Err(error)) => tracing::warn!(%error, "the addresses of members were not kept"),
        Err(_) => {}
    }
}

/// Keeps the newest list of bans for the next start, which may come while nobody is there to tell.
async fn keep_bans(agent: Arc<Agent>, vault: Arc<Vault>) {
    let mut lists = agent.bans();
    // What is known at the beginning may have been heard while another process had the store.
    lists.mark_changed();
    while lists.changed().await.is_ok() {
        let Some(list) = lists.borrow_and_update().clone() else { continue };
        let (vault, revision) = (vault.clone(), list.revision);
        let outcome = tokio::task::spawn_blocking(move || membership::keep_bans(&vault, &list)).await;
        if let Ok(Err(error)) = outcome {
            tracing::warn!(%error, revision, "the list of banned nodes was not kept; it is tried again");
            sleep(KEEP_AGAIN).await;
            lists.mark_changed();
        }
    }
}
