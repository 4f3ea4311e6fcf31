//! What a control plane is among the others: its own certificate, kept fresh, and its voice in the gossip.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::control::authority::{self, Authority, Wish};
use crate::control::enrollment::own_subject;
use crate::control::plane::Plane;
use crate::control::store::{Store, SubmitError};
use crate::control::timeline;
use crate::gossip::agent::{self, Agent, Said};
use crate::gossip::pass::{self, Signer};
use crate::identity::key::{self, Key};
use crate::identity::svid::{self, Svid};
use crate::identity::tls::ApiAcceptor;
use crate::identity::wallet::Wallet;
use crate::logic::state::record::Issuance;
use crate::logic::state::{Change, rotation};
use crate::model::endpoint::{Catalog, Role};
use crate::model::identity::{BACKDATE_MS, Subject, TrustDomain};
use crate::model::name::NodeName;
use crate::model::snapshot::GossipKeys;
use crate::net::clock;
use crate::net::disk;

/// How often it is looked whether the gossip keys must be changed, or the members' addresses kept.
const KEEP_EVERY: Duration = Duration::from_mins(1);
/// How often it is looked whether a certificate must be renewed: the time of day may jump past its end, and then nobody can
/// renew until this control plane has.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const SIGNER_ROW: &[u8] = b"gossip/signer";
const PEERS_ROW: &[u8] = b"gossip/peers";

/// Why a control plane cannot take its place among the others.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its authority does not sign.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// Its store.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The rows beside the state.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// Its own certificate makes no SVID.
    #[error("the control plane's own certificate is unusable: {0}")]
    Svid(#[from] svid::Error),
    /// Its serving key.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// Its gossip key.
    #[error(transparent)]
    Pass(#[from] pass::Error),
    /// Its gossip.
    #[error(transparent)]
    Gossip(#[from] agent::Error),
}

// --- the certificate ------------------------------------------------------------------------------------------------

/// The certificate that the API shows. Its key stays the same for the life of the data directory.
pub struct Serving {
    wallets: watch::Sender<Arc<Wallet>>,
    subject: Subject,
    /// Host names and addresses it is good for, besides its identity.
    hosts: Vec<String>,
    /// When it was signed, and when it must be renewed: Unix milliseconds.
    signed_ms: u64,
    renew_ms: u64,
}

impl Serving {
    /// Signs the first certificate of this process.
    pub async fn begin(plane: &Plane, host: &str) -> Result<Self, Error> {
        let mut hosts = vec![host.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        hosts.sort();
        hosts.dedup();
        let subject = own_subject(&plane.node, Role::Control);
        let signed_ms = clock::wall_ms();
        let (wallet, renew_ms) = sign(plane, &subject, &hosts, signed_ms).await?;
        Ok(Self { wallets: watch::Sender::new(Arc::new(wallet)), subject, hosts, signed_ms, renew_ms })
    }

    /// Returns what shakes hands with it, and with those that follow it.
    pub fn acceptor(&self) -> Arc<ApiAcceptor> {
        Arc::new(ApiAcceptor::new(self.wallets.subscribe(), self.subject.clone()))
    }

    /// Renews the certificate, the intermediate that signs it and the gossip pass, each in time, until it is dropped.
    pub async fn keep(mut self, plane: Arc<Plane>, voice: Arc<Voice>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.keep_once(&plane, &voice).await {
                tracing::error!(%error, "cannot renew the control plane's own certificates");
                tokio::time::sleep(KEEP_EVERY).await;
            }
        }
    }

    async fn keep_once(&mut self, plane: &Plane, voice: &Voice) -> Result<(), Error> {
        let now_ms = clock::wall_ms();
        let renewed = plane.authority.renew_intermediate(now_ms)?;
        // One that was signed by a clock that was ahead is valid to nobody.
        let is_early = now_ms.saturating_add(BACKDATE_MS) < self.signed_ms;
        if renewed || is_early || now_ms >= self.renew_ms {
            let (wallet, renew_ms) = sign(plane, &self.subject, &self.hosts, now_ms).await?;
            self.wallets.send_replace(Arc::new(wallet));
            (self.signed_ms, self.renew_ms) = (now_ms, renew_ms);
            voice.repass(plane)?;
            tracing::info!("the control plane's own certificate was renewed");
        }
        Ok(())
    }
}

/// Signs a certificate for the serving key, valid from now on; returns it in a wallet, and when to renew it: at half its life.
///
/// Nobody is banned in that wallet: banned nodes shall be told so by the API, not by a broken handshake.
async fn sign(
    plane: &Plane,
    subject: &Subject,
    hosts: &[String],
    now_ms: u64,
) -> Result<(Wallet, u64), Error> {
    let leaf = plane.authority.sign_serving(&Wish { node: &plane.node, subject, hosts, now_ms })?;
    let (node, not_after_ms) = (plane.node.clone(), leaf.not_after_ms);
    plane
        .submit(Change::Issue(vec![Issuance {
            serial: leaf.serial,
            subject: subject.clone(),
            node,
            not_after_ms,
        }]))
        .await?;
    let key = Arc::new(Key::from_pkcs8(&plane.authority.serving_key())?);
    let svid = Svid::new(leaf.chain, key)?;
    let renew_ms = now_ms + not_after_ms.saturating_sub(now_ms) / 2;
    let wallet = Wallet {
        trust_domain: plane.trust_domain.clone(),
        bundle: plane.authority.bundle().into_iter().map(Into::into).collect(),
        svids: [(subject.clone(), Arc::new(svid))].into(),
        banned: [].into(),
    };
    Ok((wallet, renew_ms))
}

// --- the voice ------------------------------------------------------------------------------------------------------

/// What is needed to speak.
pub struct Place<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// The mesh.
    pub trust_domain: &'a TrustDomain,
    /// Who signs the pass.
    pub authority: &'a Authority,
    /// Where the gossip key and the known peers are kept.
    pub store: &'a Store,
    /// Where to listen; `None` where the host has room.
    pub gossip: Option<SocketAddr>,
    /// What to announce: the API, as others reach it.
    pub api: SocketAddr,
    /// The ring of keys.
    pub keys: GossipKeys,
}

/// The gossip of this control plane.
pub struct Voice {
    agent: Arc<Agent>,
    key: [u8; pass::KEY_BYTES],
    local_addr: SocketAddr,
    catalog: watch::Receiver<Arc<Catalog>>,
}

impl Voice {
    /// Starts to speak, and announces the API.
    pub fn start(place: &Place<'_>) -> Result<Self, Error> {
        let db = place.store.db();
        let signer = if let Some(row) = db.get(SIGNER_ROW)? {
            Signer::from_pkcs8(&row)?
        } else {
            let signer = Signer::generate()?;
            db.put(SIGNER_ROW, &signer.to_pkcs8()?)?;
            signer
        };
        let known_peers =
            db.get(PEERS_ROW)?.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        let key = signer.public_key();
        let now_ms = clock::wall_ms();
        let advertise: IpAddr = place.api.ip();
        let agent = Agent::start(agent::Config {
            node: place.node.clone(),
            role: Role::Control,
            listen: place.gossip,
            advertise,
            epoch_ms: now_ms,
            keys: GossipKeys { seeds: Vec::new(), ..place.keys.clone() },
            pass: place.authority.pass(place.node, &key, now_ms)?,
            signer,
            roots: place.authority.bundle(),
            trust_domain: place.trust_domain.clone(),
            seeds: Vec::new(),
            bans: None,
            known_peers,
            estate: None,
        })?;
        agent.announce(Said {
            addr: place.api,
            zone: None,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            draining: false,
            services: Vec::new(),
        });
        let (local_addr, catalog) = (agent.local_addr(), agent.catalog());
        Ok(Self { agent: Arc::new(agent), key, local_addr, catalog })
    }

    /// Returns the address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns who and what is where.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Returns what speaks.
    pub fn agent(&self) -> Arc<Agent> {
        Arc::clone(&self.agent)
    }

    /// Ends when the gossip has ended without having been told to.
    pub async fn failed(&self) {
        self.agent.failed().await;
    }

    fn repass(&self, plane: &Plane) -> Result<(), Error> {
        let pass = plane.authority.pass(&plane.node, &self.key, clock::wall_ms())?;
        self.agent.repass(pass);
        Ok(())
    }

    /// Keeps the addresses of the members that are there for the next start; a mesh that is all gone is not kept.
    fn keep_peers(&self, store: &Store) {
        let peers = self.agent.peers();
        if peers.is_empty() {
            return;
        }
        let kept = serde_json::to_vec(&peers).map(|row| match store.db().get(PEERS_ROW) {
            Ok(Some(old)) if old == row => Ok(()),
            Ok(_) | Err(_) => store.db().put(PEERS_ROW, &row),
        });
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "cannot keep the addresses of members");
        }
    }

    /// Says good-bye.
    pub async fn leave(&self, store: &Store) {
        self.keep_peers(store);
        self.agent.leave().await;
    }
}

