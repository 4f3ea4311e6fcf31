//! What needs attention: each line says what is wrong, with the evidence, and leads to where it is.

use crate::model::endpoint::{MemberState, Role, Standing};
use crate::model::view::{EdgeView, IdentityView, MeshView, NodeView, ServiceView};
use crate::top::format;
use crate::top::health::{Health, SAMPLES_MIN, Status, is_called, is_slow};
use crate::top::history::{History, Series};
use crate::top::target::{EdgeId, Target};

/// A proxy that is alive and has not reported for so long is worth a line.
const SILENT_MS: u64 = 15_000;
/// A certificate that should have been renewed so long ago is worth a line.
const OVERDUE_MS: u64 = 120_000;
/// A certificate this near to its end is an incident when its renewal fails.
const EXPIRY_BAD_MS: u64 = 3_600_000;
/// What is true for a moment after every change must last so long to be worth a line.
const SETTLE_MS: u64 = 5_000;

/// One line of what needs attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Lint {
    /// Tells it apart from the others, from one second to the next.
    pub key: String,
    /// How bad.
    pub status: Status,
    /// What it is about.
    pub subject: String,
    /// What is wrong, with numbers.
    pub evidence: String,
    /// Where to look.
    pub target: Target,
    /// Sorts lines of the same status: about the failing requests per second.
    pub impact: f64,
    /// Since when, Unix milliseconds by the observer's clock.
    pub since_ms: u64,
    /// How long it must last before it is shown, ms.
    pub settle_ms: u64,
}

impl Lint {
    fn new(key: String, status: Status, subject: String, evidence: String, target: Target) -> Self {
        Self { key, status, subject, evidence, target, impact: 0.0, since_ms: 0, settle_ms: 0 }
    }
}

/// Returns every line, worst first. Those that were there before keep their beginning.
pub fn lints(view: &MeshView, history: &History, health: &Health, before: &[Lint]) -> Vec<Lint> {
    let mut found = Vec::new();
    found.extend(view.edges.iter().filter_map(|edge| edge_lint(edge, view, history, health)));
    for service in &view.services {
        found.extend(service_lints(service, view));
    }
    found.extend(view.nodes.iter().filter_map(|node| node_lint(node, view)));
    found.extend(view.identities.iter().filter_map(|identity| identity_lint(identity, view.at_ms)));
    for lint in &mut found {
        if lint.since_ms == 0 {
            let known = before.iter().find(|old| old.key == lint.key);
            lint.since_ms = known.map_or(view.at_ms, |old| old.since_ms.min(view.at_ms));
        }
    }
    found.sort_by(|a, b| {
        b.status.cmp(&a.status).then(b.impact.total_cmp(&a.impact)).then_with(|| a.key.cmp(&b.key))
    });
    found
}

/// Returns the lines that have lasted long enough to be shown.
pub fn settled(lints: &[Lint], at_ms: u64) -> impl Iterator<Item = &Lint> {
    lints.iter().filter(move |lint| at_ms.saturating_sub(lint.since_ms) >= lint.settle_ms)
}

fn edge_lint(edge: &EdgeView, view: &MeshView, history: &History, health: &Health) -> Option<Lint> {
    let id = EdgeId::from(edge);
    let series = Series::Edge(id.clone());
    let traffic = &edge.traffic;
    let status = health.of(&series, traffic);
    if !status.is_fault() {
        return None;
    }
    let usual = history.usual_p99_ms(&series);
    let subject = format!("{}→{}", format::subject(&edge.source), format::service(&edge.destination));
    let key = format!("edge/{}/{}/{:?}", edge.source, edge.destination, edge.protocol);
    let mut evidence = Vec::new();
    if status == Status::Deny {
        evidence
            .push(format!("{} denied/min by the intentions", format::rate(traffic.denied_per_second * 60.0)));
        evidence.push(format!("mesh get intentions -n {}", edge.destination.namespace()));
    } else {
        evidence.push(format!("{} ok", format::success(traffic)));
        if traffic.failures_per_second > 0.0 {
            evidence.push(format!("{} err/s", format::rate(traffic.failures_per_second)));
        }
        if let Some((reason, _)) = traffic.reasons.iter().max_by_key(|(_, count)| **count) {
            evidence.push(reason.clone());
        }
        if let Some(p99) = traffic.latency_ms.p99 {
            let slow = is_slow(&traffic.latency_ms, usual) && traffic.latency_ms.samples >= SAMPLES_MIN;
            let was = usual
                .filter(|_| slow)
                .map(|usual| format!(" (was {})", format::latency(usual)))
                .unwrap_or_default();
            evidence.push(format!("p99 {}{was}", format::latency(p99)));
        }
    }
    let callers = view.edges.iter().filter(|other| Some(&other.destination) == edge.source.service()).count();
    let weight = 1.0 + (1.0 + callers as f64).log2();
    let mut lint = Lint::new(key, status, subject, evidence.join("  "), Target::Edge(id));
    lint.impact = (traffic.failures_per_second + traffic.denied_per_second * 0.1) * weight;
    Some(lint)
}

