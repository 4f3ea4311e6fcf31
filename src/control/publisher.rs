//! The snapshot that every proxy is given: made once for each revision that concerns them, the newest wins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use data_encoding::BASE64;
use tokio::sync::watch;

use crate::control::authority::Authority;
use crate::logic::defaults;
use crate::logic::state::State;
use crate::model::identity::TrustDomain;
use crate::model::resource::{Resource, Revision};
use crate::model::snapshot::{BanList, GossipKeys, Snapshot};

/// A snapshot and its one serialisation.
#[derive(Debug)]
pub struct Published {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Its JSON and a line feed.
    pub line: Bytes,
}

impl Published {
    /// Returns its revision.
    pub fn revision(&self) -> Revision {
        self.snapshot.revision
    }
}

/// What a snapshot says besides the state.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// Whom to trust, and who signs the list of bans.
    pub authority: Arc<Authority>,
    /// `host:port` of this control plane's API.
    pub advertised: String,
    /// This control plane's gossip.
    pub gossip: SocketAddr,
}

/// Makes the snapshot of a state, without the list of bans for nodes to tell each other.
pub fn snapshot(state: &State, around: &Surroundings) -> Snapshot {
    let default_action = state.mesh().map(|mesh| mesh.default_action).unwrap_or_default();
    Snapshot {
        revision: state.policy_revision(),
        trust_domain: around.trust_domain.clone(),
        bundle: around.authority.bundle().iter().map(|der| BASE64.encode(der)).collect(),
        resources: state.resources().values().map(|resource| told(resource)).collect(),
        default_action,
        mode: state.mesh().map(|mesh| mesh.mode).unwrap_or_default(),
        gossip: GossipKeys {
            ring: state.gossip().iter().map(|key| (key.id, key.key.clone())).collect(),
            seeds: vec![around.gossip],
        },
        banned: state.banned().keys().cloned().collect(),
        bans: None,
        draining: state.draining().keys().cloned().collect(),
        controls: vec![around.advertised.clone()],
    }
}

/// Returns an object as proxies are told of it, those of other versions too.
fn told(resource: &Resource) -> Resource {
    let mut told = resource.clone();
    defaults::unfill(&mut told);
    told
}

/// Publishes the newest snapshot.
#[derive(Debug)]
pub struct Publisher {
    around: Surroundings,
    newest: watch::Sender<Arc<Published>>,
    /// Held while a snapshot is made: each list of bans follows from the one before.
    turn: Mutex<()>,
}

impl Publisher {
    /// Begins with the snapshot of `state`.
    pub fn new(around: Surroundings, state: &State) -> Self {
        let first = publish(signed(snapshot(state, &around), &around.authority, None));
        Self { around, newest: watch::Sender::new(Arc::new(first)), turn: Mutex::default() }
    }

    /// Returns the newest snapshot.
    pub fn newest(&self) -> Arc<Published> {
        Arc::clone(&self.newest.borrow())
    }

    /// Makes the snapshot that a state would have, and publishes nothing.
    pub fn preview(&self, state: &State) -> Snapshot {
        Snapshot { bans: self.newest().snapshot.bans.clone(), ..snapshot(state, &self.around) }
    }

    /// Follows the snapshots: the newest wins, those between may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.newest.subscribe()
    }

    /// Publishes the snapshot of `state`, unless proxies have nothing to hear.
    pub fn update(&self, state: &State) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.borrow().revision() >= state.policy_revision() {
            return;
        }
        let last = self.newest().snapshot.bans.clone();
        let next = signed(snapshot(state, &self.around), &self.around.authority, last);
        let next = Arc::new(publish(next));
        self.newest.send_replace(Arc::clone(&next));
        tracing::info!(revision = next.revision(), bytes = next.line.len(), "snapshot published");
    }

    /// Follows the store until it ends.
    pub async fn run(&self, mut states: watch::Receiver<Arc<State>>) {
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            self.update(&state);
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Adds the list of bans for nodes to tell each other: the `last` one, as long as it is right.
fn signed(snapshot: Snapshot, authority: &Authority, last: Option<BanList>) -> Snapshot {
    let issuer = BASE64.encode(&authority.intermediate());
    let bans = match last {
        Some(last) if last.nodes == snapshot.banned && last.issuer == issuer => Ok(last),
        Some(_) | None => authority.bans(snapshot.revision, &snapshot.banned),
    };
    if let Err(error) = &bans {
        tracing::error!(%error, "the list of bans is not signed: only connected proxies know who is banned");
    }
    Snapshot { bans: bans.ok(), ..snapshot }
}

fn publish(snapshot: Snapshot) -> Published {
    let mut line = serde_json::to_vec(&snapshot).expect("a snapshot has text keys and no foreign serialiser");
    line.push(b'\n');
    Published { snapshot, line: line.into() }
}
