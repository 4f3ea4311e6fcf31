//! Counts of traffic by edge: written by the workers, each into its own shard, and added up when read.
//!
//! A worker asks its [`Shard`] for the [`EdgeCell`] of an edge, and records into it: a lock that nobody else wants but
//! once a second, and no allocation on the common path. The number of series is bounded: further ones are counted under
//! [`EdgeKey::overflow`].
//!
//! [`METRICS`] is the table of everything the program exposes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;

use crate::logic::metric::asked;
use crate::logic::metric::report::{EdgeCounts, EdgeDelta, EdgeKey, EdgeRef, ProxyStatus};
use crate::logic::metric::total::EdgeTotal;
use crate::telemetry::dns::{OUTCOMES, Questions};
use crate::telemetry::process::Usage;

/// Most series of one process: about 10 MB of totals.
pub const SERIES_MAX: usize = 10_000;
/// A series that nobody holds is forgotten after as many calls of [`Registry::take_deltas`] without news: 10 minutes at
/// one a second.
pub const IDLE_TAKES_MAX: u32 = 600;

/// How one request, or one connection, ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// HTTP status; 0 where there was none.
    pub status: u16,
    /// gRPC status, where the call was gRPC and had one.
    pub grpc_status: Option<u16>,
    /// Failure token, where this proxy made the answer.
    pub reason: Option<&'static str>,
    /// Whether it counts as failed: 5xx, a server's gRPC status, a reset, a failure of ours.
    pub failed: bool,
    /// Whether an intention refused it.
    pub denied: bool,
    /// The rule that refused it, or, with `true`, would have.
    pub rule: Option<(&'a str, bool)>,
    /// Method and path of a request.
    pub asked: Option<(&'a str, &'a str)>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// To the end of the response head (HTTP), of the whole connection (TCP).
    pub latency_us: u64,
    /// Body bytes from the caller that [`EdgeCell::transferred`] did not count.
    pub bytes_sent: u64,
    /// Body bytes to the caller that [`EdgeCell::transferred`] did not count.
    pub bytes_received: u64,
}

/// Every count of the process.
#[derive(Debug, Default)]
pub struct Registry {
    shared: Arc<Shared>,
    shards: Mutex<Vec<Weak<Shard>>>,
}

#[derive(Debug, Default)]
struct Shared {
    series: Mutex<BTreeMap<EdgeKey, Series>>,
    overflows: AtomicU64,
    unrouted: AtomicU64,
}

#[derive(Debug, Default)]
struct Series {
    total: EdgeTotal,
    /// Counted and not taken yet.
    pending: EdgeCounts,
    idle_takes: u32,
}

/// One worker's part of the registry: only that worker writes.
#[derive(Debug)]
pub struct Shard {
    shared: Arc<Shared>,
    hasher: RandomState,
    cells: Mutex<Cells>,
}

/// By the hash of the key, so that a borrowed key finds its cell.
type Cells = HashMap<u64, Vec<(EdgeKey, Arc<EdgeCell>)>, RandomState>;

/// One worker's counts for one edge. May be kept for as long as the shard lives: nothing recorded here is lost.
#[derive(Debug, Default)]
pub struct EdgeCell(Mutex<EdgeCounts>);

/// No value here can be left half-written by a panic, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Makes one without series.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Makes the shard of one more worker. What was counted there outlives it.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard {
            shared: self.shared.clone(),
            hasher: RandomState::default(),
            cells: Mutex::default(),
        });
        lock(&self.shards).push(Arc::downgrade(&shard));
        shard
    }

    /// Returns what was counted since the last call, sorted by key, without the edges where nothing was.
    ///
    /// To be called once a second, by one caller: it also lets idle series go.
    pub fn take_deltas(&self) -> Vec<EdgeDelta> {
        self.collect();
        let mut deltas = Vec::new();
        lock(&self.shared.series).retain(|key, series| {
            let counts = std::mem::take(&mut series.pending);
            if counts.is_empty() {
                series.idle_takes += 1;
                return series.idle_takes < IDLE_TAKES_MAX || series.total.open() > 0;
            }
            series.idle_takes = 0;
            deltas.push(EdgeDelta { key: key.clone(), counts });
            true
        });
        deltas
    }

    /// Returns all that was counted since each series began, sorted by key.
    pub fn totals(&self) -> Vec<(EdgeKey, EdgeTotal)> {
        self.collect();
        lock(&self.shared.series).iter().map(|(key, series)| (key.clone(), series.total.clone())).collect()
    }

    /// Returns how often an edge was asked for that found no room, and was counted under [`EdgeKey::overflow`].
    pub fn overflows(&self) -> u64 {
        self.shared.overflows.load(Ordering::Relaxed)
    }

    /// Returns how many requests were answered without a service that they could be counted for.
    pub fn unrouted(&self) -> u64 {
        self.shared.unrouted.load(Ordering::Relaxed)
    }

    /// Moves what the workers counted into the series.
    fn collect(&self) {
        let shards: Vec<_> = {
            let mut shards = lock(&self.shards);
            shards.retain(|shard| shard.strong_count() > 0);
            shards.iter().filter_map(Weak::upgrade).collect()
        };
        for shard in shards {
            shard.collect();
        }
    }
}

