//! Rates over a sliding window: the counts of the last seconds, one tick to a second.
//!
//! The window is the ten whole ticks before the current one: what a report brings within its second is complete before
//! it is shown, so a steady rate reads steady. Ten seconds are short enough to see a change while it happens, and long
//! enough that a report which slips into the next tick moves a rate by a tenth only.

use std::collections::{BTreeMap, VecDeque};

use crate::logic::metric::histogram::{Histogram, Sparse};
use crate::logic::metric::report::EdgeCounts;

/// Length of the window, in ticks of a second.
pub const WINDOW_TICKS: u64 = 10;
/// The current tick and the window.
const TICKS_MAX: usize = WINDOW_TICKS as usize + 1;
/// The classes of [`Sum::classes`], in order: by the first digit of the status, and where there is none.
pub const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

/// The recent counts of one series, by tick. Ticks without counts take no room.
#[derive(Debug, Clone, Default)]
pub struct Window {
    ticks: VecDeque<Tick>,
}

#[derive(Debug, Clone, Default)]
struct Tick {
    number: u64,
    counts: Counts,
    latency: Sparse,
}

/// Plain sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that ended.
    pub requests: u64,
    /// Of those, the failed.
    pub failures: u64,
    /// Refused by intentions.
    pub denied: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Body bytes, both ways.
    pub bytes: u64,
    /// Responses by class, in the order of [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// By failure token.
    pub reasons: BTreeMap<String, u64>,
}

/// What one or several windows add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// Of the whole window.
    pub counts: Counts,
    /// Latencies of the whole window.
    pub latency: Histogram,
    /// Latencies of its last tick.
    pub newest: Histogram,
}

impl Window {
    /// Counts what happened evenly over the last `ticks` ticks up to `number`; what was before the window is let go.
    pub fn spread(&mut self, number: u64, ticks: u64, counts: &EdgeCounts) {
        if ticks <= 1 {
            self.add(number, counts);
            return;
        }
        for age in 0..ticks.min(TICKS_MAX as u64).min(number + 1) {
            self.add(number - age, &counts.part(age, ticks));
        }
    }

    /// Counts into tick `number`. Ticks that left the window of the newest one are let go, or not taken.
    pub fn add(&mut self, number: u64, counts: &EdgeCounts) {
        let newest = self.ticks.back().map_or(number, |tick| tick.number.max(number));
        self.ticks.retain(|tick| tick.number + TICKS_MAX as u64 > newest);
        if number + TICKS_MAX as u64 <= newest {
            return;
        }
        let place = self.ticks.partition_point(|tick| tick.number < number);
        if self.ticks.get(place).is_none_or(|tick| tick.number != number) {
            self.ticks.insert(place, Tick { number, ..Tick::default() });
        }
        if let Some(tick) = self.ticks.get_mut(place) {
            tick.counts.add(counts);
            let mut latency = counts.latency.clone();
            latency.merge_sparse(&tick.latency);
            tick.latency = Sparse::from(&latency);
        }
    }

    /// Returns what the window before tick `now` adds up to.
    pub fn sum(&self, now: u64) -> Sum {
        let mut sum = Sum::default();
        for tick in self.ticks.iter().filter(|tick| tick.number < now && tick.number + WINDOW_TICKS >= now) {
            sum.counts.merge(&tick.counts);
            sum.latency.merge_sparse(&tick.latency);
            if tick.number + 1 == now {
                sum.newest.merge_sparse(&tick.latency);
            }
        }
        sum
    }
}

impl Sum {
    /// Adds another window.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.latency.merge(&other.latency);
        self.newest.merge(&other.newest);
    }
}

impl Counts {
    fn add(&mut self, counts: &EdgeCounts) {
        let bytes = counts.bytes_sent.saturating_add(counts.bytes_received);
        self.add_scalars([counts.requests, counts.failures, counts.denied, counts.retries, bytes]);
        for (status, count) in &counts.statuses {
            let class = match status {
                200..=299 => 0,
                300..=399 => 1,
                400..=499 => 2,
                500..=599 => 3,
                _ => 4,
            };
            self.classes[class] = self.classes[class].saturating_add(*count);
        }
        self.add_reasons(&counts.reasons);
    }

    fn merge(&mut self, other: &Self) {
        self.add_scalars([other.requests, other.failures, other.denied, other.retries, other.bytes]);
        for (sum, count) in self.classes.iter_mut().zip(other.classes) {
            *sum = sum.saturating_add(count);
        }
        self.add_reasons(&other.reasons);
    }

    fn add_scalars(&mut self, values: [u64; 5]) {
        let sums =
            [&mut self.requests, &mut self.failures, &mut self.denied, &mut self.retries, &mut self.bytes];
        for (sum, value) in sums.into_iter().zip(values) {
            *sum = sum.saturating_add(value);
        }
    }

    fn add_reasons(&mut self, reasons: &BTreeMap<String, u64>) {
        for (reason, count) in reasons {
            match self.reasons.get_mut(reason) {
                Some(sum) => *sum = sum.saturating_add(*count),
                None => _ = self.reasons.insert(reason.clone(), *count),
            }
        }
    }
}
