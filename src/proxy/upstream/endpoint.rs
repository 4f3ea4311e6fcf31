//! One endpoint alive: how slow it lately was, how much is under way to it, whether it is avoided. Shared by all workers,
//! without a lock on the common path, and kept when the policy changes.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::logic::balance::ewma::Ewma;
use crate::logic::balance::pick::Candidate;
use crate::logic::resilience::avoid::{Admit, Avoidance};
use crate::logic::resilience::outcome::Grade;
use crate::logic::resilience::outlier::{Ejections, OutlierRules, Streak, Tally};
use crate::model::endpoint::Endpoint;
use crate::net::clock;

/// Returns nanoseconds since the first call of this function in the process: the clock of everything in this folder.
pub fn now_ns() -> u64 {
    ns_of(clock::now())
}

/// Returns an instant by that clock.
pub fn ns_of(now: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
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
    /// The two counts of a `Streak`. Mixed up like those of `estimate` at worst, which costs one of a row.
    streak: AtomicU64,
    fine: AtomicU32,
    errors: AtomicU32,
    /// How often it was ejected lately.
    ejections: AtomicU32,
    /// Whether it is avoided for its answers.
    ejected: AtomicBool,
    /// When it came to a service that had others; 0 for one that was there before.
    since_ns: u64,
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
pub struct InFlight {
    live: Arc<Live>,
    /// Whether it finds out if the endpoint works again.
    pub probe: bool,
}

impl Live {
    /// Makes one of which nothing is known. `since_ns` is when it came to a service that had others; 0 for one that was
    /// there before.
    pub fn new(since_ns: u64) -> Self {
        let ewma = Ewma::new(now_ns());
        Self {
            pending: AtomicU32::new(0),
            estimate: AtomicU64::new(ewma.estimate_ns.to_bits()),
            at_ns: AtomicU64::new(ewma.at_ns),
            avoided_until_ns: AtomicU64::new(0),
            avoidance: Mutex::new(Avoidance::default()),
            streak: AtomicU64::new(0),
            fine: AtomicU32::new(0),
            errors: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            since_ns,
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
        let mut probe = false;
        if self.avoided_until_ns.load(Ordering::Relaxed) != 0 {
            self.change(|avoidance| probe = avoidance.admit(now_ns) == Admit::Probe);
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        InFlight { live: self.clone(), probe }
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
        if *avoidance == Avoidance::Closed {
            self.ejected.store(false, Ordering::Relaxed);
        }
        let until = match *avoidance {
            Avoidance::Closed => 0,
            Avoidance::Open { until_ns, .. } | Avoidance::HalfOpen { until_ns, .. } => until_ns.max(1),
        };
        self.avoided_until_ns.store(until, Ordering::Relaxed);
    }

    /// Records what an answer says of the endpoint, and returns whether errors in a row are enough to eject it.
    pub fn graded(&self, grade: Grade, rules: &OutlierRules) -> bool {
        let known = self.streak.load(Ordering::Relaxed);
        if known == 0 && grade == Grade::Fine {
            return false;
        }
        let streak = Streak { gateway: (known >> 32) as u32, server: known as u32 }.record(grade);
        let word = u64::from(streak.gateway) << 32 | u64::from(streak.server);
        self.streak.store(word, Ordering::Relaxed);
        streak.is_enough(rules)
    }

    /// Counts an answer for the next comparison of success rates.
    pub fn count(&self, grade: Grade) {
        let count = if grade == Grade::Fine { &self.fine } else { &self.errors };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what was counted since this was called last.
    pub fn take_tally(&self, now_ns: u64) -> Tally {
        Tally {
            fine: self.fine.swap(0, Ordering::Relaxed),
            errors: self.errors.swap(0, Ordering::Relaxed),
            ejected: self.is_avoided(now_ns),
        }
    }

    /// Ejects the endpoint for its answers, unless it is avoided already.
    pub fn eject(&self, rules: &OutlierRules, now_ns: u64, draw: u64) {
        self.change(|avoidance| {
            if matches!(avoidance, Avoidance::Open { .. }) && avoidance.avoided(now_ns) {
                return;
            }
            let mut ejections = Ejections { count: self.ejections.load(Ordering::Relaxed) };
            ejections.eject(avoidance, rules, now_ns, draw);
            self.ejections.store(ejections.count, Ordering::Relaxed);
            self.ejected.store(true, Ordering::Relaxed);
            self.streak.store(0, Ordering::Relaxed);
        });
    }

    /// Counts an interval without an ejection.
    pub fn calm(&self) {
        let known = self.ejections.load(Ordering::Relaxed);
        if known > 0 {
            let mut ejections = Ejections { count: known };
            ejections.calm();
            self.ejections.store(ejections.count, Ordering::Relaxed);
        }
    }

    /// Returns whether it is avoided for its answers, rather than for its connections.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Returns for how long it has been there; `None` for one that was there before anything was known.
    pub fn age(&self, now_ns: u64) -> Option<Duration> {
        (self.since_ns > 0).then(|| Duration::from_nanos(now_ns.saturating_sub(self.since_ns)))
    }

    /// Returns whether calls go elsewhere, if there is an elsewhere.
    pub fn is_avoided(&self, now_ns: u64) -> bool {
        now_ns < self.avoided_until_ns.load(Ordering::Relaxed)
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.live.pending.fetch_sub(1, Ordering::Relaxed);
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
