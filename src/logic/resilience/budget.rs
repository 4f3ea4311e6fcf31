//! The retry budget: retries as a share of requests, so that a service that fails is not called many times as often.
//!
//! The idea and its numbers are Finagle's and Linkerd's (20 % of the requests of the last 10 s, and 10 each second however
//! few they are). Theirs lets what was saved up go all at once: 10 s · 10 = 100 retries in the first moment of a failure,
//! and 2 s' worth of traffic on top of a busy service. Here the budget holds over the interval *and* over each tenth of it.
//!
//! A budget is one worker's own, for one service: requests cost an addition, and no cache line moves between cores.

use std::time::Duration;

const SLOTS: u64 = 10;
const NANOS_PER_S: u64 = 1_000_000_000;

/// What a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetRules {
    /// Of the requests in the interval.
    pub percent: u32,
    /// Over which requests and retries are counted.
    pub interval: Duration,
    /// Besides, however few the requests: so that a service that is called once a second can have a retry at all.
    pub min_per_second: u32,
}

impl Default for BudgetRules {
    /// Linkerd's 20 %, 10 s and 10 each second; the Gateway API's too (GEP-3388).
    fn default() -> Self {
        Self { percent: 20, interval: Duration::from_secs(10), min_per_second: 10 }
    }
}

/// What was requested and retried in the last interval.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryBudget {
    slots: [Slot; SLOTS as usize],
    /// Number of the newest slot since the origin of time.
    newest: u64,
    requests: u64,
    retries: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// Makes one in which nothing was requested.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request, its first attempt.
    pub fn deposit(&mut self, rules: &BudgetRules, now_ns: u64) {
        let slot = self.advance(rules, now_ns);
        slot.requests = slot.requests.saturating_add(1);
        self.requests += 1;
    }

    /// Counts a retry, if the budget allows it; `workers` share the allowance for services that are called little.
    pub fn withdraw(&mut self, rules: &BudgetRules, workers: u32, now_ns: u64) -> bool {
        let slot = *self.advance(rules, now_ns);
        // In hundredths of a retry, of a nanosecond's worth, of a worker: whole numbers, so that a share is exact.
        let scale = u128::from(workers.max(1)) * u128::from(NANOS_PER_S);
        let least = u128::from(rules.min_per_second) * rules.interval.as_nanos() * 100;
        let allowed = |requests: u64| u128::from(requests) * u128::from(rules.percent) * scale + least;
        let spent = |retries: u64| u128::from(retries) * 100 * scale;
        let steady = self.requests.max(u64::from(slot.requests) * SLOTS);
        let over_interval = spent(self.retries) >= allowed(self.requests);
        let over_slot = spent(u64::from(slot.retries) * SLOTS) >= allowed(steady);
        if over_interval || over_slot {
            return false;
        }
        let slot = self.advance(rules, now_ns);
        slot.retries = slot.retries.saturating_add(1);
        self.retries += 1;
        true
    }

    /// Forgets what is older than the interval and returns the newest slot. Time going backwards counts as no time at all.
    fn advance(&mut self, rules: &BudgetRules, now_ns: u64) -> &mut Slot {
        let width = (rules.interval.as_nanos() as u64 / SLOTS).max(1);
        let newest = (now_ns / width).max(self.newest);
        let passed = newest - self.newest;
        for step in 1..=passed.min(SLOTS) {
            let slot = std::mem::take(&mut self.slots[((self.newest + step) % SLOTS) as usize]);
            self.requests -= u64::from(slot.requests);
            self.retries -= u64::from(slot.retries);
        }
        self.newest = newest;
        &mut self.slots[(newest % SLOTS) as usize]
    }
}
