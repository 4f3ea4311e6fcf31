//! The thread of gossip: carries packets and exchanges between the sockets and the machine in `logic::gossip::cluster`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, watch};

use crate::gossip::bans::{self, Enclosure};
use crate::gossip::pass::{Checker, Credential, ISSUERS_MAX};
use crate::gossip::seal::{Refused, Ring, SEALED_BYTES_MAX, Seal};
use crate::gossip::socket::{self, Error};
use crate::logic::bans::is_newer;
use crate::logic::gossip::catalog::{Entry, NODES_MAX};
use crate::logic::gossip::cluster::Cluster;
use crate::logic::gossip::contact::Draws;
use crate::logic::gossip::sync::Answer;
use crate::logic::gossip::wire::{Identity, Statement, decode, encode};
use crate::model::endpoint::{Announcement, Catalog, NodeRecord, Reach, Role};
use crate::model::identity::TrustDomain;
use crate::model::name::{NodeName, ZoneName};
use crate::model::resource::Revision;
use crate::model::snapshot::{BanList, GossipKeys, GossipPass};
use crate::net::{clock, task};

/// Most exchanges begun at once; others wait.
pub(crate) const ASKING_MAX: usize = 8;
/// More than a process says that was given this node's voice and did not keep it.
const LENT_VERSIONS: u64 = 1 << 20;
/// With how many members everything is exchanged when a new list of bans is known here.
const BANS_FANOUT: usize = 3;
/// Within which time: all that hear of it at once from control must not meet at once.
const BANS_SPREAD: Duration = Duration::from_millis(300);
/// Most packets taken in a row before timers are looked at.
const PACKETS_IN_A_ROW: usize = 64;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the planes want of the thread: the newest state counts, so nothing queues.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) said: Option<Said>,
    pub(crate) keys: GossipKeys,
    pub(crate) pass: GossipPass,
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) banned: BTreeSet<NodeName>,
    /// The newest list of bans that the planes know of.
    pub(crate) bans: Option<Arc<BanList>>,
    pub(crate) leave: bool,
    /// Whether another process of this node speaks.
    pub(crate) silent: bool,
    /// Where others reach this node; the port is the one bound.
    pub(crate) advertise: IpAddr,
    /// Counts the looks asked for at how members are reached.
    pub(crate) look: u64,
}

/// What the thread has reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) ready: bool,
    pub(crate) left: bool,
    /// Whether nothing is said nor heard: the legacy is there to be taken.
    pub(crate) silent: bool,
    pub(crate) peers: Vec<SocketAddr>,
    /// The last look at how members are reached, with its number.
    pub(crate) looked: (u64, Arc<Reach>),
}

/// What a process that goes on in this one's place needs to speak as the same member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legacy {
    /// Who speaks: the same process, as others see it.
    pub me: Identity,
    /// The last version of what it said of itself.
    pub version: u64,
    /// Distinguishes the packets of this process from those of the one before.
    pub salt: [u8; 4],
    /// What it says of itself.
    pub said: Option<Said>,
    /// All that it knows of others, with the certificates to check it: postcard in base64.
    pub known: String,
}

/// A [`Legacy`] with the sockets that it is about.
#[derive(Debug)]
pub struct Estate {
    /// What is known.
    pub legacy: Legacy,
    /// Packets.
    pub udp: std::net::UdpSocket,
    /// Exchanges.
    pub tcp: std::net::TcpListener,
}

/// The revision of the list of bans that each member had when this node last asked it.
pub(crate) type Heard = Mutex<BTreeMap<NodeName, Revision>>;

/// What the thread counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) unknown_key: AtomicU64,
    pub(crate) forged: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) exchanges: AtomicU64,
    pub(crate) exchanges_failed: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The node that speaks.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) node: NodeName,
    pub(crate) role: Role,
    pub(crate) trust_domain: TrustDomain,
    /// Seeds besides those that come with the keys.
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) credential: Credential,
    pub(crate) seal: Seal,
    pub(crate) checker: Checker,
    pub(crate) cluster: Cluster,
    /// The last version of what this node said of itself.
    pub(crate) version: u64,
    /// The newest list of bans, told to members that know an older one.
    pub(crate) bans: Option<Arc<BanList>>,
    /// The salt of these packets; the next is for whoever goes on in this process' place.
    pub(crate) salt: [u8; 4],
}

