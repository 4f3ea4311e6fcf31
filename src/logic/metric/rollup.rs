//! The reports of all proxies, merged: totals, recent counts, and how each proxy is.
//!
//! Every report counts once, however often and however late it comes: `(node, epoch, sequence)` tells, with a bitmap of
//! the last sequences as in the anti-replay window of ESP (RFC 4303 §3.4.3). Memory is bounded by [`SERIES_MAX`] and by the
//! number of nodes; what is silent for [`IDLE_MS_MAX`] is forgotten.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::logic::metric::hours::Hours;
use crate::logic::metric::report::{EdgeCounts, EdgeDelta, EdgeKey, EjectedEndpoint, ProxyStatus, Report};
use crate::logic::metric::total::{EdgeTotal, add_rules};
use crate::logic::metric::window::{WINDOW_TICKS, Window};
use crate::model::name::NodeName;
use crate::model::view::{EventView, Severity, Side};

/// Most series; further ones are counted under [`EdgeKey::overflow`].
pub const SERIES_MAX: usize = 50_000;
/// Series and proxies without news for so long are forgotten, milliseconds.
pub const IDLE_MS_MAX: u64 = 600_000;
/// A proxy that did not report for so long no longer vouches for its open connections, milliseconds.
const VOUCH_MS_MAX: u64 = 15_000;
/// An edge whose calls are refused makes an event no more often than this, milliseconds; what was refused since the last is
/// told with the next.
const DENY_EVENT_EVERY_MS: u64 = 10_000;
/// Most edges whose refusals are kept for another process.
pub const REFUSED_MAX: usize = 1_000;
/// Length of a tick, milliseconds.
pub const TICK_MS: u64 = 1_000;

/// What intentions refused on one edge, or would have: what outlives the process that counted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    key: EdgeKey,
    touched_ms: u64,
    denied: u64,
    denials: BTreeMap<String, u64>,
    audited: BTreeMap<String, u64>,
}

/// Everything the proxies told, merged.
#[derive(Debug, Default)]
pub struct Rollup {
    pub(crate) series: BTreeMap<EdgeKey, Series>,
    pub(crate) reporters: BTreeMap<NodeName, Reporter>,
    /// The first tick that reports speak of, as far as the window then reached back.
    pub(crate) began: Option<u64>,
    /// The tick in which the idle were last looked for.
    swept: u64,
    /// The traffic of the last hours; `None` where nobody asks for it.
    hours: Option<Hours>,
}

#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) total: EdgeTotal,
    pub(crate) window: Window,
    touched_ms: u64,
    refusals: Refusals,
}

/// Calls on an edge that were refused, or would have been, and were not told yet.
#[derive(Debug, Default)]
struct Refusals {
    denied: u64,
    denials: BTreeMap<String, u64>,
    audited: BTreeMap<String, u64>,
    /// When some were told last.
    told_ms: Option<u64>,
}

/// One proxy, by its reports.
#[derive(Debug)]
pub(crate) struct Reporter {
    epoch: u64,
    seen: Seen,
    /// The process before this one, which may still serve out what it had begun.
    before: Option<(u64, Seen)>,
    /// When its last report came.
    pub(crate) at_ms: u64,
    pub(crate) status: ProxyStatus,
    /// What it has open: never 0.
    open: BTreeMap<EdgeKey, u64>,
    /// `(when, CPU time so far)`, milliseconds, over the window.
    cpu: VecDeque<(u64, u64)>,
}

/// Which sequences of an epoch have come: the newest, and a bit for each of the 64 up to it.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    newest: u64,
    bits: u64,
}

impl Seen {
    /// Returns whether `sequence` comes for the first time. One older than the bits reach counts as a repeat.
    fn admit(&mut self, sequence: u64) -> bool {
        if self.bits == 0 || sequence > self.newest {
            let shift = u32::try_from(sequence.saturating_sub(self.newest)).unwrap_or(u32::MAX);
            self.bits = self.bits.checked_shl(shift).unwrap_or(0) | 1;
            self.newest = sequence;
            return true;
        }
        let Some(bit) = u32::try_from(self.newest - sequence).ok().and_then(|age| 1_u64.checked_shl(age))
        else {
            return false;
        };
        let first = self.bits & bit == 0;
        self.bits |= bit;
        first
    }
}

