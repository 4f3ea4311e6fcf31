//! Tells every control plane, once a second, what this proxy counted since that one last accepted a report.
//!
//! A report is sent again, under the same number, until it is accepted or refused, so it counts once. What is counted
//! meanwhile is merged: for each control plane there is one report on its way and one map of counts, never a queue.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::logic::metric::report::{EdgeCounts, EdgeDelta, EdgeKey, EjectedEndpoint, ProxyStatus, Report};
use crate::logic::metric::rollup::Rollup;
use crate::logic::metric::view::ViewInput;
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::view::{EVENTS_MAX, EventView, IdentityStatus, MeshView};
use crate::net::clock;
use crate::telemetry::metric::{Registry, SERIES_MAX};
use crate::telemetry::process;

/// How often counts are taken.
const TICK: Duration = Duration::from_secs(1);
/// An answer that takes longer is given up, and the report sent again.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last reports may take at shutdown.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// A refusal for the same reason is logged again after this time.
const REFUSED_AGAIN: Duration = Duration::from_mins(10);
/// Most edges in one report, so that its body stays below a megabyte or so; the rest follows as soon as it is accepted.
const REPORT_EDGES_MAX: usize = 2_000;

/// Where the proxy's own status comes from.
pub struct Sources {
    /// This node.
    pub node: NodeName,
    /// Version of the executable.
    pub build: String,
    /// Start of the process, Unix milliseconds; also the epoch of its reports.
    pub started_ms: u64,
    /// The revision in force.
    pub revision: Box<dyn Fn() -> Revision + Send + Sync>,
    /// The certificates held.
    pub identities: Box<dyn Fn() -> Vec<IdentityStatus> + Send + Sync>,
    /// The endpoints put aside.
    pub ejected: Box<dyn Fn() -> Vec<EjectedEndpoint> + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("node", &self.node)
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Returns the proxy as it is now.
    pub fn status(&self) -> ProxyStatus {
        let usage = process::usage();
        ProxyStatus {
            build: self.build.clone(),
            started_ms: self.started_ms,
            now_ms: clock::wall_ms(),
            revision: (self.revision)(),
            memory_bytes: usage.memory_bytes,
            cpu_ms: usage.cpu_ms,
            descriptors: usage.descriptors,
            identities: (self.identities)(),
            ejected: (self.ejected)(),
        }
    }
}

/// This proxy's own view of its traffic, for its admin API: its reports, merged as control merges them.
#[derive(Debug, Default)]
pub struct Local(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    rollup: Rollup,
    /// The newest last; at most [`EVENTS_MAX`].
    events: VecDeque<EventView>,
}

impl Local {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report of this proxy.
    pub fn add(&self, node: &NodeName, report: &Report, now_ms: u64) {
        let mut seen = self.lock();
        for event in seen.rollup.add(node, report, now_ms) {
            if seen.events.len() >= EVENTS_MAX {
                seen.events.pop_front();
            }
            seen.events.push_back(event);
        }
    }

    /// Returns the mesh as this proxy sees it; its events follow those of `input`.
    pub fn view(&self, mut input: ViewInput<'_>) -> MeshView {
        let seen = self.lock();
        input.events.extend(seen.events.iter().cloned());
        seen.rollup.view(&input)
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Accepted,
    /// It will never be taken, for this reason: it is dropped.
    Refused(String),
    /// Nobody knows: it is sent again.
    Lost,
}

/// Sends a report to the control plane at an address (`host:port`).
pub type Carry = Box<dyn Fn(String, Report) -> BoxFuture<'static, Delivery> + Send + Sync>;

/// What the reporter needs.
pub struct Config {
    /// What was counted.
    pub registry: Arc<Registry>,
    /// The proxy's own status.
    pub sources: Arc<Sources>,
    /// Also told every report.
    pub local: Arc<Local>,
    /// The control planes' API addresses, as far as they are known.
    pub controls: watch::Receiver<Vec<String>>,
    /// How a report is sent.
    pub send: Carry,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// One control plane, and what it has not been told.
#[derive(Debug)]
struct Target {
    /// Not in a report yet; at most [`SERIES_MAX`] edges.
    pending: BTreeMap<EdgeKey, EdgeCounts>,
    /// Since when `pending` is counted.
    since: Instant,
    /// Built and not accepted yet.
    unaccepted: Option<Unaccepted>,
    sending: bool,
    sequence: u64,
    /// Whether its last report was lost: a change is logged once.
    lost: bool,
    /// Why its last report was refused, and when that was logged.
    refused: Option<(String, Instant)>,
}

#[derive(Debug)]
struct Unaccepted {
    report: Report,
    since: Instant,
}

type Sends = FuturesUnordered<BoxFuture<'static, (String, Delivery)>>;

/// Reports until `shutdown`, then once more.
pub async fn run(mut config: Config, shutdown: impl Future<Output = ()>) {
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    let mut sends = Sends::new();
    let mut local_sequence = 0;
    let mut taken = clock::now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(shutdown);
    let mut going = true;
    while going {
        tokio::select! {
            () = &mut shutdown => going = false,
            _ = ticks.tick() => {}
            Some((address, delivery)) = sends.next() => {
                if let Some(target) = targets.get_mut(&address) {
                    let accepted = delivery == Delivery::Accepted;
                    target.settle(&address, delivery);
                    if accepted && !target.pending.is_empty() {
                        config.send_next(&address, target, &mut sends);
                    }
                }
                continue;
            }
        }
        config.follow_controls(&mut targets);
        let now = clock::now();
        let deltas = config.registry.take_deltas();
        for target in targets.values_mut() {
            target.add(&deltas);
        }
        local_sequence += 1;
        let report = config.report(local_sequence, now.duration_since(taken), deltas);
        config.local.add(&config.sources.node, &report, clock::wall_ms());
        taken = now;
        for (address, target) in &mut targets {
            config.send_next(address, target, &mut sends);
        }
    }
    let rest = async { while sends.next().await.is_some() {} };
    _ = tokio::time::timeout(GOODBYE_TIMEOUT, rest).await;
}

impl Config {
    fn report(&self, sequence: u64, covers: Duration, edges: Vec<EdgeDelta>) -> Report {
        Report {
            epoch: self.sources.started_ms,
            sequence,
            covers_ms: u64::try_from(covers.as_millis()).unwrap_or(u64::MAX),
            edges,
            proxy: self.sources.status(),
        }
    }

