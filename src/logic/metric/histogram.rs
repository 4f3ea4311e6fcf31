//! Latency histogram whose merge loses nothing: log-linear buckets, as in `HdrHistogram` (Tene), here with 64 buckets to
//! the octave, so a quantile is off by at most 0.8 %.

use serde::{Deserialize, Serialize};

/// Buckets to each doubling of the value, as a power of two.
const OCTAVE_BITS: u32 = 6;
const OCTAVE: u64 = 1 << OCTAVE_BITS;
/// Larger values count as this one: about 4.8 hours in microseconds.
const VALUE_MAX_US: u64 = (1 << 34) - 1;

/// Counts of values in microseconds. Empty ones take no heap.
///
/// Memory is proportional to the logarithm of the largest value seen: 4 KiB up to a second, 8 KiB at most.
/// Serialised as the pairs `[bucket, count]` of the buckets that are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
    sum_us: u64,
}

/// The form on the wire and at rest: only the buckets that are not empty. Takes no more room than it has values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sparse {
    buckets: Vec<(u16, u32)>,
    sum_us: u64,
}

impl Histogram {
    /// Counts one value, in microseconds. Counts saturate.
    pub fn record(&mut self, value_us: u64) {
        self.add(bucket_of(value_us), 1);
        self.sum_us = self.sum_us.saturating_add(value_us);
    }

    /// Adds all that `other` counted: the same as recording its values here.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add(bucket, *count);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Adds all that `other` counted. Buckets that cannot exist are left out: the pairs may come from the network.
    pub fn merge_sparse(&mut self, other: &Sparse) {
        for (bucket, count) in &other.buckets {
            if usize::from(*bucket) <= bucket_of(VALUE_MAX_US) {
                self.add(usize::from(*bucket), *count);
            }
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    fn add(&mut self, bucket: usize, count: u32) {
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(slot) = self.counts.get_mut(bucket) {
            let sum = slot.saturating_add(count);
            self.total += u64::from(sum - *slot);
            *slot = sum;
        }
    }

    /// Returns part `index` of `of` equal ones, which together count what this does.
    #[must_use]
    pub fn part(&self, index: u64, of: u64) -> Self {
        let mut part = Self::default();
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = share(u64::from(*count), index, of);
            if count > 0 {
                part.add(bucket, count as u32);
            }
        }
        part.sum_us = share(self.sum_us, index, of);
        part
    }

    /// Returns how many values were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Returns the sum of all values, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Returns the value below or at which the share `q` (`0..=1`) of all values lies, in microseconds; `None` when empty.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let rank = (q.clamp(0.0, 1.0) * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(bucket, count)| {
            seen += u64::from(*count);
            (seen >= rank).then(|| middle_of(bucket))
        })
    }

    /// Returns how many values lie at or below `limit_us`, to the resolution of the buckets.
    pub fn count_until(&self, limit_us: u64) -> u64 {
        self.counts.iter().take(bucket_of(limit_us) + 1).map(|count| u64::from(*count)).sum()
    }
}

impl FromIterator<u64> for Histogram {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        let mut histogram = Self::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }
}

impl From<Sparse> for Histogram {
    fn from(sparse: Sparse) -> Self {
        let mut histogram = Self::default();
        histogram.merge_sparse(&sparse);
        histogram
    }
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Self {
        Self::from(&histogram)
    }
}

impl From<&Histogram> for Sparse {
    fn from(histogram: &Histogram) -> Self {
        let filled = histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            buckets: filled.map(|(bucket, count)| (bucket as u16, *count)).collect(),
            sum_us: histogram.sum_us,
        }
    }
}

/// Returns part `index` of `of` equal ones of a count; all of them add up to it.
pub fn share(count: u64, index: u64, of: u64) -> u64 {
    let until = |parts: u64| (u128::from(count) * u128::from(parts) / u128::from(of.max(1))) as u64;
    until(index + 1) - until(index)
}

/// Values below two octaves have a bucket each; above, each octave has `OCTAVE` buckets of equal width.
fn bucket_of(value_us: u64) -> usize {
    let value = value_us.min(VALUE_MAX_US);
    let shift = (64 - value.leading_zeros()).saturating_sub(OCTAVE_BITS + 1);
    (u64::from(shift) * OCTAVE + (value >> shift)) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * OCTAVE {
        return bucket;
    }
    let shift = bucket / OCTAVE - 1;
    let low = (bucket - shift * OCTAVE) << shift;
    low + (1 << shift) / 2
}
