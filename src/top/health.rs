//! How things are: five words, each with its glyph, and the thresholds between them.

use std::collections::BTreeMap;

use crate::model::endpoint::{MemberState, Standing};
use crate::model::name::ServiceName;
use crate::model::view::{InstanceView, LatencyView, MeshView, NodeView, Severity, TrafficView};
use crate::top::history::{History, Series};
use crate::top::target::EdgeId;

/// Share of failures from which something is failing.
const BAD_SHARE: f64 = 0.02;
/// Share of failures from which it deserves a look.
const WARN_SHARE: f64 = 0.007;
/// How many times its usual slowest percentile something must take to deserve a look.
const SLOW_FACTOR: f64 = 4.0;
/// Slower than usual is only worth a word from here on, ms.
const SLOW_MS: f64 = 20.0;
/// Fewer samples than this make no percentile worth a judgement.
pub const SAMPLES_MIN: u64 = 20;
/// Ticks that a better state must last before it is believed, so that rows do not blink.
const CALM_TICKS: u8 = 3;

/// How something is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing to say.
    Ok,
    /// No traffic in the window.
    Idle,
    /// Refused by an intention: as configured, yet somebody tries.
    Deny,
    /// Deserves a look.
    Warn,
    /// Failing.
    Bad,
}

/// Every status, best first.
pub const STATUSES: [Status; 5] = [Status::Ok, Status::Idle, Status::Deny, Status::Warn, Status::Bad];

impl Status {
    /// Returns the glyph that stands for it, with and without colour.
    pub fn glyph(self) -> char {
        match self {
            Self::Ok => '●',
            Self::Idle => '○',
            Self::Deny => '⊘',
            Self::Warn => '!',
            Self::Bad => '×',
        }
    }

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Idle => "idle",
            Self::Deny => "denied",
            Self::Warn => "warn",
            Self::Bad => "failing",
        }
    }

    /// Returns whether it is worth showing when only faults are wanted.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Deny | Self::Warn | Self::Bad)
    }
}

/// Judges traffic. `usual_p99_ms` is what it took before, where known.
pub fn judge(traffic: &TrafficView, usual_p99_ms: Option<f64>) -> Status {
    if traffic.requests_per_second <= 0.0 && traffic.denied_per_second <= 0.0 {
        return if traffic.connections_open > 0 { Status::Ok } else { Status::Idle };
    }
    let denied = traffic.denied_per_second;
    let failures = traffic.failures_per_second;
    let share = failures / traffic.requests_per_second.max(f64::EPSILON);
    if failures > 0.0 && share >= BAD_SHARE {
        Status::Bad
    } else if (failures > 0.0 && share >= WARN_SHARE) || is_slow(&traffic.latency_ms, usual_p99_ms) {
        Status::Warn
    } else if denied > 0.0 {
        Status::Deny
    } else {
        Status::Ok
    }
}

/// Returns whether requests take several times as long as usual.
pub fn is_slow(latency: &LatencyView, usual_p99_ms: Option<f64>) -> bool {
    match (latency.p99, usual_p99_ms) {
        (Some(p99), Some(usual)) => {
            latency.samples >= SAMPLES_MIN && p99 >= SLOW_MS && p99 >= usual * SLOW_FACTOR
        }
        _ => false,
    }
}

/// Judges an instance of a service by its standing and by who avoids it.
pub fn judge_instance(instance: &InstanceView) -> Status {
    match instance.standing {
        Standing::Unhealthy => Status::Bad,
        Standing::Suspect => Status::Warn,
        Standing::Draining => Status::Idle,
        Standing::Ready if !instance.ejected_by.is_empty() => Status::Bad,
        Standing::Ready if instance.traffic.requests_per_second <= 0.0 => Status::Ok,
        Standing::Ready => judge(&instance.traffic, None),
    }
}

/// Returns whether an instance that says it is ready serves nobody: callers avoid it, or none of its calls succeeds.
pub fn is_down(instance: &InstanceView) -> bool {
    let serves_none = instance.traffic.success().is_some_and(|share| share <= 0.0);
    judge_instance(instance) == Status::Bad && (!instance.ejected_by.is_empty() || serves_none)
}

/// Returns whether somebody calls `service` in the window.
pub fn is_called(service: &ServiceName, view: &MeshView) -> bool {
    view.edges.iter().any(|edge| edge.destination == *service && edge.traffic.requests_per_second > 0.0)
}

/// Judges a node.
pub fn judge_node(node: &NodeView) -> Status {
    match node.state {
        MemberState::Dead => Status::Bad,
        MemberState::Suspect => Status::Warn,
        MemberState::Left => Status::Idle,
        MemberState::Alive if node.refused.is_some() => Status::Bad,
        MemberState::Alive if node.draining => Status::Idle,
        MemberState::Alive => Status::Ok,
    }
}

/// Returns the status that an event's severity reads as.
pub fn of_severity(severity: Severity) -> Status {
    match severity {
        Severity::Info => Status::Ok,
        Severity::Warning => Status::Warn,
        Severity::Error => Status::Bad,
    }
}

/// What is thought of every service and edge: worse is believed at once, better after three ticks.
#[derive(Debug, Clone, Default)]
pub struct Health {
    known: BTreeMap<Series, (Status, u8)>,
}

impl Health {
    /// Takes in one view.
    pub fn record(&mut self, view: &MeshView, history: &History) {
        let services =
            view.services.iter().map(|service| (Series::Service(service.name.clone()), &service.traffic));
        let edges = view.edges.iter().map(|edge| (Series::Edge(EdgeId::from(edge)), &edge.traffic));
        let mut next = BTreeMap::new();
        for (series, traffic) in services.chain(edges) {
            let found = judge(traffic, history.usual_p99_ms(&series));
            let entry = match self.known.get(&series) {
                Some((held, calm)) if found < *held && calm + 1 < CALM_TICKS => (*held, calm + 1),
                _ => (found, 0),
            };
            next.insert(series, entry);
        }
        self.known = next;
    }

    /// Returns what is thought of `series`, or what `traffic` alone says.
    pub fn of(&self, series: &Series, traffic: &TrafficView) -> Status {
        self.known.get(series).map_or_else(|| judge(traffic, None), |(status, _)| *status)
    }
}
