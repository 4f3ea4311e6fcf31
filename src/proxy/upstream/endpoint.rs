//! One endpoint alive: how slow it lately was, how much is under way to it, whether it is avoided. Shared by all workers,
//! without a lock on the common path, and kept when the policy changes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::logic::balance::ewma::Ewma;
use crate::logic::balance::pick::Candidate;
use crate::logic::resilience::avoid::Avoidance;
use crate::model::endpoint::Endpoint;
use crate::net::clock;

/// Returns nanoseconds since the first call of this function in the process: the clock of everything in this folder.
pub fn now_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let now = clock::now();
    let since = now.saturating_duration_since(*ORIGIN.get_or_init(|| now));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What is known of one endpoint from calling it.
#[derive(Debug)]
pub struct Live {
    pending: AtomicU32,
    // The two words of an `Ewma`. Workers that write at the same moment may mix theirs, which costs one sample.
    estimate: AtomicU64,
    at_ns: AtomicU64,
    /// The end of the avoidance; 0 when there is none. A copy of what `avoidance` says, to be read without its lock.
    avoided_until_ns: AtomicU64,
    avoidance: Mutex<Avoidance>,
}

/// An endpoint of the policy with what is known of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// What gossip says.
    pub endpoint: Endpoint,
    /// What calling it says.
    pub live: Arc<Live>,
}

/// A call under way to an endpoint; ended when dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Live>);

impl Live {
    /// Makes one of which nothing is known.
    pub fn new() -> Self {
        let ewma = Ewma::new(now_ns());
        Self {
            pending: AtomicU32::new(0),
            estimate: AtomicU64::new(ewma.estimate_ns.to_bits()),
            at_ns: AtomicU64::new(ewma.at_ns),
            avoided_until_ns: AtomicU64::new(0),
            avoidance: Mutex::new(Avoidance::default()),
        }
    }

    fn ewma(&self) -> Ewma {
        Ewma {
            estimate_ns: f64::from_bits(self.estimate.load(Ordering::Relaxed)),
            at_ns: self.at_ns.load(Ordering::Relaxed),
        }
    }

    /// Counts a call until the returned value is dropped. When the endpoint failed before, this call finds out whether it
    /// works again.
    pub fn begin(self: &Arc<Self>, now_ns: u64) -> InFlight {
        if self.avoided_until_ns.load(Ordering::Relaxed) != 0 {
            self.change(|avoidance| {
                avoidance.admit(now_ns);
            });
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Records that a response began after `latency_ns`.
    pub fn answered(&self, latency_ns: u64, now_ns: u64) {
        let ewma = self.ewma().observe(latency_ns, now_ns);
        self.estimate.store(ewma.estimate_ns.to_bits(), Ordering::Relaxed);
        self.at_ns.store(ewma.at_ns, Ordering::Relaxed);
        self.connected();
    }

    /// Records that the endpoint works, as far as a connection can tell.
    pub fn connected(&self) {
        if self.avoided_until_ns.load(Ordering::Relaxed) != 0 {
            self.change(Avoidance::succeeded);
        }
    }

    /// Records that the endpoint refused, reset or did not answer.
    pub fn failed(&self, now_ns: u64, draw: u64) {
        self.change(|avoidance| avoidance.failed(now_ns, draw));
    }

    fn change(&self, change: impl FnOnce(&mut Avoidance)) {
        let mut avoidance = self.avoidance.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut avoidance);
        let until = match *avoidance {
            Avoidance::Closed => 0,
            Avoidance::Open { until_ns, .. } | Avoidance::HalfOpen { until_ns, .. } => until_ns.max(1),
        };
        self.avoided_until_ns.store(until, Ordering::Relaxed);
    }

    /// Returns whether calls go elsewhere, if there is an elsewhere.
    pub fn is_avoided(&self, now_ns: u64) -> bool {
        now_ns < self.avoided_until_ns.load(Ordering::Relaxed)
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Target {
    /// Returns what picking looks at.
    pub fn candidate(&self, now_ns: u64) -> Candidate {
        Candidate {
            weight: self.endpoint.weight,
            pending: self.live.pending.load(Ordering::Relaxed),
            latency_ns: self.live.ewma().project(now_ns),
            standing: self.endpoint.standing,
            avoided: self.live.is_avoided(now_ns),
        }
    }
}