impl Shared {
    /// Makes room for `key`, or returns the key to count it under.
    fn admit(&self, key: &EdgeKey) -> EdgeKey {
        let mut series = lock(&self.series);
        if series.contains_key(key) || series.len() < SERIES_MAX {
            series.entry(key.clone()).or_default();
            return key.clone();
        }
        self.overflows.fetch_add(1, Ordering::Relaxed);
        let key = key.overflow();
        series.entry(key.clone()).or_default();
        key
    }
}

impl Shard {
    /// Counts a request that was answered without a service that it could be counted for.
    pub fn unrouted(&self) {
        self.shared.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns where to count calls on the edge `key`.
    pub fn edge(&self, key: &EdgeKey) -> Arc<EdgeCell> {
        self.edge_ref(key.as_ref())
    }

    /// Returns where to count calls on the edge `key`; copies it the first time only.
    pub fn edge_ref(&self, key: EdgeRef<'_>) -> Arc<EdgeCell> {
        let find = |cells: &Cells, hash, key| {
            let same: &Vec<_> = cells.get(&hash)?;
            same.iter()
                .find(|(other, _): &&(EdgeKey, _)| other.as_ref() == key)
                .map(|(_, cell)| Arc::clone(cell))
        };
        let mut cells = lock(&self.cells);
        if let Some(cell) = find(&cells, self.hasher.hash_one(key), key) {
            return cell;
        }
        let admitted = self.shared.admit(&key.to_key());
        let hash = self.hasher.hash_one(admitted.as_ref());
        find(&cells, hash, admitted.as_ref()).unwrap_or_else(|| {
            let cell = Arc::<EdgeCell>::default();
            cells.entry(hash).or_default().push((admitted, cell.clone()));
            cell
        })
    }

    /// Moves what was counted into the series.
    fn collect(&self) {
        let mut cells = lock(&self.cells);
        let mut series = lock(&self.shared.series);
        let mut collect = |key: &EdgeKey, cell: &Arc<EdgeCell>| {
            let counts = std::mem::take(&mut *lock(&cell.0));
            // Nobody can take a new hold of it while the shard is locked.
            let held = Arc::strong_count(cell) > 1;
            if counts.is_empty() {
                return held || series.get(key).is_some_and(|series| series.idle_takes + 1 < IDLE_TAKES_MAX);
            }
            let series = series.entry(key.clone()).or_default();
            series.total.add(&counts);
            series.pending.merge(&counts);
            true
        };
        cells.retain(|_, same| {
            same.retain(|(key, cell)| collect(key, cell));
            !same.is_empty()
        });
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.collect();
    }
}

impl EdgeCell {
    /// Counts a connection or stream that was opened.
    pub fn opened(&self) {
        lock(&self.0).opened += 1;
    }

    /// Counts a connection or stream that was closed.
    pub fn closed(&self) {
        lock(&self.0).closed += 1;
    }

    /// Counts bytes of something that still goes on.
    pub fn transferred(&self, sent: u64, received: u64) {
        let mut counts = lock(&self.0);
        counts.bytes_sent += sent;
        counts.bytes_received += received;
    }

