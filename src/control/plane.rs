//! All parts of a running control plane, as its tasks and handlers share them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::api::nodes::Spread;
use crate::control::authority::Authority;
use crate::control::collector::Collector;
use crate::control::fleet::Fleet;
use crate::control::inquiries::Inquiries;
use crate::control::programs::Programs;
use crate::control::publisher::Publisher;
use crate::control::store::{Committed, Store, SubmitError};
use crate::control::timeline;
use crate::control::transitions::Transitions;
use crate::gossip::agent::Agent;
use crate::logic::metric::view::ViewInput;
use crate::logic::state::Change;
use crate::model::endpoint::{Catalog, Member, MemberState, Reach, Role};
use crate::model::identity::{Subject, TrustDomain};
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::view::MeshView;
use crate::net::clock;

/// A view is computed at most once in this time, however many watch, milliseconds.
const VIEW_FRESH_MS: u64 = 250;

/// How long a look at how members are reached is good for.
const REACH_FRESH: Duration = Duration::from_secs(1);

/// How long proxies may take to acknowledge what is to be in force at once: one that hangs holds nobody up.
const IN_FORCE_MAX: Duration = Duration::from_secs(2);
/// How long connected proxies may take to acknowledge a list of bans until they are told by gossip too.
const TELL_AFTER: Duration = Duration::from_millis(300);
const IN_FORCE_LOOK: Duration = Duration::from_millis(10);

/// The parts.
#[derive(Debug)]
pub struct Plane {
    /// This node.
    pub node: NodeName,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// `host:port` under which other hosts reach the API.
    pub advertised: String,
    /// When this process started, Unix milliseconds.
    pub started_ms: u64,
    /// What is remembered.
    pub store: Store,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// What proxies are given.
    pub publisher: Publisher,
    /// Which proxies are here.
    pub fleet: Arc<Fleet>,
    /// What they run.
    pub programs: Arc<Programs>,
    /// What proxies told.
    pub collector: Collector,
    /// Since when conditions of routes hold.
    pub transitions: Arc<Transitions>,
    /// What proxies are asked.
    pub inquiries: Arc<Inquiries>,
    /// Who and what is where.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// What it says to the other members, and hears of them; `None` for one that stands alone.
    pub gossip: Option<Arc<Agent>>,
    /// The last look at how gossip reaches the members, and when it ended.
    pub reached: tokio::sync::Mutex<Option<(Instant, Arc<Reach>)>>,
    /// Becomes true when the control plane stops.
    pub closing: watch::Receiver<bool>,
    /// Told when a snapshot waits to be restored: the control plane begins again with it.
    pub restoring: Notify,
    /// The last view that was computed, and when: watchers share it.
    pub shown: Mutex<Option<(u64, Bytes)>>,
}

impl Plane {
    /// Carries out a command and puts what it did on the timeline; it is on disk, and in the newest snapshot, when this
    /// returns.
    pub async fn submit(&self, change: Change) -> Result<Committed, SubmitError> {
        self.submit_for(String::new(), change).await
    }

    /// As [`Self::submit`], for somebody: who is named in histories and on the timeline.
    pub async fn submit_for(&self, by: String, change: Change) -> Result<Committed, SubmitError> {
        let committed = self.store.submit_for(by.clone(), change).await?;
        timeline::tell(&self.collector.events, &committed.events, &by);
        self.publisher.update(&self.store.state());
        Ok(committed)
    }

    /// Waits until every proxy that is connected, but for `about`, has a revision in force, a moment at most: then they act on
    /// it even if this control plane ends now.
    pub async fn in_force(&self, revision: Revision, about: &NodeName) {
        let deadline = clock::now() + IN_FORCE_MAX;
        let is_behind =
            |(node, acked): (NodeName, Option<Revision>)| node != *about && acked < Some(revision);
        while clock::now() < deadline && self.fleet.connected().into_iter().any(is_behind) {
            tokio::time::sleep(IN_FORCE_LOOK).await;
        }
    }

    /// Waits until every proxy that is there, but for `about`, has heard who is banned as of a revision: from this control plane
    /// or by gossip; a moment at most. Returns who has, and who has not.
    pub async fn spread(&self, revision: Revision, about: &NodeName) -> Spread {
        let deadline = clock::now() + IN_FORCE_MAX;
        let mut spread = self.spread_so_far(revision, about);
        let first = spread.clone();
        let mut look = std::pin::pin!(self.tell_apart(&first));
        let mut is_telling = true;
        while !spread.unheard.is_empty() && clock::now() < deadline {
            tokio::select! {
                () = &mut look, if is_telling => is_telling = false,
                () = tokio::time::sleep(IN_FORCE_LOOK) => {}
            }
            spread = self.spread_so_far(revision, about);
        }
        spread
    }

