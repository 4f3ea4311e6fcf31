//! The last ten minutes, kept by the console itself: one small sample a second for each service and edge, and the whole
//! views of as many seconds as fit, for going back in time.
//!
//! A second without data is a gap, never a zero.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::model::name::ServiceName;
use crate::model::view::{MeshView, TrafficView};
use crate::top::target::EdgeId;

/// Seconds kept: what the charts can show.
pub const SECONDS_MAX: u64 = 600;
/// Rows of whole views kept, about half a kilobyte each: what time travel may cost.
const ROWS_MAX: usize = 40_000;
/// How often what is usual is worked out anew, seconds.
const USUAL_EVERY: u64 = 10;
/// Buckets of the latency heat, by power of two from 2^-3 ms.
pub const HEAT_ROWS: usize = 18;

/// What has a history of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named for what they are of")]
pub enum Series {
    Mesh,
    Service(ServiceName),
    Edge(EdgeId),
}

/// One second, or the mean of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Requests per second.
    pub rps: f32,
    /// Failures per second.
    pub failures: f32,
    /// Denials per second.
    pub denied: f32,
    /// Slowest percentile, ms; `None` without requests.
    pub p99_ms: Option<f32>,
    /// Counts of latencies, by power of two.
    pub heat: [u16; HEAT_ROWS],
}

/// What a chart shows in one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// Before the console looked.
    Before,
    /// While it looked, no data came.
    Gap,
    /// Data.
    Value(Sample),
}

#[derive(Debug, Clone, Default)]
struct Ring {
    /// The second of the first sample.
    start: u64,
    samples: VecDeque<Option<Sample>>,
}

impl Ring {
    fn put(&mut self, second: u64, sample: Sample) {
        let end = self.start + self.samples.len() as u64;
        if self.samples.is_empty() || second >= end + SECONDS_MAX {
            self.samples.clear();
            self.start = second;
        }
        let Some(index) = second.checked_sub(self.start) else { return };
        while self.samples.len() as u64 <= index {
            self.samples.push_back(None);
        }
        if let Some(slot) = self.samples.get_mut(index as usize) {
            let before = slot.map_or([0; HEAT_ROWS], |before| before.heat);
            let heat = slot.insert(sample).heat.iter_mut();
            heat.zip(before).for_each(|(count, before)| *count = count.saturating_add(before));
        }
        while self.samples.len() as u64 > SECONDS_MAX {
            self.samples.pop_front();
            self.start += 1;
        }
    }

    fn at(&self, second: u64) -> Option<Sample> {
        self.samples.get(second.checked_sub(self.start)? as usize).copied().flatten()
    }

    fn last(&self) -> u64 {
        (self.start + self.samples.len() as u64).saturating_sub(1)
    }
}

/// The ring of samples and the ring of views.
#[derive(Debug, Clone, Default)]
pub struct History {
    series: BTreeMap<Series, Ring>,
    usual: BTreeMap<Series, f64>,
    usual_at: u64,
    views: VecDeque<Arc<MeshView>>,
    rows: usize,
    origin: Option<u64>,
    first: Option<u64>,
    last: u64,
}

impl History {
    /// Takes in one view. A clock that jumped back further than the charts reach starts a new history.
    pub fn record(&mut self, view: &Arc<MeshView>) {
        let second = view.at_ms / 1000;
        if second + SECONDS_MAX < self.last {
            *self = Self::default();
        }
        // views come a second apart, give or take: two may fall into one second, and then none into the next
        let skipped = (self.last > 0 && second == self.last + 2).then(|| second - 1);
        self.origin = Some(self.origin.unwrap_or(second));
        self.first = Some(self.first.unwrap_or(second).min(second));
        self.last = self.last.max(second);
        let mut mesh = Sample::default();
        for service in &view.services {
            let sample = sample(&service.traffic);
            mesh.rps += sample.rps;
            mesh.failures += sample.failures;
            mesh.denied += sample.denied;
            for (sum, count) in mesh.heat.iter_mut().zip(sample.heat) {
                *sum = sum.saturating_add(count);
            }
            self.put(Series::Service(service.name.clone()), skipped, second, sample);
        }
        for edge in &view.edges {
            self.put(Series::Edge(EdgeId::from(edge)), skipped, second, sample(&edge.traffic));
        }
        mesh.p99_ms = heat_quantile(&mesh.heat, 0.99);
        self.put(Series::Mesh, skipped, second, mesh);
        let oldest = self.last.saturating_sub(SECONDS_MAX);
        self.series.retain(|_, ring| ring.last() >= oldest);
        self.first = self.first.map(|first| first.max(oldest));
        if second >= self.usual_at + USUAL_EVERY || second < self.usual_at {
            self.usual_at = second;
            let usual =
                |(series, ring): (&Series, &Ring)| Some((series.clone(), usual_p99_ms(ring, second)?));
            self.usual = self.series.iter().filter_map(usual).collect();
        }
        self.keep(view);
    }

    fn put(&mut self, series: Series, skipped: Option<u64>, second: u64, sample: Sample) {
        let ring = self.series.entry(series).or_default();
        if let Some(skipped) = skipped {
            ring.put(skipped, Sample { heat: [0; HEAT_ROWS], ..sample });
        }
        ring.put(second, sample);
    }

    /// Keeps the view without its events: the newest view has those of the past as well.
    fn keep(&mut self, view: &Arc<MeshView>) {
        let kept = MeshView { events: Vec::new(), ..(**view).clone() };
        self.rows += weight(&kept);
        self.views.push_back(Arc::new(kept));
        while self.views.len() > 1 && (self.rows > ROWS_MAX || self.views.len() as u64 > SECONDS_MAX) {
            if let Some(gone) = self.views.pop_front() {
                self.rows -= weight(&gone);
            }
        }
    }