    /// Counts a request or connection that ended.
    pub fn record(&self, outcome: &Outcome<'_>) {
        let mut counts = lock(&self.0);
        if counts.requests == 0
            && let Some(kind) = outcome.asked.and_then(|(method, path)| asked::kind(method, path))
        {
            counts.asked.insert(kind, 1);
        }
        counts.requests += 1;
        counts.failures += u64::from(outcome.failed);
        counts.denied += u64::from(outcome.denied);
        counts.retries += u64::from(outcome.retries);
        counts.bytes_sent += outcome.bytes_sent;
        counts.bytes_received += outcome.bytes_received;
        *counts.statuses.entry(outcome.status).or_default() += 1;
        if let Some(status) = outcome.grpc_status {
            *counts.grpc_statuses.entry(status).or_default() += 1;
        }
        if let Some(reason) = outcome.reason {
            match counts.reasons.get_mut(reason) {
                Some(count) => *count += 1,
                None => _ = counts.reasons.insert(reason.to_owned(), 1),
            }
        }
        if let Some((rule, audited)) = outcome.rule {
            let counts = if audited { &mut counts.audited } else { &mut counts.denials };
            match counts.get_mut(rule) {
                Some(count) => *count += 1,
                None => _ = counts.insert(rule.to_owned(), 1),
            }
        }
        counts.latency.record(outcome.latency_us);
    }
}

// --- the table ------------------------------------------------------------------------------------------------------

/// What a number means over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process restarts or the series was idle for ten minutes.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Counts by upper limit, with their sum.
    Histogram,
}

/// Takes the values of a metric's own labels, in order, and the number.
pub type Emit<'a> = dyn FnMut(&[&dyn Display], &dyn Display) + 'a;

/// Where the numbers of a metric are read, and so the labels that stand before its own.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// From every edge: `side, source, destination, protocol, route, node`.
    Edge(fn(&EdgeTotal, &mut Emit<'_>)),
    /// From every edge: its latencies, as a histogram.
    Latency,
    /// From every proxy: `node`.
    Proxy(fn(&ProxyStatus, &mut Emit<'_>)),
    /// From the process that is asked: none.
    Process(fn(&Process<'_>, &mut Emit<'_>)),
}

/// A metric as Prometheus sees it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// With the unit last, `_total` on counters.
    pub name: &'static str,
    /// What its number means.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// Its own labels.
    pub labels: &'static [&'static str],
    /// Where it is read.
    pub source: Source,
}

/// The process that exposes metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process<'a> {
    /// Version of its executable.
    pub build: &'a str,
    /// Its start, Unix milliseconds.
    pub started_ms: u64,
    /// What it uses.
    pub usage: Usage,
    /// Edges that found no room for a series.
    pub series_overflows: u64,
    /// Requests without a service that they could be counted for.
    pub unrouted: u64,
    /// Access records dropped.
    pub access_dropped: u64,
    /// Tasks that panicked.
    pub panics: u64,
    /// Questions that its name server was asked.
    pub questions: Questions,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    source: Source,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, help, labels, source }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    source: Source,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, help, labels, source }
}

