//! What an edge added up to since its counting began: the counts without their time, in a form that cannot grow.

use std::collections::BTreeMap;

use crate::logic::metric::asked::KIND_BYTES_MAX;
use crate::logic::metric::histogram::share;
use crate::logic::metric::report::EdgeCounts;

/// Upper limits of the latency buckets that are kept for ever, in microseconds: Linkerd's, from 1 ms to 50 s.
pub const BUCKETS_US: [u64; 25] = [
    1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 100_000, 200_000, 300_000,
    400_000, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 10_000_000, 20_000_000,
    30_000_000, 40_000_000, 50_000_000,
];
/// Most different statuses or failure tokens of one edge; more are counted as 0 or [`OTHER`]. Reports come from the
/// network, so their maps may hold anything.
const VALUES_MAX: usize = 64;
/// Longest failure token that is kept as it is, in bytes.
const REASON_BYTES_MAX: usize = 32;
/// The same of a rule: an object's name and namespace, the rule's name, and a few words.
const RULE_BYTES_MAX: usize = 448;
/// Stands for the failure tokens that found no room.
pub const OTHER: &str = "other";

/// All that was counted on one edge. Sums saturate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeTotal {
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the ones that failed.
    pub failures: u64,
    /// By HTTP status; 0 where none was received.
    pub statuses: BTreeMap<u16, u64>,
    /// By gRPC status.
    pub grpc_statuses: BTreeMap<u16, u64>,
    /// By failure token.
    pub reasons: BTreeMap<String, u64>,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Calls that intentions refused.
    pub denied: u64,
    /// Those by the rule that refused them.
    pub denials: BTreeMap<String, u64>,
    /// Calls that went through and would have been refused, were it enforced, by the rule.
    pub audited: BTreeMap<String, u64>,
    /// Body bytes from the caller.
    pub bytes_sent: u64,
    /// Body bytes to the caller.
    pub bytes_received: u64,
    /// Connections or streams opened.
    pub opened: u64,
    /// Connections or streams closed.
    pub closed: u64,
    /// Latencies at or below each limit of [`BUCKETS_US`]: cumulative, as Prometheus has them.
    pub buckets: [u64; BUCKETS_US.len()],
    /// How many latencies there were.
    pub latencies: u64,
    /// Their sum, in microseconds.
    pub latency_sum_us: u64,
}

impl EdgeTotal {
    /// Adds what was counted in some span of time.
    pub fn add(&mut self, counts: &EdgeCounts) {
        grow(&mut self.requests, counts.requests);
        grow(&mut self.failures, counts.failures);
        grow(&mut self.retries, counts.retries);
        grow(&mut self.denied, counts.denied);
        grow(&mut self.bytes_sent, counts.bytes_sent);
        grow(&mut self.bytes_received, counts.bytes_received);
        grow(&mut self.opened, counts.opened);
        grow(&mut self.closed, counts.closed);
        add_statuses(&mut self.statuses, &counts.statuses);
        add_statuses(&mut self.grpc_statuses, &counts.grpc_statuses);
        add_reasons(&mut self.reasons, &counts.reasons);
        add_rules(&mut self.denials, &counts.denials);
        add_rules(&mut self.audited, &counts.audited);
        for (kept, limit) in self.buckets.iter_mut().zip(BUCKETS_US) {
            grow(kept, counts.latency.count_until(limit));
        }
        grow(&mut self.latencies, counts.latency.count());
        grow(&mut self.latency_sum_us, counts.latency.sum_us());
    }

    /// Returns how many connections or streams are open.
    pub fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

impl EdgeCounts {
    /// Adds what another span of time counted on the same edge.
    pub fn merge(&mut self, other: &Self) {
        grow(&mut self.requests, other.requests);
        grow(&mut self.failures, other.failures);
        grow(&mut self.retries, other.retries);
        grow(&mut self.denied, other.denied);
        grow(&mut self.bytes_sent, other.bytes_sent);
        grow(&mut self.bytes_received, other.bytes_received);
        grow(&mut self.opened, other.opened);
        grow(&mut self.closed, other.closed);
        add_statuses(&mut self.statuses, &other.statuses);
        add_statuses(&mut self.grpc_statuses, &other.grpc_statuses);
        add_reasons(&mut self.reasons, &other.reasons);
        add_rules(&mut self.denials, &other.denials);
        add_rules(&mut self.audited, &other.audited);
        add_named(&mut self.asked, &other.asked, KIND_BYTES_MAX);
        self.latency.merge(&other.latency);
    }

    /// Returns part `index` of `of` equal ones, which together count what this does.
    #[must_use]
    pub fn part(&self, index: u64, of: u64) -> Self {
        let cut = |count: u64| share(count, index, of);
        Self {
            requests: cut(self.requests),
            failures: cut(self.failures),
            statuses: cut_all(&self.statuses, cut),
            grpc_statuses: cut_all(&self.grpc_statuses, cut),
            reasons: cut_all(&self.reasons, cut),
            retries: cut(self.retries),
            denied: cut(self.denied),
            denials: cut_all(&self.denials, cut),
            audited: cut_all(&self.audited, cut),
            asked: cut_all(&self.asked, cut),
            bytes_sent: cut(self.bytes_sent),
            bytes_received: cut(self.bytes_received),
            opened: cut(self.opened),
            closed: cut(self.closed),
            latency: self.latency.part(index, of),
        }
    }

    /// Returns whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.requests,
            self.denied,
            self.bytes_sent,
            self.bytes_received,
            self.opened,
            self.closed,
            self.retries,
        ];
        counts.iter().all(|count| *count == 0)
    }
}

fn cut_all<K: Clone + Ord>(counts: &BTreeMap<K, u64>, cut: impl Fn(u64) -> u64) -> BTreeMap<K, u64> {
    let parts = counts.iter().map(|(name, count)| (name.clone(), cut(*count)));
    parts.filter(|(_, count)| *count > 0).collect()
}

fn grow(sum: &mut u64, by: u64) {
    *sum = sum.saturating_add(by);
}

fn add_statuses(into: &mut BTreeMap<u16, u64>, from: &BTreeMap<u16, u64>) {
    for (status, count) in from {
        let status = if into.contains_key(status) || into.len() < VALUES_MAX { *status } else { 0 };
        grow(into.entry(status).or_default(), *count);
    }
}

fn add_reasons(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    add_named(into, from, REASON_BYTES_MAX);
}

/// Adds counts by the rules of intentions.
pub fn add_rules(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    add_named(into, from, RULE_BYTES_MAX);
}

fn add_named(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>, bytes_max: usize) {
    for (name, count) in from {
        if let Some(sum) = into.get_mut(name) {
            grow(sum, *count);
            continue;
        }
        let room = into.len() < VALUES_MAX && name.len() <= bytes_max;
        let name = if room { name.clone() } else { OTHER.to_owned() };
        grow(into.entry(name).or_default(), *count);
    }
}
