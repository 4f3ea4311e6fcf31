//! What one instance of a local service lets in: shared by all workers, and kept when the policy changes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::logic::resilience::concurrency::{Concurrency, ConcurrencyRules};
use crate::logic::resilience::rate::{Rate, RateRules, Sources};
use crate::model::identity::Subject;

/// What one instance was called for lately, and serves now.
#[derive(Debug, Default)]
pub struct Quota {
    /// When the limit of all callers together would be empty again.
    empty_ns: AtomicU64,
    sources: Mutex<Sources<Arc<Subject>>>,
    serving: AtomicU32,
    /// The limit, with the rules that it was made by.
    concurrency: Mutex<Option<(ConcurrencyRules, Concurrency)>>,
}

/// A request that is being served; ended when dropped.
#[derive(Debug)]
pub struct Serving {
    quota: Arc<Quota>,
    rules: ConcurrencyRules,
    /// How many there were before it.
    before: u32,
}

/// No value here can be left half-written by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quota {
    /// Lets one call of `source` in, if it is not too often. The source's own limit is asked first, so that what is refused
    /// to one takes nothing from the others.
    ///
    /// # Errors
    /// When it is: how long to wait until one is let in.
    pub fn admit(&self, rules: &RateRules, source: &Arc<Subject>, now_ns: u64) -> Result<(), Duration> {
        if let Some(rate) = rules.per_source {
            lock(&self.sources).admit(rate, source, now_ns)?;
        }
        rules.total.map_or(Ok(()), |rate| self.admit_one(rate, now_ns))
    }

    fn admit_one(&self, rate: Rate, now_ns: u64) -> Result<(), Duration> {
        let mut known = self.empty_ns.load(Ordering::Relaxed);
        loop {
            let next = rate.admit(known, now_ns)?;
            match self.empty_ns.compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => known = other,
            }
        }
    }

    /// Lets one request in, if not too many are served already.
    ///
    /// # Errors
    /// When there are: how many are.
    pub fn serve(self: &Arc<Self>, rules: ConcurrencyRules) -> Result<Serving, u32> {
        let before = self.serving.fetch_add(1, Ordering::Relaxed);
        let serving = Serving { quota: self.clone(), rules, before };
        if self.limit(rules, |limit| limit.admits(before)) { Ok(serving) } else { Err(before) }
    }

    fn limit<T>(&self, rules: ConcurrencyRules, look: impl FnOnce(&mut Concurrency) -> T) -> T {
        let mut known = lock(&self.concurrency);
        let known = known.get_or_insert_with(|| (rules, Concurrency::new(rules)));
        if known.0 != rules {
            *known = (rules, Concurrency::new(rules));
        }
        look(&mut known.1)
    }
}

impl Serving {
    /// Records that its response began after `latency`.
    pub fn answered(&self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.quota.limit(self.rules, |limit| limit.record(self.rules, latency_ns, self.before));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.quota.serving.fetch_sub(1, Ordering::Relaxed);
    }
}