    /// Returns the view `seconds` before (negative) or after the given one, as near as there is.
    pub fn beside(&self, from_ms: u64, seconds: i64) -> Option<&Arc<MeshView>> {
        let wanted = from_ms.saturating_add_signed(seconds * 1000);
        if seconds < 0 {
            let older = self.views.iter().rev().find(|view| view.at_ms <= wanted + 500);
            older.or_else(|| self.views.front())
        } else {
            let newer = self.views.iter().find(|view| view.at_ms + 500 >= wanted);
            newer.or_else(|| self.views.back())
        }
    }

    /// Returns the first second there is, if any.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// Returns the second of the first view ever taken in: where sweeping charts begin.
    pub fn origin(&self) -> Option<u64> {
        self.origin
    }

    /// Returns how many whole views are kept.
    pub fn views(&self) -> usize {
        self.views.len()
    }

    /// Returns the seconds that a chart of `columns` ending at `end` puts into one column, so that it covers what is
    /// known of the last ten minutes and no more than needed.
    pub fn step(&self, end: u64, columns: u16) -> u64 {
        let known = self.first.map_or(1, |first| end.saturating_sub(first) + 1).min(SECONDS_MAX);
        let columns = u64::from(columns.max(1));
        let least = known.div_ceil(columns);
        let most = SECONDS_MAX.div_ceil(columns);
        [1, 2, 5, 10, 15, 20, 30, 60]
            .into_iter()
            .find(|step| *step >= least)
            .unwrap_or(least)
            .min(most)
            .max(1)
    }

    /// Returns `columns` points of `step` seconds, the last one holding second `end`. Columns begin at multiples of the
    /// step, so that they keep their values while time goes on.
    pub fn points(&self, series: &Series, end: u64, step: u64, columns: u16) -> Vec<Point> {
        let step = step.max(1);
        let newest = end / step;
        (0..u64::from(columns))
            .map(|column| {
                let back = u64::from(columns) - 1 - column;
                match newest.checked_sub(back) {
                    Some(index) => self.point(series, index * step, step, end),
                    None => Point::Before,
                }
            })
            .collect()
    }

    /// Returns the point of the seconds `from..from + step`, none of them after `end`.
    pub fn point(&self, series: &Series, from: u64, step: u64, end: u64) -> Point {
        let Some(first) = self.first else { return Point::Before };
        let until = (from + step).min(end + 1);
        if until <= first {
            return Point::Before;
        }
        let mesh = self.series.get(&Series::Mesh);
        let own = self.series.get(series);
        let mut sum = Sample::default();
        let mut seen = 0_u16;
        for second in from.max(first)..until {
            if mesh.and_then(|ring| ring.at(second)).is_none() {
                continue;
            }
            seen += 1;
            let Some(sample) = own.and_then(|ring| ring.at(second)) else { continue };
            sum.rps += sample.rps;
            sum.failures += sample.failures;
            sum.denied += sample.denied;
            sum.p99_ms = match (sum.p99_ms, sample.p99_ms) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
            for (total, count) in sum.heat.iter_mut().zip(sample.heat) {
                *total = total.saturating_add(count);
            }
        }
        if seen == 0 {
            return Point::Gap;
        }
        sum.rps /= f32::from(seen);
        sum.failures /= f32::from(seen);
        sum.denied /= f32::from(seen);
        Point::Value(sum)
    }

    /// Returns the median of the slowest percentile before the last half minute, ms, as of at most ten seconds ago;
    /// `None` when less than a minute of it is known.
    pub fn usual_p99_ms(&self, series: &Series) -> Option<f64> {
        self.usual.get(series).copied()
    }
}

fn usual_p99_ms(ring: &Ring, end: u64) -> Option<f64> {
    let until = end.saturating_sub(30);
    let from = until.saturating_sub(SECONDS_MAX);
    let mut values: Vec<f32> =
        (from..until).filter_map(|second| ring.at(second)).filter_map(|sample| sample.p99_ms).collect();
    if values.len() < 30 {
        return None;
    }
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).map(|value| f64::from(*value))
}

fn weight(view: &MeshView) -> usize {
    let instances: usize =
        view.services.iter().map(|service| service.instances.len() + service.routes.len()).sum();
    let lists = view.services.len() + view.edges.len() * 2 + view.nodes.len() + view.identities.len();
    1 + instances + lists
}

fn sample(traffic: &TrafficView) -> Sample {
    let mut heat = [0; HEAT_ROWS];
    for (slot, count) in heat.iter_mut().zip(&traffic.heat) {
        *slot = u16::try_from(*count).unwrap_or(u16::MAX);
    }
    Sample {
        rps: traffic.requests_per_second as f32,
        failures: traffic.failures_per_second as f32,
        denied: traffic.denied_per_second as f32,
        p99_ms: traffic.latency_ms.p99.map(|p99| p99 as f32),
        heat,
    }
}

/// Returns the upper bound, ms, of the power of two in which the quantile `q` lies; `None` without counts.
pub fn heat_quantile(heat: &[u16], q: f64) -> Option<f32> {
    let total: u64 = heat.iter().map(|count| u64::from(*count)).sum();
    let rank = (q * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    let row = heat.iter().position(|count| {
        seen += u64::from(*count);
        seen >= rank
    })?;
    Some(heat_limit_ms(row))
}

/// Returns the upper bound of a row of the heat, ms.
pub fn heat_limit_ms(row: usize) -> f32 {
    2_f32.powi(row as i32 - 3)
}
