//! Counts of traffic by edge: written by the workers, each into its own shard, and added up when read.
//!
//! A worker asks its [`Shard`] for the [`EdgeCell`] of an edge, and records into it: a lock that nobody else wants but
//! once a second, and no allocation on the common path. The number of series is bounded: further ones are counted under
//! [`EdgeKey::overflow`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::logic::metric::report::{EdgeCounts, EdgeDelta, EdgeKey};
use crate::logic::metric::total::EdgeTotal;

/// Most series of one process: about 10 MB of totals.
pub const SERIES_MAX: usize = 10_000;
/// A series that nobody holds is forgotten after as many calls of [`Registry::take_deltas`] without news: 10 minutes at
/// one a second.
pub const IDLE_TAKES_MAX: u32 = 600;

/// How one request, or one connection, ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
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
    cells: Mutex<HashMap<EdgeKey, Arc<EdgeCell>, foldhash::fast::RandomState>>,
}

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
        let shard = Arc::new(Shard { shared: self.shared.clone(), cells: Mutex::default() });
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

    /// Moves what the workers counted into the series.
    fn collect(&self) {
        let shards: Vec<_> = {
            let mut shards = lock(&self.shards);
            shards.retain(|shard| shard.strong_count() > 0);
            shards.iter().filter_map(Weak::upgrade).collect()
        };
        shards.iter().for_each(|shard| shard.collect());
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
    /// Returns where to count calls on the edge `key`.
    pub fn edge(&self, key: &EdgeKey) -> Arc<EdgeCell> {
        let mut cells = lock(&self.cells);
        if let Some(cell) = cells.get(key) {
            return cell.clone();
        }
        let key = self.shared.admit(key);
        cells.entry(key).or_default().clone()
    }

    /// Moves what was counted into the series.
    fn collect(&self) {
        let mut cells = lock(&self.cells);
        let mut series = lock(&self.shared.series);
        cells.retain(|key, cell| {
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
    pub fn record(&self, outcome: &Outcome) {
        let mut counts = lock(&self.0);
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
        counts.latency.record(outcome.latency_us);
    }
}