fn service_lints(service: &ServiceView, view: &MeshView) -> Vec<Lint> {
    let name = format::service(&service.name);
    let mut found = Vec::new();
    let ready = service.instances.iter().filter(|instance| instance.standing == Standing::Ready).count();
    if ready == 0 && is_called(&service.name, view) {
        let evidence = if service.instances.is_empty() {
            "is called and has no instance".to_owned()
        } else {
            format!(
                "is called and none of its {} is ready",
                format::count(service.instances.len(), "instance")
            )
        };
        let key = format!("service/{}/none", service.name);
        let mut lint =
            Lint::new(key, Status::Bad, name.clone(), evidence, Target::Service(service.name.clone()));
        lint.impact = 1.0;
        lint.settle_ms = SETTLE_MS;
        found.push(lint);
    }
    for instance in &service.instances {
        let (status, evidence) = if instance.standing == Standing::Unhealthy {
            (Status::Warn, "its health check fails".to_owned())
        } else if !instance.ejected_by.is_empty() {
            let by = instance.ejected_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            (Status::Warn, format!("ejected for failing by {by}"))
        } else {
            continue;
        };
        let subject = format!("{name}@{}", instance.node);
        let key = format!("instance/{}/{}/{}", service.name, instance.node, instance.port);
        let target = Target::Instance(service.name.clone(), instance.node.clone(), instance.port);
        let mut lint = Lint::new(key, status, subject, evidence, target);
        lint.impact = instance.traffic.failures_per_second;
        found.push(lint);
    }
    found
}

fn node_lint(node: &NodeView, view: &MeshView) -> Option<Lint> {
    let mut since_ms = 0;
    let mut settle_ms = 0;
    let (what, status, evidence) = match node.state {
        MemberState::Left => return None,
        MemberState::Dead => {
            since_ms = node.since_ms;
            let lost = format::count(node.instances, "instance");
            ("dead", Status::Bad, format!("does not answer: counted as dead, {lost} with it"))
        }
        MemberState::Suspect => {
            since_ms = node.since_ms;
            ("suspect", Status::Warn, "did not answer lately: suspect, avoided while others do".to_owned())
        }
        MemberState::Alive => {
            let (what, status, evidence) = alive_lint(node, view)?;
            settle_ms = if what == "behind" { SETTLE_MS } else { 0 };
            (what, status, evidence)
        }
    };
    let target = Target::Node(node.name.clone());
    let mut lint =
        Lint::new(format!("node/{}/{what}", node.name), status, node.name.to_string(), evidence, target);
    lint.since_ms = since_ms;
    lint.settle_ms = settle_ms;
    lint.impact = node.instances as f64;
    Some(lint)
}

fn alive_lint(node: &NodeView, view: &MeshView) -> Option<(&'static str, Status, String)> {
    let newest = view.revision;
    if let Some(why) = &node.refused {
        return Some(("refused", Status::Bad, format!("refused revision {newest}: {why}")));
    }
    if let Some(revision) = node.revision.filter(|revision| *revision < newest) {
        let lag = newest - revision;
        return Some(("behind", Status::Warn, format!("on revision {revision}, {lag} behind {newest}")));
    }
    let silent_ms = view.at_ms.saturating_sub(node.reported_ms?);
    (node.role == Role::Proxy && silent_ms >= SILENT_MS).then(|| {
        ("silent", Status::Warn, format!("alive, and no report for {}", format::age_short(silent_ms)))
    })
}

fn identity_lint(identity: &IdentityView, at_ms: u64) -> Option<Lint> {
    let held = &identity.status;
    let left_ms = held.not_after_ms.saturating_sub(at_ms);
    let left =
        if left_ms == 0 { "expired".to_owned() } else { format!("expires in {}", format::age(left_ms)) };
    let overdue = at_ms > held.renew_ms + OVERDUE_MS;
    let (status, evidence) = match &held.last_error {
        Some(error) => {
            let status = if left_ms < EXPIRY_BAD_MS { Status::Bad } else { Status::Warn };
            (status, format!("{left}, renewal failed: {error}"))
        }
        None if left_ms == 0 => (Status::Bad, left),
        None if overdue => {
            let by = format::age(at_ms.saturating_sub(held.renew_ms));
            (Status::Warn, format!("{left}, renewal {by} overdue"))
        }
        None => return None,
    };
    let subject = format!("certificate {}/{}", identity.node, format::subject(&held.subject));
    let key = format!("identity/{}/{}", identity.node, held.subject);
    let target = Target::Identity(held.subject.clone(), identity.node.clone());
    let mut lint = Lint::new(key, status, subject, evidence, target);
    lint.impact = if left_ms == 0 { 10.0 } else { 3_600_000.0 / left_ms as f64 };
    Some(lint)
}
