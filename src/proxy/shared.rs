//! What all workers of the data path share, and how the rest of the proxy changes it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::identity::wallet::Wallet;
use crate::logic::compile::Policy;
use crate::logic::naming::zone::Zone;
use crate::model::endpoint::Catalog;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::service::LocalService;
use crate::net::owner::Holder;
use crate::proxy::callers::Callers;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::tables::Tables;
use crate::proxy::upstream::quota::Quota;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metric::Registry;
use crate::telemetry::recent::Recent;

/// What all workers share.
pub struct Shared {
    /// This node.
    pub node: NodeName,
    /// Certificates and whom to trust.
    pub wallet: watch::Receiver<Arc<Wallet>>,
    /// Where traffic is counted.
    pub registry: Arc<Registry>,
    /// Where calls are recorded; `None` when they are not.
    pub access: Option<Arc<AccessLog>>,
    /// Where calls that have ended are remembered, and watched.
    pub recent: Arc<Recent>,
    tables: ArcSwap<Tables>,
    generation: watch::Sender<u64>,
    locals: ArcSwap<Locals>,
    own: ArcSwap<Vec<SocketAddr>>,
    /// What gossip knows.
    catalog: ArcSwap<Catalog>,
    /// What the services are called on this host, once that is known.
    zone: OnceLock<watch::Receiver<Arc<Zone>>>,
    /// Why control, or the certificates of others, say that this node cannot call; once that is known.
    doubt: OnceLock<watch::Receiver<Option<String>>>,
    /// What each instance of this host lets in, by service and port.
    quotas: Mutex<BTreeMap<(ServiceName, u16), Arc<Quota>>>,
    workers: AtomicU32,
    /// When somebody last did what is to be done each second.
    tended_ns: AtomicU64,
}

/// What one worker leaves to the others for this second.
const TEND_EVERY_NS: u64 = 900_000_000;

/// The services of this host.
#[derive(Debug)]
pub struct Locals {
    /// As configured.
    pub services: Vec<LocalService>,
    /// Whom calls of this host's applications come from whose owner speaks for no service: its only service, unless that
    /// has an owner of its own, else the node itself.
    source: Arc<Subject>,
    callers: Callers,
}

impl Shared {
    /// Makes the state of a proxy that runs no service yet.
    pub fn new(
        policy: Policy,
        wallet: watch::Receiver<Arc<Wallet>>,
        registry: Arc<Registry>,
        access: Option<Arc<AccessLog>>,
    ) -> Arc<Self> {
        let node = policy.node().clone();
        let source = Arc::new(Subject::Node(node.clone()));
        Arc::new(Self {
            node,
            wallet,
            registry,
            access,
            recent: Arc::default(),
            tables: ArcSwap::from_pointee(Tables::new(policy)),
            generation: watch::Sender::new(0),
            locals: ArcSwap::from_pointee(Locals {
                services: Vec::new(),
                source,
                callers: Callers::default(),
            }),
            own: ArcSwap::default(),
            catalog: ArcSwap::default(),
            zone: OnceLock::new(),
            doubt: OnceLock::new(),
            quotas: Mutex::default(),
            workers: AtomicU32::new(1),
            tended_ns: AtomicU64::new(0),
        })
    }

    /// Returns the tables in force.
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// Returns the tables in force, for a look that does not wait for anything.
    pub fn look(&self) -> Guard<Arc<Tables>> {
        self.tables.load()
    }

    /// Says how many workers share this.
    pub fn set_workers(&self, count: u32) {
        self.workers.store(count, Ordering::Relaxed);
    }

    /// Returns how many workers share this.
    pub fn workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// Does what is to be done each second, unless another worker has.
    pub fn tend(&self, now_ns: u64, draw: impl FnMut() -> u64) {
        let last = self.tended_ns.load(Ordering::Relaxed);
        let due = now_ns.saturating_sub(last) >= TEND_EVERY_NS;
        if due && self.tended_ns.compare_exchange(last, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.look().tend(now_ns, draw);
        }
    }

