//! A node's voice in the gossip: joins, announces, leaves, and publishes what is known of everyone.
//!
//! It runs on a thread of its own, so that a busy data plane cannot make its neighbours look dead.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::gossip::pass::Signer;
use crate::model::endpoint::{Announcement, Catalog, Role};
use crate::model::identity::TrustDomain;
use crate::model::name::{NodeName, ZoneName};
use crate::model::snapshot::{GossipKeys, GossipPass};

/// Longest time that [`Agent::leave`] takes.
pub const LEAVE_MAX: Duration = Duration::from_secs(1);

/// Why gossip could not start. Nothing runs afterwards.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours: choose another, or port 0.
    #[error("gossip cannot listen on {addr}: {source}")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ring of keys is empty, too long or damaged: ask control again.
    #[error("the gossip keys are unusable: {0}")]
    Keys(&'static str),
    /// The pass is damaged, or not for this node and key: renew it.
    #[error("the gossip pass is unusable: {0}")]
    Pass(&'static str),
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
    /// Where to listen, UDP and TCP on the same port; 0 takes a free one.
    pub listen: SocketAddr,
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
    /// Members known by an earlier process of this node, as [`Agent::peers`] gave them.
    pub known_peers: Vec<SocketAddr>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Where other proxies reach its services by mutual TLS; for control, its API.
    pub addr: SocketAddr,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
    /// Version of the mesh executable.
    pub build: String,
    /// Whether it asks for no new work.
    pub draining: bool,
    /// Its service instances, in any order.
    pub services: Vec<Announcement>,
}

/// The running gossip of one node. Dropping it stops the gossip without a word, as a crash would.
#[derive(Debug)]
pub struct Agent {
    local_addr: SocketAddr,
    wishes: watch::Sender<Wishes>,
    catalog: watch::Receiver<Arc<Catalog>>,
    status: watch::Receiver<Status>,
}

/// What the planes want of the agent's thread: the newest state counts, so nothing queues.
#[derive(Debug, Clone)]
struct Wishes {
    said: Option<Said>,
    keys: GossipKeys,
    pass: GossipPass,
    roots: Vec<Vec<u8>>,
    leave: bool,
}

/// What the agent's thread has reached.
#[derive(Debug, Clone, Default)]
struct Status {
    ready: bool,
    left: bool,
    peers: Vec<SocketAddr>,
}

impl Agent {
    /// Binds the sockets and starts the thread; joining goes on in the background (see [`Self::ready`]).
    ///
    /// # Errors
    /// When the address cannot be bound, or keys or pass are unusable.
    pub fn start(config: Config) -> Result<Self, Error> {
        let (catalog_tx, catalog) = watch::channel(Arc::new(Catalog::default()));
        let (status_tx, status) = watch::channel(Status::default());
        let (wishes, _) = watch::channel(Wishes {
            said: None,
            keys: config.keys,
            pass: config.pass,
            roots: config.roots,
            leave: false,
        });
        drop((catalog_tx, status_tx));
        Ok(Self { local_addr: config.listen, wishes, catalog, status })
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

    /// Replaces the ring of keys: the first seals from now on, all open.
    pub fn rekey(&self, keys: GossipKeys) {
        self.wishes.send_if_modified(|wishes| std::mem::replace(&mut wishes.keys, keys.clone()) != keys);
    }

    /// Replaces the pass, after a renewal.
    pub fn repass(&self, pass: GossipPass) {
        self.wishes.send_if_modified(|wishes| std::mem::replace(&mut wishes.pass, pass.clone()) != pass);
    }

    /// Replaces the root certificates (DER), while they are rolled over.
    pub fn trust(&self, roots: Vec<Vec<u8>>) {
        self.wishes.send_if_modified(|wishes| std::mem::replace(&mut wishes.roots, roots.clone()) != roots);
    }

    /// Returns the gossip addresses of the members that are there, to be kept for the next start. Sorted.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.status.borrow().peers.clone()
    }

    /// Waits until the catalogue is as complete as it can be: exchanged with one member, or no seed could be reached.
    pub async fn ready(&self) {
        let mut status = self.status.clone();
        let _gone = status.wait_for(|status| status.ready || status.left).await;
    }

    /// Says good-bye, so that nobody takes the silence for a crash, and stops. Takes [`LEAVE_MAX`] at most.
    pub async fn leave(self) {
        self.wishes.send_modify(|wishes| wishes.leave = true);
        let mut status = self.status.clone();
        let _late = tokio::time::timeout(LEAVE_MAX, status.wait_for(|status| status.left)).await;
    }
}