impl Rollup {
    /// Makes one that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that goes on with what is remembered of the last hours.
    pub fn remembering(hours: Hours) -> Self {
        Self { hours: Some(hours), ..Self::default() }
    }

    /// Returns what is remembered of the last hours.
    pub fn hours(&self) -> Option<&Hours> {
        self.hours.as_ref()
    }

    /// Takes a report of `node` that arrived at `now_ms`, and returns what in it is worth telling, oldest first.
    ///
    /// A report that came before changes nothing, nor does one of a process before the last two of the node; of the last
    /// but one, which serves out what it had begun, only the traffic counts. What it counted is taken to have happened evenly
    /// over the time that it covers: one that comes late makes no peak.
    pub fn add(&mut self, node: &NodeName, report: &Report, now_ms: u64) -> Vec<EventView> {
        let mut events = self.sweep(now_ms);
        let newest = self.reporters.get(node).map(|reporter| (reporter.epoch, reporter.seen));
        if newest.is_none_or(|(epoch, _)| epoch < report.epoch) {
            let reporter = Reporter { before: newest, ..Reporter::new(report) };
            self.reporters.insert(node.clone(), reporter);
        }
        let Some(reporter) = self.reporters.get_mut(node) else { return events };
        let is_current = reporter.epoch == report.epoch;
        if is_current {
            let in_order = report.sequence >= reporter.seen.newest;
            if !reporter.seen.admit(report.sequence) {
                return events;
            }
            reporter.at_ms = reporter.at_ms.max(now_ms);
            if in_order {
                status_events(node, &reporter.status, &report.proxy, now_ms, &mut events);
                reporter.set_status(&report.proxy, now_ms);
            }
        } else {
            let before = reporter.before.as_mut().filter(|(epoch, _)| *epoch == report.epoch);
            if !before.is_some_and(|(_, seen)| seen.admit(report.sequence)) {
                return events;
            }
        }
        let ticks = (report.covers_ms + TICK_MS / 2) / TICK_MS;
        let first = (now_ms / TICK_MS).saturating_sub(ticks.clamp(1, WINDOW_TICKS + 1) - 1);
        self.began = Some(self.began.map_or(first, |began| began.min(first)));
        for delta in &report.edges {
            events.extend(self.add_edge(node, delta, (ticks, is_current), now_ms));
        }
        events
    }

    fn add_edge(
        &mut self,
        node: &NodeName,
        delta: &EdgeDelta,
        (ticks, is_current): (u64, bool),
        now_ms: u64,
    ) -> Option<EventView> {
        let mut key = delta.key.clone();
        if key.side == Side::Inbound {
            // A proxy speaks for its own instances only.
            key.node = Some(node.clone());
        }
        if !self.series.contains_key(&key) && self.series.len() >= SERIES_MAX {
            key = key.overflow();
        }
        if is_current && let Some(reporter) = self.reporters.get_mut(node) {
            reporter.count_open(&key, delta.counts.opened, delta.counts.closed);
        }
        let series = self.series.entry(key.clone()).or_default();
        series.touched_ms = now_ms;
        series.total.add(&delta.counts);
        if let Some(hours) = &mut self.hours {
            hours.add(&key, &delta.counts, now_ms);
        }
        series.window.spread(now_ms / TICK_MS, ticks, &delta.counts);
        // The calling side learns no more than that it was refused.
        if key.side == Side::Outbound {
            return None;
        }
        series.refusals.add(&delta.counts);
        series.refusals.tell(&key, now_ms)
    }

    /// Returns all that was counted since each series began.
    pub fn totals(&self) -> impl Iterator<Item = (&EdgeKey, &EdgeTotal)> {
        self.series.iter().map(|(key, series)| (key, &series.total))
    }

    /// Returns whose proxies reported since a moment, Unix milliseconds.
    pub fn present(&self, since_ms: u64) -> impl Iterator<Item = &NodeName> {
        self.reporters.iter().filter(move |(_, one)| one.at_ms >= since_ms).map(|(node, _)| node)
    }

