//! Outlier ejection: an endpoint is left alone for a while because of its answers.
//!
//! Envoy's two signs: several errors in a row, decided at once, and a success rate far below that of the others, compared
//! once in an interval. Unlike there it is on by default, and therefore careful: only "not able to serve" counts in a row (a
//! 500 is often the request's own doing), never more than half of the endpoints are out, one always stays, and a success
//! rate has to be far below the others' in itself, not only in standard deviations (of five equal hosts, one with a single
//! error more is 2 σ away).
//!
//! How an ejection ends is `avoid`'s: one call goes out as a probe; its success brings the endpoint back, its failure ejects
//! it for twice as long.

use std::time::Duration;

use crate::logic::resilience::avoid::Avoidance;
use crate::logic::resilience::backoff::Backoff;
use crate::logic::resilience::outcome::Grade;

/// How many standard deviations below the mean a success rate is suspicious: Envoy's `success_rate_stdev_factor`.
const DEVIATIONS: f64 = 1.9;
/// How far below the mean it has to be besides: ten of a hundred requests.
const MARGIN: f64 = 0.1;

/// When endpoints are ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierRules {
    /// Gateway errors in a row; 0 for never.
    pub gateway_errors: u32,
    /// Errors of any kind in a row; 0 for never.
    pub server_errors: u32,
    /// How often success rates are compared.
    pub interval: Duration,
    /// For how long.
    pub ejection: Backoff,
    /// Of the endpoints at most, at the same time.
    pub max_percent: u32,
    /// Below this share of healthy endpoints all are called.
    pub min_health_percent: u32,
    /// Answers in an interval that a success rate needs to count; 0 when rates are not compared.
    pub volume: u32,
    /// Endpoints with that many that a comparison needs.
    pub hosts: u32,
}

impl Default for OutlierRules {
    /// Envoy's numbers (5 in a row, 10 s, 300 s at most, 5 hosts of 100 requests), but a first ejection of 10 s instead of
    /// 30 s, because a probe ends it; half of the endpoints instead of 10 %, because services on hosts have few; and no panic
    /// threshold, as in Istio: with few endpoints a half that is broken is common, and calling it makes things worse.
    fn default() -> Self {
        Self {
            gateway_errors: 5,
            server_errors: 0,
            interval: Duration::from_secs(10),
            ejection: Backoff { base: Duration::from_secs(10), cap: Duration::from_mins(5) },
            max_percent: 50,
            min_health_percent: 0,
            volume: 100,
            hosts: 5,
        }
    }
}

/// Errors of one endpoint in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streak {
    /// Of [`Grade::GatewayError`].
    pub gateway: u32,
    /// Of any grade but [`Grade::Fine`].
    pub server: u32,
}

impl Streak {
    /// Returns the streak after one more answer.
    #[must_use]
    pub fn record(self, grade: Grade) -> Self {
        match grade {
            Grade::Fine => Self::default(),
            Grade::ServerError => Self { gateway: 0, server: self.server.saturating_add(1) },
            Grade::GatewayError => {
                Self { gateway: self.gateway.saturating_add(1), server: self.server.saturating_add(1) }
            }
        }
    }

    /// Returns whether it is long enough to eject.
    pub fn is_enough(self, rules: &OutlierRules) -> bool {
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        reached(self.gateway, rules.gateway_errors) || reached(self.server, rules.server_errors)
    }
}

/// What is remembered of an endpoint's ejections, so that they become longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejections {
    /// How many lately.
    pub count: u32,
}

impl Ejections {
    /// Ejects an endpoint: for longer each time.
    pub fn eject(&mut self, avoidance: &mut Avoidance, rules: &OutlierRules, now_ns: u64, draw: u64) {
        self.count = self.count.saturating_add(1);
        avoidance.eject(now_ns, self.count, rules.ejection, draw);
    }

    /// Counts an interval in which the endpoint was not ejected: what it did before weighs one less.
    pub fn calm(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

/// What one endpoint answered in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers of [`Grade::Fine`].
    pub fine: u32,
    /// Others.
    pub errors: u32,
    /// Whether it is ejected already.
    pub ejected: bool,
}

impl Tally {
    fn volume(self) -> u32 {
        self.fine.saturating_add(self.errors)
    }

    fn rate(self) -> f64 {
        f64::from(self.fine) / f64::from(self.volume().max(1))
    }
}

/// Returns whether one more of `endpoints` may be ejected while `ejected` are: one always stays.
pub fn may_eject(rules: &OutlierRules, endpoints: usize, ejected: usize) -> bool {
    // As in Envoy, one may go even where the share of one is already too much; but not where it is the only one.
    let most = (endpoints * rules.max_percent as usize / 100).max(usize::from(rules.max_percent > 0));
    ejected < most.min(endpoints.saturating_sub(1))
}

/// Compares success rates and returns who is to be ejected, the worst first, by index.
pub fn compare(rules: &OutlierRules, tallies: &[Tally]) -> Vec<usize> {
    if rules.volume == 0 {
        return Vec::new();
    }
    let counted: Vec<(usize, f64)> = tallies
        .iter()
        .enumerate()
        .filter(|(_, tally)| !tally.ejected && tally.volume() >= rules.volume)
        .map(|(index, tally)| (index, tally.rate()))
        .collect();
    if counted.is_empty() || counted.len() < rules.hosts as usize {
        return Vec::new();
    }
    let count = counted.len() as f64;
    let mean = counted.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = counted.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let least = (mean - DEVIATIONS * variance.sqrt()).min(mean - MARGIN);
    let mut below: Vec<(usize, f64)> = counted.into_iter().filter(|(_, rate)| *rate < least).collect();
    below.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let already = tallies.iter().filter(|tally| tally.ejected).count();
    let hosts = tallies.len();
    let room = (already..hosts).take_while(|ejected| may_eject(rules, hosts, *ejected)).count();
    below.into_iter().take(room).map(|(index, _)| index).collect()
}

/// Returns whether so few of the capacity is healthy that all of it should be called, ejected and unhealthy endpoints too.
/// (Where nothing is healthy, picking does so anyway.)
pub fn panics(rules: &OutlierRules, healthy: u64, capacity: u64) -> bool {
    u128::from(healthy) * 100 < u128::from(capacity) * u128::from(rules.min_health_percent)
}