    /// Returns what an instance of this host lets in, one that [`Locals::find`] finds. To be asked once for each link.
    pub fn quota(&self, service: &ServiceName, port: u16) -> Arc<Quota> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.entry((service.clone(), port)).or_default().clone()
    }

    /// Puts a policy in force: requests that begin after this follow it, and long-lived connections are judged again.
    ///
    /// To be called by one task at a time.
    pub fn install(&self, policy: Policy) {
        let next = self.tables.load().next(policy);
        let generation = next.generation;
        self.tables.store(Arc::new(next));
        self.generation.send_replace(generation);
    }

    /// Says what gossip knows by now.
    pub(crate) fn set_catalog(&self, catalog: Arc<Catalog>) {
        self.catalog.store(catalog);
    }

    /// Returns until when control vouches for a node, Unix milliseconds, as far as gossip has told.
    pub(crate) fn vouched_ms(&self, node: &NodeName) -> Option<u64> {
        self.catalog.load().members.get(node)?.vouched_ms
    }

    /// Returns what tells of new tables, by their generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Says where this proxy listens.
    pub(crate) fn set_own(&self, own: Vec<SocketAddr>) {
        self.own.store(Arc::new(own));
    }

    /// Returns whether a connection to an address of this host would come back to this proxy.
    pub(crate) fn is_own(&self, addr: SocketAddr) -> bool {
        let meets = |own: &SocketAddr| {
            own.ip() == addr.ip() || own.ip().is_unspecified() || addr.ip().is_unspecified()
        };
        self.own.load().iter().any(|own| own.port() == addr.port() && meets(own))
    }

    /// Says what the services are called on this host.
    pub(crate) fn set_zone(&self, zone: watch::Receiver<Arc<Zone>>) {
        // There is one name server for each proxy.
        _ = self.zone.set(zone);
    }

    /// Says where it is told why this node cannot call.
    pub(crate) fn set_doubt(&self, doubt: watch::Receiver<Option<String>>) {
        // There is one subscriber for each proxy.
        _ = self.doubt.set(doubt);
    }

    /// Adds to a failure of one of this host's calls what is known to keep this node from calling anybody.
    pub(crate) fn explain(&self, failed: Failed) -> Failed {
        let is_others = failed.failure == Failure::UnknownService || failed.failure.blames_others();
        let doubt = || {
            let banned = self.look().policy.exclusion();
            banned.or_else(|| self.doubt.get()?.borrow().clone())
        };
        match is_others.then(doubt).flatten() {
            Some(doubt) => {
                let between = if failed.cause.is_empty() { "" } else { "; " };
                Failed { cause: format!("{}{between}{doubt}", failed.cause).into(), ..failed }
            }
            None => failed,
        }
    }

    /// Returns the service that a virtual address stands for; `None` when it stands for none.
    pub(crate) fn meant(&self, addr: IpAddr) -> Option<ServiceName> {
        let zone = self.zone.get()?.borrow().clone();
        zone.service(addr).cloned()
    }

    /// Returns the services of this host.
    pub fn locals(&self) -> Arc<Locals> {
        self.locals.load_full()
    }

    /// Says which services this host runs, and so whom its calls come from.
    pub fn set_locals(&self, services: Vec<LocalService>) {
        let before = self.locals.load();
        let is_free = services.iter().any(|service| service.owner.is_none());
        let source = match distinct(&services).filter(|_| is_free) {
            Some(only) => Subject::Service(only.clone()),
            None => Subject::Node(self.node.clone()),
        };
        // The same value as before stays the same pointer: connections are kept by it.
        let source = if *before.source == source { before.source.clone() } else { Arc::new(source) };
        let callers = Callers::new(&services, &before.callers);
        let locals = Locals { services, source, callers };
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.retain(|(service, port), _| locals.find(service, *port).is_some());
        self.locals.store(Arc::new(locals));
    }
}

/// Returns the name that all have in common, if there is one.
fn distinct(services: &[LocalService]) -> Option<&ServiceName> {
    let first = &services.first()?.name;
    services.iter().all(|service| service.name == *first).then_some(first)
}

impl Locals {
    /// Returns whom a call comes from, by the owner of its connection; `None` for one that is not known.
    pub fn source(&self, holder: Option<Holder>) -> Arc<Subject> {
        let found = holder.and_then(|holder| self.callers.find(holder));
        found.unwrap_or_else(|| self.source.clone())
    }

    /// Returns whether the owner of a connection matters.
    pub fn tells_apart(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Returns the instance of a service at a port.
    pub fn find(&self, name: &ServiceName, port: u16) -> Option<&LocalService> {
        self.services.iter().find(|service| service.name == *name && service.addr.port() == port)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("node", &self.node).finish_non_exhaustive()
    }
}