impl Speaker {
    /// Says what this node says, or its good-bye.
    pub(crate) fn announce(&mut self, said: Said, left: bool) {
        let me = self.cluster.me().clone();
        let mut services = if left { Vec::new() } else { said.services };
        services.sort_by(|a, b| (&a.service, a.port).cmp(&(&b.service, b.port)));
        self.version += 1;
        let record = NodeRecord {
            node: self.node.clone(),
            epoch: me.epoch,
            version: self.version,
            role: self.role,
            addr: said.addr,
            zone: said.zone,
            build: said.build,
            draining: said.draining,
            services,
        };
        let signed = self.credential.sign(&Statement { record, left });
        match Entry::read(signed) {
            Ok(entry) if left => self.cluster.leave(entry, clock::now()),
            Ok(entry) => self.cluster.announce(entry, clock::now()),
            Err(error) => tracing::error!(%error, "this node's services cannot be announced"),
        }
    }

    /// Takes over what the process before this one knew.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn inherit(&mut self, known: &str) -> Result<(), Error> {
        let malformed = |_| crate::logic::gossip::wire::Error::Malformed;
        let bytes = BASE64.decode(known.as_bytes()).map_err(malformed)?;
        let (answer, _): (Answer, _) = self.unpack(&bytes)?;
        let (checker, now_ms) = (&mut self.checker, clock::wall_ms());
        let mut judge = |signed: &_, node: &_| checker.check(signed, node, now_ms);
        Ok(self.cluster.inherit(answer, &mut judge, clock::now())?)
    }

    /// Leaves everything to another process of this node, which is to use a salt of its own.
    fn bequeath(&mut self, said: Option<Said>) -> Legacy {
        self.salt = u32::from_be_bytes(self.salt).wrapping_add(1).to_be_bytes();
        let known = self.parcel(self.cluster.bequeath(clock::now()), Some(0));
        Legacy {
            me: self.cluster.me().clone(),
            version: self.version,
            salt: self.salt,
            said,
            known: BASE64.encode(&known),
        }
    }

    /// Packs a message with the certificates needed to check the records in it, and with the list of bans for whoever is
    /// known to have that of an older revision, `theirs`.
    pub(crate) fn parcel<T: Serialize>(&self, message: T, theirs: Option<Revision>) -> Vec<u8> {
        let mut enclosed = self.checker.issuers();
        // Last: those that do not know what this is take it for a certificate that nobody vouches for.
        enclosed.push(bans::enclose(self.bans.as_deref(), theirs));
        encode(&(enclosed, message))
    }

    /// Unpacks a message, and takes what came with it; returns also the revision of the list of bans that its sender has,
    /// `None` when that does not say.
    pub(crate) fn unpack<T: DeserializeOwned>(
        &mut self,
        bytes: &[u8],
    ) -> Result<(T, Option<Revision>), Error> {
        let (enclosed, message): (Vec<Vec<u8>>, T) = decode(bytes)?;
        let mut theirs = None;
        for enclosed in enclosed.iter().take(ISSUERS_MAX + 1) {
            match bans::disclose(enclosed) {
                Some(Enclosure::At(revision)) => theirs = Some(revision),
                Some(Enclosure::List(list)) => {
                    theirs = Some(list.revision);
                    self.hear_bans(list);
                }
                None => _ = self.checker.admit(enclosed, clock::wall_ms()),
            }
        }
        Ok((message, theirs))
    }

    /// Takes a list of bans that a member has told, if it is newer than the one known, and the authority's own.
    fn hear_bans(&mut self, list: BanList) {
        if !is_newer(&list, self.bans.as_deref()) {
            return;
        }
        if bans::is_genuine(&list, &self.checker, &self.trust_domain, clock::wall_ms()) {
            self.bans = Some(Arc::new(list));
        } else {
            tracing::warn!(
                revision = list.revision,
                "a member told of bans that no control plane has signed"
            );
        }
    }
}