    /// Returns what intentions refused, or would have, by edge: of at most [`REFUSED_MAX`] edges, those with the newest calls.
    pub fn refused(&self) -> Vec<Refused> {
        let is_refused = |series: &Series| series.total.denied > 0 || !series.total.audited.is_empty();
        let found = self.series.iter().filter(|(_, series)| is_refused(series));
        let mut refused: Vec<_> = found
            .map(|(key, series)| Refused {
                key: key.clone(),
                touched_ms: series.touched_ms,
                denied: series.total.denied,
                denials: series.total.denials.clone(),
                audited: series.total.audited.clone(),
            })
            .collect();
        refused.sort_by_key(|one| Reverse(one.touched_ms));
        refused.truncate(REFUSED_MAX);
        refused
    }

    /// Goes on from what another rollup had refused; for one that has heard nothing yet.
    pub fn recall(&mut self, refused: Vec<Refused>) {
        for Refused { key, touched_ms, denied, denials, audited } in refused.into_iter().take(REFUSED_MAX) {
            let series = self.series.entry(key).or_default();
            series.touched_ms = touched_ms;
            series.total.add(&EdgeCounts { denied, denials, audited, ..EdgeCounts::default() });
        }
    }

    /// Returns the last status of every proxy that reports, by node.
    pub fn statuses(&self) -> impl Iterator<Item = (&NodeName, &ProxyStatus)> {
        self.reporters.iter().map(|(node, reporter)| (node, &reporter.status))
    }

    /// Returns what is open by edge, as far as somebody vouches for it.
    pub(crate) fn open(&self, now_ms: u64) -> BTreeMap<&EdgeKey, i64> {
        let mut sums: BTreeMap<&EdgeKey, i64> = BTreeMap::new();
        for reporter in self.reporters.values().filter(|one| one.at_ms.saturating_add(VOUCH_MS_MAX) > now_ms)
        {
            for (key, open) in &reporter.open {
                let sum = sums.entry(key).or_default();
                *sum = sum.saturating_add(i64::try_from(*open).unwrap_or(i64::MAX));
            }
        }
        sums
    }

    /// Forgets the idle, once a tick at most, and returns what waited to be told.
    fn sweep(&mut self, now_ms: u64) -> Vec<EventView> {
        let tick = now_ms / TICK_MS;
        if tick <= self.swept {
            return Vec::new();
        }
        self.swept = tick;
        let fresh = |at_ms: u64| at_ms.saturating_add(IDLE_MS_MAX) > now_ms;
        self.reporters.retain(|_, reporter| fresh(reporter.at_ms));
        let reporters = &self.reporters;
        let is_open = |key: &EdgeKey| reporters.values().any(|reporter| reporter.open.contains_key(key));
        self.series.retain(|key, series| fresh(series.touched_ms) || is_open(key));
        self.series.iter_mut().filter_map(|(key, series)| series.refusals.tell(key, now_ms)).collect()
    }
}

impl Reporter {
    fn new(first: &Report) -> Self {
        Self {
            epoch: first.epoch,
            seen: Seen::default(),
            before: None,
            at_ms: 0,
            status: first.proxy.clone(),
            open: BTreeMap::new(),
            cpu: VecDeque::new(),
        }
    }

    fn set_status(&mut self, status: &ProxyStatus, now_ms: u64) {
        self.cpu.push_back((now_ms, status.cpu_ms));
        let begin = now_ms.saturating_sub((WINDOW_TICKS + 1) * TICK_MS);
        self.cpu.retain(|(at_ms, _)| *at_ms >= begin);
        self.status = status.clone();
    }

    /// Counts what was opened and closed; a close whose opening was never heard of is let go.
    fn count_open(&mut self, key: &EdgeKey, opened: u64, closed: u64) {
        if opened == 0 && closed == 0 {
            return;
        }
        let before = self.open.get(key).copied().unwrap_or(0);
        match before.saturating_add(opened).saturating_sub(closed) {
            0 => _ = self.open.remove(key),
            open => _ = self.open.insert(key.clone(), open),
        }
    }