    /// Makes the targets those that are known now. A new one is told first what is open.
    fn follow_controls(&mut self, targets: &mut BTreeMap<String, Target>) {
        let controls = self.controls.borrow_and_update().clone();
        targets.retain(|address, _| controls.contains(address));
        for address in controls {
            targets.entry(address).or_insert_with(|| Target::new(&self.registry));
        }
    }

    /// Sends the report that was not accepted, or the next one, unless one is on its way.
    fn send_next(&self, address: &str, target: &mut Target, sends: &mut Sends) {
        if target.sending {
            return;
        }
        let now = clock::now();
        let unaccepted = target.unaccepted.get_or_insert_with(|| {
            let rest = match target.pending.keys().nth(REPORT_EDGES_MAX).cloned() {
                Some(key) => target.pending.split_off(&key),
                None => BTreeMap::new(),
            };
            let edges = std::mem::replace(&mut target.pending, rest);
            let edges = edges.into_iter().map(|(key, counts)| EdgeDelta { key, counts }).collect();
            target.sequence += 1;
            let since = target.since;
            if target.pending.is_empty() {
                target.since = now;
            }
            Unaccepted { report: self.report(target.sequence, Duration::ZERO, edges), since }
        });
        let mut report = unaccepted.report.clone();
        report.covers_ms =
            u64::try_from(now.duration_since(unaccepted.since).as_millis()).unwrap_or(u64::MAX);
        target.sending = true;
        let address = address.to_owned();
        let send = (self.send)(address.clone(), report);
        sends.push(Box::pin(async move {
            let delivery = tokio::time::timeout(SEND_TIMEOUT, send).await;
            (address, delivery.unwrap_or(Delivery::Lost))
        }));
    }
}

impl Target {
    fn new(registry: &Registry) -> Self {
        let open = registry.totals().into_iter().filter(|(_, total)| total.open() > 0);
        let pending =
            open.map(|(key, total)| (key, EdgeCounts { opened: total.open(), ..EdgeCounts::default() }));
        Self {
            pending: pending.collect(),
            since: clock::now(),
            unaccepted: None,
            sending: false,
            sequence: 0,
            lost: false,
            refused: None,
        }
    }

    fn add(&mut self, deltas: &[EdgeDelta]) {
        for delta in deltas {
            if let Some(counts) = self.pending.get_mut(&delta.key) {
                counts.merge(&delta.counts);
                continue;
            }
            let room = self.pending.len() < SERIES_MAX;
            let key = if room { delta.key.clone() } else { delta.key.overflow() };
            self.pending.entry(key).or_default().merge(&delta.counts);
        }
    }

    fn settle(&mut self, address: &str, delivery: Delivery) {
        self.sending = false;
        match delivery {
            Delivery::Accepted => {
                self.unaccepted = None;
                if self.lost || self.refused.take().is_some() {
                    tracing::info!(control = address, "reports arrive again");
                }
                self.lost = false;
            }
            Delivery::Refused(reason) => {
                self.unaccepted = None;
                self.refuse(address, reason);
            }
            Delivery::Lost => {
                if !self.lost {
                    tracing::warn!(control = address, "report lost, its counts will follow");
                }
                self.lost = true;
            }
        }
    }

    /// Says why reports are refused: when the reason changes, and now and then.
    fn refuse(&mut self, address: &str, reason: String) {
        let now = clock::now();
        let known = |(last, at): &(String, Instant)| *last == reason && now - *at < REFUSED_AGAIN;
        if self.refused.as_ref().is_some_and(known) {
            tracing::debug!(control = address, reason, "report still refused");
        } else {
            tracing::warn!(control = address, reason, "reports are refused");
            self.refused = Some((reason, now));
        }
    }
}
