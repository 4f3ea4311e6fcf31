//! Finds out how this host stands, for `mesh check`: asks the control plane, tries the other members, looks at the rules for
//! interception and at the disk.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::api::client::Client;
use crate::api::host::{
    ControlAnswer, ControlStatus, DiskStatus, HostStatus, InterceptionStatus, NamesStatus, RulesStatus,
    Unready, ahead_ms,
};
use crate::gossip::agent::Agent;
use crate::identity::certificate::{Certificate, sha256};
use crate::identity::vault::STATE_DIR;
use crate::logic::compile::Policy;
use crate::logic::intercept::{Mode, TABLE};
use crate::logic::naming::zone::Zone;
use crate::model::snapshot::Snapshot;
use crate::net::{clock, disk, nft};
use crate::proxy::membership;
use crate::proxy::names::Names;
use crate::proxy::reporter::Sources;
use crate::proxy::ways;
use crate::telemetry::process;

/// How long control may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long what was found is good for: whoever asks, the host is not examined more often.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The interception at work: how, and what its rules are called after.
pub(crate) type Intercepting = Option<(Mode, String)>;

/// What control tells this node.
#[derive(Debug)]
pub(crate) struct Told {
    /// Where it answers.
    pub(crate) controls: watch::Receiver<Vec<String>>,
    pub(crate) policies: watch::Receiver<Arc<Policy>>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Why this node cannot call others.
    pub(crate) doubt: watch::Receiver<Option<String>>,
}

/// What it looks at.
#[derive(Debug)]
pub(crate) struct Examiner {
    agent: Arc<Agent>,
    sources: Arc<Sources>,
    client: Client,
    told: Told,
    zone: watch::Receiver<Arc<Zone>>,
    names: Vec<SocketAddr>,
    interception: watch::Receiver<Intercepting>,
    data_dir: PathBuf,
    last: Mutex<Option<(Instant, Arc<HostStatus>)>>,
}

impl Examiner {
    /// Begins with what a proxy is made of.
    pub(crate) fn new(
        (agent, client, sources): (Arc<Agent>, Client, Arc<Sources>),
        told: Told,
        names: &Names,
        interception: watch::Receiver<Intercepting>,
        data_dir: PathBuf,
    ) -> Self {
        let (zone, names) = (names.zone.clone(), names.addrs.clone());
        let last = Mutex::default();
        Self { agent, sources, client, told, zone, names, interception, data_dir, last }
    }

    /// Finds out how the host stands, or returns what was found a moment ago. One at a time; takes some seconds when
    /// somebody does not answer.
    pub(crate) async fn examine(&self, unready: Vec<Unready>) -> Arc<HostStatus> {
        let mut last = self.last.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < GOOD_FOR
        {
            return found.clone();
        }
        let (control, reach, interception) =
            tokio::join!(self.control(), self.agent.look(), self.interception());
        let found = Arc::new(HostStatus {
            node: self.sources.node.clone(),
            build: self.sources.build.clone(),
            unready,
            excluded: self.excluded(),
            control,
            reach: reach.map(|reach| reach.as_ref().clone()),
            names: self.names(interception.is_some()),
            interception,
            identities: (self.sources.identities)(),
            disk: self.disk(),
            descriptors: process::usage().descriptors,
            descriptors_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        });
        *last = Some((clock::now(), found.clone()));
        found
    }

    /// Asks the control plane who it is and what its clock says.
    async fn control(&self) -> ControlStatus {
        let (asked_ms, asked) = (clock::wall_ms(), clock::now());
        let answered = timeout(ANSWER_MAX, self.client.status()).await;
        let round_trip_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answered = match answered {
            Ok(answered) => answered.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {ANSWER_MAX:?}")),
        };
        let addresses = self.told.controls.borrow().clone();
        match answered {
            Ok(status) => {
                let ahead_ms = ahead_ms(status.now_ms, asked_ms, round_trip_ms);
                let answer =
                    ControlAnswer { node: status.node, build: status.build, ahead_ms, round_trip_ms };
                ControlStatus { addresses, answer: Some(answer), error: None, ahead_ms: Some(ahead_ms) }
            }
            Err(error) => {
                let ahead_ms = self.ahead_ms(addresses.clone()).await;
                ControlStatus { addresses, answer: None, error: Some(error), ahead_ms }
            }
        }
    }

    /// Compares the clocks by a connection for which the root's key alone counts: where they differ by so much that the
    /// certificates of one seem expired to the other, no other connection comes about.
    async fn ahead_ms(&self, controls: Vec<String>) -> Option<i64> {
        let roots = membership::roots(&self.told.snapshots.borrow()).ok()?;
        let pins = roots.iter().filter_map(|root| Some(sha256(&Certificate::parse(root).ok()?.public)));
        for pin in pins.collect::<Vec<_>>() {
            let client = Client::timing(controls.clone(), pin);
            if let Ok(Ok(ahead_ms)) = timeout(ANSWER_MAX, client.ahead_ms()).await {
                return Some(ahead_ms);
            }
        }
        None
    }

    /// Returns why others take this node for no member, or it takes them for none.
    fn excluded(&self) -> Option<String> {
        let banned = self.told.policies.borrow().exclusion();
        banned.or_else(|| self.told.doubt.borrow().clone())
    }

    async fn interception(&self) -> Option<InterceptionStatus> {
        let (mode, instance) = self.interception.borrow().clone()?;
        let (rules, error) = match nft::table(TABLE).await {
            Ok(Some(text)) if text.contains(&instance) => (RulesStatus::Own, None),
            Ok(Some(_)) => (RulesStatus::Foreign, None),
            Ok(None) => (RulesStatus::Missing, None),
            Err(error) => (RulesStatus::Unknown, Some(error.to_string())),
        };
        let mode = if mode == Mode::Strict { "strict" } else { "on" };
        let way = ways::missing().into_iter().next().filter(|_| !ways::open_ways().0);
        let way = way.map(|words| format!("ip {}", words.join(" ")));
        Some(InterceptionStatus { mode: mode.to_owned(), rules, error, way })
    }

    /// Names a service and the addresses that the host's own resolver should find for it.
    fn names(&self, is_intercepting: bool) -> NamesStatus {
        let (policy, zone) = (self.told.policies.borrow().clone(), self.zone.borrow().clone());
        let with_address = |(name, _)| Some((name, zone.address(name)?));
        let found = policy.services().filter(|_| is_intercepting).find_map(with_address);
        let example = found.map(|(name, address)| {
            let v6 = ways::open_ways().1.then_some(IpAddr::V6(address.v6));
            (name.clone(), [Some(IpAddr::V4(address.v4)), v6].into_iter().flatten().collect())
        });
        NamesStatus { listen: self.names.clone(), example }
    }

    fn disk(&self) -> DiskStatus {
        if self.data_dir.join(STATE_DIR).is_dir() {
            return DiskStatus::of(&self.data_dir, disk::room(&self.data_dir));
        }
        let gone = io::Error::other("its state was removed while the proxy ran");
        DiskStatus::of(&self.data_dir, Err(gone))
    }
}