/// Gives the gossip every new ring of keys and list of the banned, and changes the ring when that is due.
pub async fn relay(plane: Arc<Plane>, voice: Arc<Voice>) {
    let mut snapshots = plane.publisher.watch();
    let mut ticks = tokio::time::interval(KEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let snapshot = snapshots.borrow_and_update().snapshot.clone();
        let keys = GossipKeys { seeds: Vec::new(), ..snapshot.gossip.clone() };
        voice.agent.rekey(keys);
        voice.agent.ban(snapshot.banned.iter().cloned().collect());
        if let Some(list) = snapshot.bans.clone() {
            voice.agent.tell_bans(list);
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {
                voice.keep_peers(&plane.store);
                rotate(&plane).await;
            }
        }
    }
}

async fn rotate(plane: &Plane) {
    let state = plane.store.state();
    let settled = plane.fleet.connected().values().all(|acked| *acked == Some(state.policy_revision()));
    let draw = || BASE64.encode(&rand::random::<[u8; 32]>());
    if let Some(change) = rotation::due(state.gossip(), settled, clock::wall_ms(), draw)
        && let Err(error) = plane.submit(change).await
    {
        tracing::error!(%error, "cannot change the gossip keys");
    }
}

/// Puts members that come, go or fall silent on the timeline.
pub async fn tell_members(plane: Arc<Plane>) {
    let mut catalogs = plane.catalog.clone();
    let mut before = Arc::new(Catalog::default());
    loop {
        let after = Arc::clone(&catalogs.borrow_and_update());
        timeline::tell_members(&plane.collector.events, &plane.node, &before, &after);
        before = after;
        if catalogs.changed().await.is_err() {
            return;
        }
    }
}