/// How the thread and the planes hear of each other.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) wishes: watch::Receiver<Wishes>,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) status: watch::Sender<Status>,
    /// The newest list of bans.
    pub(crate) bans: watch::Sender<Option<Arc<BanList>>>,
    pub(crate) tally: Arc<Tally>,
    /// What a process that goes on in this one's place gets, while this one is silent.
    pub(crate) estate: Arc<Mutex<Option<Estate>>>,
    pub(crate) heard: Arc<Heard>,
}

/// All that the tasks of the thread share.
pub(crate) struct Voice {
    pub(crate) speaker: RefCell<Speaker>,
    /// The wishes carried out.
    done: RefCell<Wishes>,
    spoken_epoch: RefCell<u64>,
    /// With whom an exchange is under way that this node began.
    pub(crate) asking: RefCell<BTreeSet<SocketAddr>>,
    /// From where those come that this node answers; one entry for each.
    pub(crate) answering: RefCell<Vec<IpAddr>>,
    pub(crate) tally: Arc<Tally>,
    /// When each member last began an exchange with this node.
    pub(crate) called: RefCell<BTreeMap<NodeName, Instant>>,
    /// When a packet last came from each address: what opens was sealed by a member.
    pub(crate) heard_from: RefCell<BTreeMap<SocketAddr, Instant>>,
    pub(crate) heard: Arc<Heard>,
    /// Since when this thread speaks.
    pub(crate) began: Instant,
    /// Whether the catalogue must be told again though nothing in it has changed: others are left out of it.
    tell_again: Cell<bool>,
    /// Wakes the loop after an exchange.
    pub(crate) changed: Notify,
}

/// The thread: a runtime of its own, until told to leave or nobody holds the agent any more.
pub(crate) fn speak(speaker: Speaker, mut ends: Ends, udp: std::net::UdpSocket, tcp: std::net::TcpListener) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            runtime.block_on(async {
                match socket::adopt(udp, tcp) {
                    Ok((udp, tcp)) => run(speaker, &mut ends, udp, tcp).await,
                    Err(error) => tracing::error!(%error, "gossip lost its sockets"),
                }
            });
            // Closes what exchanges hold, so that the port is free once this node is said to have left.
            drop(runtime);
        }
        Err(error) => tracing::error!(%error, "gossip has no runtime"),
    }
    ends.status.send_modify(|status| status.left = true);
}