    /// Tells by gossip those who do not hear of it from this control plane. A look tries every member; the word on bans alone
    /// would go to a few at first, and what those pass on is not seen here.
    async fn tell_apart(&self, spread: &Spread) {
        let Some(gossip) = &self.gossip else { return };
        let connected = self.fleet.connected();
        if spread.unheard.iter().all(|node| connected.contains_key(node)) {
            // Mostly all of them answer at once; what is left then may be connected in name alone.
            tokio::time::sleep(TELL_AFTER).await;
        }
        if let Some(list) = self.publisher.newest().snapshot.bans.clone() {
            gossip.tell_bans(list);
        }
        gossip.look().await;
    }

    fn spread_so_far(&self, revision: Revision, about: &NodeName) -> Spread {
        let snapshot = self.publisher.newest();
        let listed = snapshot.snapshot.bans.as_ref().map_or(Revision::MAX, |list| list.revision);
        let connected = self.fleet.connected();
        let told = self.gossip.as_ref().map(|gossip| gossip.heard_bans()).unwrap_or_default();
        let has_heard = |node: &NodeName| {
            connected.get(node).is_some_and(|acked| *acked >= Some(revision))
                || told.get(node).is_some_and(|told| *told >= listed)
        };
        let is_there = |member: &Member| {
            matches!(member.state, MemberState::Alive | MemberState::Suspect)
                && member.record.as_ref().is_none_or(|record| record.role == Role::Proxy)
        };
        let catalog = Arc::clone(&self.catalog.borrow());
        let members = catalog.members.iter().filter(|(_, member)| is_there(member)).map(|(node, _)| node);
        let there: BTreeSet<&NodeName> = members.chain(connected.keys()).collect();
        let is_told = |node: &&NodeName| {
            *node != about && **node != self.node && !snapshot.snapshot.banned.contains(node)
        };
        let (heard, unheard) = there.into_iter().filter(is_told).cloned().partition(has_heard);
        Spread { revision, heard, unheard }
    }

    /// Finds out how gossip reaches the members and they this control plane, or returns what was found a moment ago: one look at
    /// a time, whoever asks. `None` when it could not be found out in time.
    pub async fn reach(&self) -> Option<Arc<Reach>> {
        let mut last = self.reached.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < REACH_FRESH
        {
            return Some(Arc::clone(found));
        }
        let found = self.gossip.as_ref()?.look().await?;
        *last = Some((clock::now(), Arc::clone(&found)));
        Some(found)
    }

    /// Returns whether a node has said good-bye, or nothing has been heard of it for long enough that another host may take
    /// its name.
    pub fn is_gone(&self, node: &NodeName) -> bool {
        let catalog = self.catalog.borrow();
        let is_there = match catalog.members.get(node).map(|member| member.state) {
            Some(MemberState::Alive | MemberState::Suspect) => true,
            // Its last report comes after its good-bye, and says nothing against it.
            Some(MemberState::Left) => self.fleet.is_connected(node),
            None | Some(MemberState::Dead) => self.fleet.is_present(node),
        };
        *node != self.node && !is_there
    }

    /// Returns the mesh as it is now, or was a moment ago, as a line of JSON.
    pub fn view_line(&self) -> Bytes {
        let now_ms = clock::wall_ms();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at_ms, line)) = &*shown
            && now_ms.saturating_sub(*at_ms) < VIEW_FRESH_MS
        {
            return line.clone();
        }
        let mut line = serde_json::to_vec(&self.view()).unwrap_or_default();
        line.push(b'\n');
        let line = Bytes::from(line);
        *shown = Some((now_ms, line.clone()));
        line
    }

    /// Computes the mesh as it is now.
    pub fn view(&self) -> MeshView {
        let snapshot = Arc::clone(&self.publisher.newest());
        let catalog = Arc::clone(&self.catalog.borrow());
        let mut view = self.collector.view(ViewInput {
            observer: Subject::Control(self.node.clone()),
            mesh: &self.trust_domain,
            now_ms: clock::wall_ms(),
            revision: snapshot.revision(),
            catalog: &catalog,
            fleet: self.fleet.entries(),
            resources: &snapshot.snapshot.resources,
            events: Vec::new(),
        });
        let state = self.store.state();
        for node in &mut view.nodes {
            node.removed = !state.nodes().contains_key(&node.name);
        }
        view
    }
}
