//! A node's voice in the gossip: joins, announces, leaves, and publishes what is known of everyone.
//!
//! It runs on a thread of its own, so that a busy data plane cannot make its neighbours look dead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::gossip::pass::{Checker, Credential, Signer};
use crate::gossip::seal::{BadRing, Ring, Seal};
use crate::gossip::socket;
use crate::gossip::voice::{self, Ends, Heard, Speaker, Status, Tally, Wishes};
use crate::logic::gossip::cluster::{Cluster, Settings};
use crate::logic::gossip::wire::Identity;
use crate::model::endpoint::{Catalog, Reach, Role};
use crate::model::identity::TrustDomain;
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::snapshot::{BanList, GossipKeys, GossipPass};
use crate::net::clock;

pub use crate::gossip::voice::{Estate, Legacy, Said};

/// Where gossip listens unless told otherwise; where that is taken, on the next port that is free.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7946);
/// How many ports from the default on are tried: a control plane, a proxy, and some more for tests of one's own.
const DEFAULT_PORTS: u16 = 16;
/// Longest time that [`Agent::leave`] takes.
pub const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Longest time that [`Agent::pause`] takes.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest time that [`Agent::look`] takes.
pub const LOOK_MAX: Duration = Duration::from_secs(12);

/// Why gossip could not start. Nothing runs afterwards.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours: choose another, or port 0.
    #[error(
        "cannot listen on {addr} (gossip): {source}; choose another address with --gossip, or port 0 for a free one"
    )]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ring of keys is empty, too long or damaged: ask control again.
    #[error("the gossip keys are unusable: {0}")]
    Keys(#[from] BadRing),
    /// The pass is damaged, or not for this node and key: renew it.
    #[error(transparent)]
    Pass(#[from] crate::gossip::pass::Error),
    /// What an earlier process of this node left cannot be read: it is of a version that this one does not know.
    #[error("what the process before this one knew cannot be taken over: {0}")]
    Legacy(#[source] socket::Error),
    /// The system refused a thread or a runtime.
    #[error("gossip cannot start its thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// What an agent needs to start.
#[derive(Debug)]
pub struct Config {
    /// The node it speaks for.
    pub node: NodeName,
    /// What the node is in the mesh.
    pub role: Role,
    /// Where to listen, UDP and TCP on the same port; 0 takes a free one. `None` takes [`DEFAULT_LISTEN`], or the next
    /// port that is free, as a control plane and a proxy may share a host.
    pub listen: Option<SocketAddr>,
    /// The address under which others reach this node; the port is the one bound.
    pub advertise: IpAddr,
    /// Start of this process, Unix milliseconds: a later process of the same node replaces an earlier one.
    pub epoch_ms: u64,
    /// The keys that seal everything said, and the control planes' gossip addresses.
    pub keys: GossipKeys,
    /// Control's word that `signer` is this node's.
    pub pass: GossipPass,
    /// Signs what this node says of itself.
    pub signer: Signer,
    /// Root certificates to which every pass must lead: DER.
    pub roots: Vec<Vec<u8>>,
    /// The mesh; nodes of another one are not heard even if they hold our keys.
    pub trust_domain: TrustDomain,
    /// Where to find members, besides `keys.seeds`.
    pub seeds: Vec<SocketAddr>,
    /// The list of bans that an earlier process of this node knew.
    pub bans: Option<BanList>,
    /// Members known by an earlier process of this node, as [`Agent::peers`] gave them.
    pub known_peers: Vec<SocketAddr>,
    /// What an earlier process, which is silent now, left to this one: this one speaks in its place, and `listen` and
    /// `epoch_ms` do not count.
    pub estate: Option<Estate>,
}

/// The running gossip of one node. Dropping it stops the gossip without a word, as a crash would.
#[derive(Debug)]
pub struct Agent {
    local_addr: SocketAddr,
    wishes: watch::Sender<Wishes>,
    catalog: watch::Receiver<Arc<Catalog>>,
    status: watch::Receiver<Status>,
    bans: watch::Receiver<Option<Arc<BanList>>>,
    tally: Arc<Tally>,
    estate: Arc<Mutex<Option<Estate>>>,
    heard: Arc<Heard>,
}

/// What an agent has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets sent.
    pub sent: u64,
    /// Packets received, opened or not.
    pub received: u64,
    /// Packets sealed with a key that is not in the ring.
    pub unknown_key: u64,
    /// Packets that did not open.
    pub forged: u64,
    /// Packets heard before.
    pub replayed: u64,
    /// Packets that are none.
    pub malformed: u64,
    /// Exchanges of everything, begun or answered.
    pub exchanges: u64,
    /// Those that came to nothing.
    pub exchanges_failed: u64,
}

/// Binds the sockets where told, else where the host has room.
fn listen(told: Option<SocketAddr>) -> Result<(std::net::UdpSocket, std::net::TcpListener), Error> {
    let addr = told.unwrap_or(DEFAULT_LISTEN);
    let refused = |source| Error::Listen { addr, source };
    let bound = match told {
        Some(addr) => socket::bind(addr),
        None => socket::bind_from(addr, DEFAULT_PORTS),
    };
    let (udp, tcp) = bound.map_err(refused)?;
    let local_addr = tcp.local_addr().map_err(refused)?;
    if told.is_none() && local_addr.port() != addr.port() {
        tracing::info!(
            usual = addr.port(),
            port = local_addr.port(),
            "another process has the usual gossip port; this one gossips on the next that is free"
        );
    }
    Ok((udp, tcp))
}

impl Agent {
    /// Binds the sockets and starts the thread; joining goes on in the background (see [`Self::ready`]).
    ///
    /// # Errors
    /// When the address cannot be bound, or keys or pass are unusable.
    pub fn start(config: Config) -> Result<Self, Error> {
        let (udp, tcp, legacy) = if let Some(Estate { legacy, udp, tcp }) = config.estate {
            (udp, tcp, Some(legacy))
        } else {
            let (udp, tcp) = listen(config.listen)?;
            (udp, tcp, None)
        };
        let local_addr = tcp.local_addr().map_err(Error::Thread)?;
        let Config { node, keys, pass, roots, trust_domain, .. } = config;
        let me = Identity {
            node: node.clone(),
            epoch: legacy.as_ref().map_or(config.epoch_ms, |legacy| legacy.me.epoch),
            life: legacy.as_ref().map_or(0, |legacy| legacy.me.life),
            addr: SocketAddr::new(config.advertise, local_addr.port()),
        };
        let me_ip = me.addr.ip();
        let salt = legacy.as_ref().map_or_else(rand::random, |legacy| legacy.salt);
        let seal = Seal::new(Ring::new(&keys, &trust_domain)?, &node, me.epoch, salt);
        let credential = Credential::new(config.signer, &node, &pass)?;
        let mut checker = Checker::new(roots.clone());
        if !checker.admit(credential.issuer(), clock::wall_ms()) {
            tracing::warn!(
                "the gossip pass does not lead to a root of this mesh: others will not hear this node"
            );
        }
        let seeds = config.seeds.iter().chain(&keys.seeds).copied().collect();
        let (known, seed, wall_ms) = (config.known_peers, rand::random(), clock::wall_ms());
        let cluster = Cluster::new(Settings { me, seeds, known, seed, wall_ms }, clock::now());
        let (role, seeds) = (config.role, config.seeds);
        let version = legacy.as_ref().map_or(0, |legacy| legacy.version);
        let bans = config.bans.map(Arc::new);
        let mut speaker = Speaker {
            node,
            role,
            trust_domain,
            seeds,
            credential,
            seal,
            checker,
            cluster,
            version,
            bans: bans.clone(),
            salt,
        };
        if let Some(legacy) = &legacy {
            speaker.inherit(&legacy.known).map_err(Error::Legacy)?;
            if let Some(said) = legacy.said.clone() {
                speaker.announce(said, false);
            }
        }
        let said = legacy.and_then(|legacy| legacy.said);
        let view = speaker.cluster.view();
        let banned = BTreeSet::new();
        let wishes = Wishes {
            said,
            keys,
            pass,
            roots,
            banned,
            bans,
            leave: false,
            silent: false,
            advertise: me_ip,
            look: 0,
        };
        Self::begin(local_addr, view, wishes, move |ends| voice::speak(speaker, ends, udp, tcp))
    }

    /// Starts the thread, which does what `speak` does.
    fn begin(
        local_addr: SocketAddr,
        view: Catalog,
        wishes: Wishes,
        speak: impl FnOnce(Ends) + Send + 'static,
    ) -> Result<Self, Error> {
        let (catalog_tx, catalog) = watch::channel(Arc::new(view));
        let (status_tx, status) = watch::channel(Status::default());
        let (bans_tx, bans) = watch::channel(wishes.bans.clone());
        let (wishes, wished) = watch::channel(wishes);
        let (tally, estate, heard) = (Arc::new(Tally::default()), Arc::default(), Arc::<Heard>::default());
        let ends = Ends {
            wishes: wished,
            catalog: catalog_tx,
            status: status_tx,
            bans: bans_tx,
            tally: Arc::clone(&tally),
            estate: Arc::clone(&estate),
            heard: Arc::clone(&heard),
        };
        let thread = std::thread::Builder::new().name("gossip".to_owned());
        thread.spawn(move || speak(ends)).map_err(Error::Thread)?;
        Ok(Self { local_addr, wishes, catalog, status, bans, tally, estate, heard })
    }

    /// Returns the address bound: `listen` with the port that was free.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Says something new of this node to everyone. Never waits; what was said and not yet sent is replaced.
    pub fn announce(&self, said: Said) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.said.as_ref() != Some(&said);
            wishes.said = Some(said);
            changed
        });
    }

    /// Returns all that is known, as it changes: at most one value each 50 ms.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Goes on at another address of this host, as the one before is not its own any more.
    pub fn relocate(&self, advertise: IpAddr) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.advertise != advertise;
            wishes.advertise = advertise;
            if let Some(said) = wishes.said.as_mut().filter(|_| changed) {
                said.addr.set_ip(advertise);
            }
            changed
        });
    }

    /// Replaces the ring of keys: the first seals from now on, all open.
    pub fn rekey(&self, keys: GossipKeys) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.keys != keys;
            wishes.keys = keys;
            changed
        });
    }

    /// Replaces the pass, after a renewal.
    pub fn repass(&self, pass: GossipPass) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.pass != pass;
            wishes.pass = pass;
            changed
        });
    }

    /// Replaces the root certificates (DER), while they are rolled over.
    pub fn trust(&self, roots: Vec<Vec<u8>>) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.roots != roots;
            wishes.roots = roots;
            changed
        });
    }

    /// Hears nothing of these nodes any more, and leaves them out of the catalogue, whatever they still say.
    pub fn ban(&self, banned: BTreeSet<NodeName>) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.banned != banned;
            wishes.banned = banned;
            changed
        });
    }

    /// Tells members that know an older list of bans of this one, from now on.
    pub fn tell_bans(&self, list: BanList) {
        self.wishes.send_if_modified(|wishes| {
            let changed = wishes.bans.as_deref() != Some(&list);
            wishes.bans = Some(Arc::new(list));
            changed
        });
    }

    /// Returns the newest list of bans that this node or a member knows of, as it changes. To act on it is the planes' business.
    pub fn bans(&self) -> watch::Receiver<Option<Arc<BanList>>> {
        self.bans.clone()
    }

    /// Returns the revision of the list of bans that each member had when this node last asked it by an exchange. Members that
    /// were not asked are left out.
    pub fn heard_bans(&self) -> BTreeMap<NodeName, Revision> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when the thread has ended without having been told to: this node hears nothing any more, so that the process
    /// should be started again.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut status, wishes) = (self.status.clone(), self.wishes.subscribe());
        async move {
            // An error is a thread that panicked: it took the other end with it.
            let _panicked = status.wait_for(|status| status.left).await.is_err();
            let told = wishes.borrow().leave;
            if told {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns the gossip addresses of the members that are there, to be kept for the next start. Sorted.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.status.borrow().peers.clone()
    }

    /// Waits until there are members and they are others than `known`, and returns what [`Self::peers`] does then; `None`
    /// when gossip has ended.
    pub async fn peers_besides(&self, known: &[SocketAddr]) -> Option<Vec<SocketAddr>> {
        let mut status = self.status.clone();
        let is_news = |status: &Status| !status.peers.is_empty() && status.peers != known;
        let told = status.wait_for(|status| status.left || is_news(status)).await.ok()?;
        is_news(&told).then(|| told.peers.clone())
    }

    /// Waits until the catalogue is as complete as it can be, and some members know directly what this node says of itself;
    /// or until no seed could be reached. Before anything was announced, it does not end.
    pub async fn ready(&self) {
        let mut status = self.status.clone();
        let _gone = status.wait_for(|status| status.ready || status.left).await;
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sent: read(&self.tally.sent),
            received: read(&self.tally.received),
            unknown_key: read(&self.tally.unknown_key),
            forged: read(&self.tally.forged),
            replayed: read(&self.tally.replayed),
            malformed: read(&self.tally.malformed),
            exchanges: read(&self.tally.exchanges),
            exchanges_failed: read(&self.tally.exchanges_failed),
        }
    }

    /// Looks how the members that are there are reached, and tries each; `None` when that lasts longer than [`LOOK_MAX`].
    pub async fn look(&self) -> Option<Arc<Reach>> {
        let mut wanted = 0;
        self.wishes.send_modify(|wishes| {
            wishes.look += 1;
            wanted = wishes.look;
        });
        let mut status = self.status.clone();
        let looked = status.wait_for(|status| status.looked.0 >= wanted);
        let looked = tokio::time::timeout(LOOK_MAX, looked).await.ok()?.ok()?;
        Some(Arc::clone(&looked.looked.1))
    }

    /// Falls silent, and leaves everything to another process of this node, which speaks on in its place; `None` when that
    /// cannot be. Members are to notice nothing, so the other one must not wait long; until it speaks, or [`Self::resume`]
    /// is called, this node answers nobody.
    pub async fn pause(&self) -> Option<Estate> {
        self.wishes.send_modify(|wishes| wishes.silent = true);
        let mut status = self.status.clone();
        let fell = tokio::time::timeout(PAUSE_MAX, status.wait_for(|status| status.silent)).await;
        fell.ok()?.ok()?;
        self.estate.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Speaks on, as no other process of this node does. Changes nothing for one that is not silent.
    pub fn resume(&self) {
        self.wishes.send_if_modified(|wishes| std::mem::take(&mut wishes.silent));
    }

    /// Says good-bye, so that nobody takes the silence for a crash, and stops. Takes [`LEAVE_MAX`] at most.
    pub async fn leave(&self) {
        self.wishes.send_modify(|wishes| wishes.leave = true);
        let mut status = self.status.clone();
        let _late = tokio::time::timeout(LEAVE_MAX, status.wait_for(|status| status.left)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::time::timeout;

    use crate::gossip::agent::{Agent, DEFAULT_LISTEN};
    use crate::gossip::voice::{Ends, Wishes};
    use crate::model::endpoint::Catalog;
    use crate::model::snapshot::{GossipKeys, GossipPass};
    use crate::net::task;

    fn begin(speak: impl FnOnce(Ends) + Send + 'static) -> Agent {
        let pass = GossipPass {
            node: "host-1".parse().unwrap(),
            key: String::new(),
            not_after_ms: 0,
            signature: String::new(),
            issuer: String::new(),
        };
        let keys = GossipKeys { ring: Vec::new(), seeds: Vec::new() };
        let wishes = Wishes {
            said: None,
            keys,
            pass,
            roots: Vec::new(),
            banned: [].into(),
            bans: None,
            leave: false,
            silent: false,
            advertise: Ipv4Addr::LOCALHOST.into(),
            look: 0,
        };
        Agent::begin(DEFAULT_LISTEN, Catalog::default(), wishes, speak).unwrap()
    }

    #[tokio::test]
    async fn a_thread_that_panics_has_failed() {
        let agent = begin(|_| panic!("as a bug would"));

        timeout(Duration::from_secs(10), agent.failed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_gives_up_has_failed() {
        let agent = begin(|ends| ends.status.send_modify(|status| status.left = true));

        timeout(Duration::from_secs(10), agent.failed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_leaves_when_it_is_told_to_has_not_failed() {
        let agent = begin(|mut ends| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(ends.wishes.wait_for(|wishes| wishes.leave)).unwrap();
            ends.status.send_modify(|status| status.left = true);
        });
        let failed = task::spawn("failed", agent.failed());

        agent.leave().await;
        tokio::task::yield_now().await;

        assert!(!failed.is_finished());
        failed.abort();
    }
}