    /// Returns by how much its clock was ahead of the observer's at its last report, milliseconds; `None` when it does not say.
    pub(crate) fn ahead_ms(&self) -> Option<i64> {
        let (here_ms, _) = self.cpu.back()?;
        let there_ms = Some(self.status.now_ms).filter(|ms| *ms > 0)?;
        i64::try_from(i128::from(there_ms) - i128::from(*here_ms)).ok()
    }

    /// Returns its use of CPU over the window, in cores; `None` before the second report.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let ((from_ms, from_cpu), (to_ms, to_cpu)) = (self.cpu.front()?, self.cpu.back()?);
        let elapsed = to_ms.checked_sub(*from_ms).filter(|elapsed| *elapsed > 0)?;
        Some(to_cpu.saturating_sub(*from_cpu) as f64 / elapsed as f64)
    }
}

impl Refusals {
    fn add(&mut self, counts: &EdgeCounts) {
        self.denied = self.denied.saturating_add(counts.denied);
        add_rules(&mut self.denials, &counts.denials);
        add_rules(&mut self.audited, &counts.audited);
    }

    /// Returns what was not told yet, by which rules and where, unless some was told a moment ago.
    fn tell(&mut self, key: &EdgeKey, now_ms: u64) -> Option<EventView> {
        let early = |at_ms: u64| now_ms < at_ms.saturating_add(DENY_EVENT_EVERY_MS);
        if self.told_ms.is_some_and(early) {
            return None;
        }
        let more = if self.told_ms.is_some() { " more" } else { "" };
        let calls = |count: u64| format!("{count}{more} {}", if count == 1 { "call" } else { "calls" });
        let by = |rules: &BTreeMap<String, u64>, did: &str| {
            let each = rules.iter().map(|(rule, count)| format!("{rule} {did} {}", calls(*count)));
            each.collect::<Vec<_>>().join(", ")
        };
        let (severity, kind, what) = match (self.denied, self.denials.is_empty(), self.audited.is_empty()) {
            (0, true, true) => return None,
            (_, false, _) => (Severity::Warning, "deny", by(&self.denials, "refused")),
            (0, true, false) => (Severity::Info, "audit", by(&self.audited, "would have refused")),
            (denied, true, _) => (Severity::Warning, "deny", format!("intentions refused {}", calls(denied))),
        };
        *self = Self { told_ms: Some(now_ms), ..Self::default() };
        let place = key.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let subject = format!("{} -> {}", key.source, key.destination);
        Some(event(now_ms, severity, kind, subject, format!("{what} to {}{place}", key.destination)))
    }
}

/// Tells what became different between two statuses of a proxy.
fn status_events(
    node: &NodeName,
    old: &ProxyStatus,
    new: &ProxyStatus,
    now_ms: u64,
    events: &mut Vec<EventView>,
) {
    let among = |all: &[EjectedEndpoint], one: &EjectedEndpoint| {
        all.iter().any(|other| other.service == one.service && other.node == one.node)
    };
    for ejected in new.ejected.iter().filter(|one| !among(&old.ejected, one)) {
        let subject = format!("{}@{}", ejected.service, ejected.node);
        let message = format!("{node} avoids it: {}", ejected.reason);
        events.push(event(now_ms, Severity::Warning, "outlier", subject, message));
    }
    for returned in old.ejected.iter().filter(|one| !among(&new.ejected, one)) {
        let subject = format!("{}@{}", returned.service, returned.node);
        events.push(event(now_ms, Severity::Info, "outlier", subject, format!("{node} uses it again")));
    }
    for identity in &new.identities {
        let before = old.identities.iter().find(|one| one.subject == identity.subject);
        let Some(error) = &identity.last_error else { continue };
        if before.is_none_or(|before| before.last_error.is_none()) {
            let message = format!("{node} could not renew its certificate: {error}");
            events.push(event(now_ms, Severity::Error, "certificate", identity.subject.to_string(), message));
        }
    }
}

fn event(at_ms: u64, severity: Severity, kind: &str, subject: String, message: String) -> EventView {
    EventView { at_ms, severity, kind: kind.to_owned(), subject, message }
}