/// Speaks until told to leave, or until nobody holds the agent any more.
async fn run(speaker: Speaker, ends: &mut Ends, udp: UdpSocket, tcp: TcpListener) {
    let done = ends.wishes.borrow_and_update().clone();
    let voice = Rc::new(Voice {
        spoken_epoch: RefCell::new(speaker.cluster.me().epoch),
        speaker: RefCell::new(speaker),
        asking: RefCell::default(),
        answering: RefCell::default(),
        tally: Arc::clone(&ends.tally),
        tell_again: Cell::new(false),
        called: RefCell::default(),
        heard_from: RefCell::default(),
        heard: Arc::clone(&ends.heard),
        began: clock::now(),
        changed: Notify::new(),
        done: RefCell::new(done.clone()),
    });
    if done.said.is_some() {
        voice.announce(false);
    }
    loop {
        let next = voice.drain(&udp, ends);
        if voice.speaker.borrow().cluster.is_gone() {
            return;
        }
        tokio::select! {
            biased;
            changed = ends.wishes.changed() => match changed {
                Ok(()) => {
                    let looks = voice.done.borrow().look;
                    voice.obey(&ends.wishes.borrow_and_update().clone());
                    let wanted = voice.done.borrow().look;
                    if wanted != looks {
                        voice.look(wanted, &ends.status);
                    }
                    if voice.done.borrow().silent && voice.rest(ends, (&udp, &tcp)).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            },
            readable = udp.readable() => if readable.is_ok() { voice.hear(&udp) },
            accepted = tcp.accept() => match accepted {
                Ok((stream, from)) => voice.answer_on(stream, from.ip()),
                // Out of descriptors, most likely: the timers must go on, and the next accept waits for one of them.
                Err(error) => {
                    tracing::debug!(%error, "gossip could not accept");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            () = voice.changed.notified() => {}
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}

impl Voice {
    /// Does what is due and carries out what the machine wants. Returns when something is due next.
    fn drain(self: &Rc<Self>, udp: &UdpSocket, ends: &Ends) -> Instant {
        let now = clock::now();
        let mut speaker = self.speaker.borrow_mut();
        if speaker.cluster.poll_timeout() <= now {
            speaker.cluster.handle_timeout(now);
        }
        let epoch = speaker.cluster.me().epoch;
        if self.spoken_epoch.replace(epoch) != epoch {
            tracing::info!(
                "this node goes on as a later process: another one spoke as it, or its address has changed"
            );
            drop(speaker);
            self.announce(false);
            speaker = self.speaker.borrow_mut();
        }
        while let Some(transmit) = speaker.cluster.poll_transmit() {
            if let Some(packet) = speaker.seal.seal(&transmit.payload) {
                // A full socket buffer loses the packet, as the network may.
                if udp.try_send_to(&packet, transmit.to).is_ok() {
                    count(&self.tally.sent);
                }
            }
        }
        while self.asking.borrow().len() < ASKING_MAX
            && let Some(with) = speaker.cluster.poll_exchange()
        {
            self.ask(with);
        }
        self.tell_bans(&speaker, ends);
        let again = self.tell_again.take();
        let catalog = speaker.cluster.poll_catalog(now).or_else(|| again.then(|| speaker.cluster.view()));
        if let Some(mut catalog) = catalog {
            catalog.members.retain(|node, _| !speaker.checker.banned().contains(node));
            ends.catalog.send_replace(Arc::new(catalog));
            let peers = speaker.cluster.peers();
            ends.status.send_if_modified(|status| {
                let changed = status.peers != peers;
                status.peers = peers;
                changed
            });
        }
        // Whoever hears that it is ready finds the catalogue as it then is.
        if speaker.cluster.is_ready() && speaker.cluster.is_told() {
            ends.status.send_if_modified(|status| !std::mem::replace(&mut status.ready, true));
        }
        speaker.cluster.poll_timeout()
    }

    /// Tells the planes of a newer list of bans; and others soon, when other nodes are on it.
    fn tell_bans(self: &Rc<Self>, speaker: &Speaker, ends: &Ends) {
        let Some(newest) = &speaker.bans else { return };
        let mut is_news = false;
        ends.bans.send_if_modified(|told| {
            let counts = is_newer(newest, told.as_deref());
            if counts {
                is_news = told.as_ref().map_or(&[][..], |told| &told.nodes) != newest.nodes;
                *told = Some(Arc::clone(newest));
            }
            counts
        });
        if !is_news {
            return;
        }
        tracing::info!(revision = newest.revision, banned = newest.nodes.len(), "other nodes are banned");
        let mut peers = speaker.cluster.peers();
        Draws::new(rand::random()).choose(&mut peers, BANS_FANOUT);
        for with in peers {
            let voice = Rc::clone(self);
            task::spawn_local("gossip bans", async move {
                tokio::time::sleep(BANS_SPREAD.mul_f64(rand::random_range(0.0..1.0))).await;
                voice.ask(with);
            });
        }
    }

    /// Takes the packets that wait.
    fn hear(&self, udp: &UdpSocket) {
        let mut buffer = [0; SEALED_BYTES_MAX + 1];
        for _ in 0..PACKETS_IN_A_ROW {
            let Ok((length, from)) = udp.try_recv_from(&mut buffer) else { return };
            let Some(packet) = buffer.get_mut(..length) else { return };
            count(&self.tally.received);
            let speaker = &mut *self.speaker.borrow_mut();
            let (now, now_ms) = (clock::now(), clock::wall_ms());
            let checker = &mut speaker.checker;
            match speaker.seal.open(packet) {
                Ok(payload) => {
                    let mut heard = self.heard_from.borrow_mut();
                    if heard.len() >= NODES_MAX && !heard.contains_key(&from) {
                        // Of members that have moved, mostly: those that are there speak again within seconds.
                        heard.clear();
                    }
                    heard.insert(from, now);
                    let mut judge = |signed: &_, node: &_| checker.check(signed, node, now_ms);
                    if speaker.cluster.handle_packet(from, payload, &mut judge, now).is_err() {
                        count(&self.tally.malformed);
                    }
                }
                Err(Refused::UnknownKey) => count(&self.tally.unknown_key),
                Err(Refused::Forged) => count(&self.tally.forged),
                Err(Refused::Replayed) => count(&self.tally.replayed),
                Err(Refused::Malformed) => count(&self.tally.malformed),
            }
        }
    }

    /// Carries out what the planes want.
    fn obey(&self, wishes: &Wishes) {
        let done = self.done.replace(wishes.clone());
        let now = clock::now();
        {
            let speaker = &mut *self.speaker.borrow_mut();
            let me = speaker.cluster.me().addr;
            if wishes.advertise != done.advertise && wishes.advertise != me.ip() {
                speaker.cluster.relocate(SocketAddr::new(wishes.advertise, me.port()), now);
            }
            if wishes.keys != done.keys {
                match Ring::new(&wishes.keys, &speaker.trust_domain) {
                    Ok(ring) => speaker.seal.rekey(ring),
                    Err(error) => tracing::error!(%error, "new gossip keys refused: the old ones stay"),
                }
                let seeds: Vec<_> = speaker.seeds.iter().chain(&wishes.keys.seeds).copied().collect();
                speaker.cluster.set_seeds(&seeds, now);
            }
            if wishes.roots != done.roots {
                speaker.checker.trust(wishes.roots.clone(), clock::wall_ms());
                speaker.checker.admit(speaker.credential.issuer(), clock::wall_ms());
            }
            if wishes.banned != done.banned {
                speaker.checker.ban(wishes.banned.clone());
                self.tell_again.set(true);
            }
            if let Some(list) = wishes.bans.as_ref().filter(|list| is_newer(list, speaker.bans.as_deref())) {
                speaker.bans = Some(Arc::clone(list));
            }
            if wishes.pass != done.pass {
                match speaker.credential.renew(&speaker.node, &wishes.pass) {
                    Ok(()) => {
                        speaker.checker.admit(speaker.credential.issuer(), clock::wall_ms());
                    }
                    Err(error) => tracing::error!(%error, "new gossip pass refused: the old one stays"),
                }
            }
        }
        if wishes.leave {
            if !done.leave {
                self.announce(true);
            }
        } else if wishes.said.is_some() && (wishes.said != done.said || wishes.pass != done.pass) {
            self.announce(false);
        }
    }

    /// Leaves everything to another process of this node, and says and hears nothing until it is told to go on.
    ///
    /// # Errors
    /// When nobody holds the agent any more.
    async fn rest(
        &self,
        ends: &mut Ends,
        (udp, tcp): (&UdpSocket, &TcpListener),
    ) -> Result<(), watch::error::RecvError> {
        let said = self.done.borrow().said.clone();
        let sockets =
            udp.as_fd().try_clone_to_owned().and_then(|udp| Ok((udp, tcp.as_fd().try_clone_to_owned()?)));
        match sockets {
            Ok((udp, tcp)) => {
                let legacy = self.speaker.borrow_mut().bequeath(said);
                let estate = Estate { legacy, udp: udp.into(), tcp: tcp.into() };
                *ends.estate.lock().unwrap_or_else(PoisonError::into_inner) = Some(estate);
            }
            Err(error) => tracing::warn!(%error, "the gossip sockets cannot be handed over"),
        }
        ends.status.send_modify(|status| status.silent = true);
        while self.done.borrow().silent {
            ends.wishes.changed().await?;
            self.obey(&ends.wishes.borrow_and_update().clone());
        }
        *ends.estate.lock().unwrap_or_else(PoisonError::into_inner) = None;
        ends.status.send_modify(|status| status.silent = false);
        // Whatever the other one said: this is newer.
        self.speaker.borrow_mut().version += LENT_VERSIONS;
        self.announce(false);
        Ok(())
    }

    /// Says what this node says, or its good-bye.
    fn announce(&self, left: bool) {
        let speaker = &mut *self.speaker.borrow_mut();
        let said = self.done.borrow().said.clone();
        let said = match said {
            Some(said) => said,
            None if left => {
                let (build, services) = (String::new(), Vec::new());
                Said { addr: speaker.cluster.me().addr, zone: None, build, draining: true, services }
            }
            None => return,
        };
        speaker.announce(said, left);
    }
}