/// Every metric of the program. The golden signals are named as Linkerd's; who calls whom is labelled as Istio does.
pub const METRICS: &[Metric] = &[
    counter(
        "mesh_requests_total",
        &["status"],
        Source::Edge(|edge, emit| edge.statuses.iter().for_each(|(status, count)| emit(&[status], count))),
        "Requests (HTTP, gRPC) and connections (TCP) that ended, by HTTP status; 0 where there was none.",
    ),
    counter(
        "mesh_request_failures_total",
        &[],
        Source::Edge(|edge, emit| emit(&[], &edge.failures)),
        "Of these, the ones that failed: 5xx, a gRPC status that is the server's fault, a reset, a failure of the mesh.",
    ),
    counter(
        "mesh_grpc_responses_total",
        &["grpc_status"],
        Source::Edge(|edge, emit| {
            edge.grpc_statuses.iter().for_each(|(status, count)| emit(&[status], count));
        }),
        "gRPC calls that ended, by gRPC status.",
    ),
    counter(
        "mesh_failure_replies_total",
        &["reason"],
        Source::Edge(|edge, emit| edge.reasons.iter().for_each(|(reason, count)| emit(&[reason], count))),
        "Answers that a proxy made because it could not get one, by failure token.",
    ),
    counter(
        "mesh_retries_total",
        &[],
        Source::Edge(|edge, emit| emit(&[], &edge.retries)),
        "Attempts beyond the first.",
    ),
    counter(
        "mesh_denied_total",
        &["rule"],
        Source::Edge(|edge, emit| {
            edge.denials.iter().for_each(|(rule, count)| emit(&[rule], count));
            if edge.denials.is_empty() {
                emit(&[&""], &edge.denied);
            }
        }),
        "Calls that intentions refused, by the rule that did.",
    ),
    counter(
        "mesh_audited_total",
        &["rule"],
        Source::Edge(|edge, emit| edge.audited.iter().for_each(|(rule, count)| emit(&[rule], count))),
        "Calls that went through and would have been refused, were it enforced, by the rule.",
    ),
    Metric {
        name: "mesh_request_duration_seconds",
        kind: Kind::Histogram,
        help: "Time to the end of the response head (HTTP, gRPC), of the whole connection (TCP).",
        labels: &[],
        source: Source::Latency,
    },
    counter(
        "mesh_connections_opened_total",
        &[],
        Source::Edge(|edge, emit| emit(&[], &edge.opened)),
        "Connections and streams opened.",
    ),
    counter(
        "mesh_connections_closed_total",
        &[],
        Source::Edge(|edge, emit| emit(&[], &edge.closed)),
        "Connections and streams closed.",
    ),
    counter(
        "mesh_bytes_total",
        &["direction"],
        Source::Edge(|edge, emit| {
            emit(&[&"sent"], &edge.bytes_sent);
            emit(&[&"received"], &edge.bytes_received);
        }),
        "Body bytes: sent by the caller, received by the caller.",
    ),
    gauge(
        "mesh_identity_expiry_timestamp_seconds",
        &["subject"],
        Source::Proxy(|proxy, emit| {
            proxy.identities.iter().for_each(|one| emit(&[&one.subject], &seconds(one.not_after_ms)));
        }),
        "End of validity of a certificate in use, Unix time.",
    ),
    counter(
        "mesh_identity_renewals_total",
        &["subject"],
        Source::Proxy(|proxy, emit| {
            proxy.identities.iter().for_each(|one| emit(&[&one.subject], &one.renewals));
        }),
        "Renewals of a certificate since the proxy started.",
    ),
    gauge(
        "mesh_revision",
        &[],
        Source::Proxy(|proxy, emit| emit(&[], &proxy.revision)),
        "Revision of the configuration in force.",
    ),
    gauge(
        "mesh_endpoint_ejected",
        &["service", "endpoint"],
        Source::Proxy(|proxy, emit| {
            proxy.ejected.iter().for_each(|one| emit(&[&one.service, &one.node], &1));
        }),
        "1 for each endpoint that the proxy avoids for failing.",
    ),
    gauge(
        "mesh_build_info",
        &["version"],
        Source::Process(|process, emit| emit(&[&process.build], &1)),
        "1, labelled with the version.",
    ),
    counter(
        "mesh_series_overflows_total",
        &[],
        Source::Process(|process, emit| emit(&[], &process.series_overflows)),
        "Edges that found no room for a series of their own and are counted as other.overflow.",
    ),
    counter(
        "mesh_requests_unrouted_total",
        &[],
        Source::Process(|process, emit| emit(&[], &process.unrouted)),
        "Requests refused by this proxy that are no HTTP, or name no service of the mesh: they belong to no edge.",
    ),
    counter(
        "mesh_access_log_dropped_total",
        &[],
        Source::Process(|process, emit| emit(&[], &process.access_dropped)),
        "Access records dropped because the log was too slow.",
    ),
    counter(
        "mesh_task_panics_total",
        &[],
        Source::Process(|process, emit| emit(&[], &process.panics)),
        "Tasks that ended by a bug.",
    ),
    counter(
        "mesh_dns_queries_total",
        &["result"],
        Source::Process(|process, emit| {
            for (outcome, count) in OUTCOMES.iter().zip(process.questions) {
                emit(&[&outcome.label()], &count);
            }
        }),
        "Questions to the name server of a proxy, by what became of them.",
    ),
    gauge(
        "process_resident_memory_bytes",
        &[],
        Source::Process(|process, emit| emit(&[], &process.usage.memory_bytes)),
        "Resident memory.",
    ),
    counter(
        "process_cpu_seconds_total",
        &[],
        Source::Process(|process, emit| emit(&[], &seconds(process.usage.cpu_ms))),
        "CPU time of user and system.",
    ),
    gauge(
        "process_open_fds",
        &[],
        Source::Process(|process, emit| emit(&[], &process.usage.descriptors)),
        "Open file descriptors.",
    ),
    gauge(
        "process_start_time_seconds",
        &[],
        Source::Process(|process, emit| emit(&[], &seconds(process.started_ms))),
        "Start of the process, Unix time.",
    ),
];

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
