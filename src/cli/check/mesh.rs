//! What the control plane knows of the mesh, or, without one, what this host's proxy knows: identities, nodes, services.

use std::collections::BTreeSet;

use crate::api::wire::Status;
use crate::cli::check::certificate;
use crate::cli::check::finding::{Category, Check, Mark, check};
use crate::cli::output;
use crate::logic::naming::similar;
use crate::model::endpoint::{MemberState, Role, Standing};
use crate::model::view::{InstanceView, MeshView, NodeView, ServiceView};
use crate::top::health::{self, Status as Health};

const DAY_MS: u64 = 86_400_000;
/// Warn when the root certificate has less left than this.
const ROOT_LEFT_MS: u64 = 60 * DAY_MS;
/// Warn about clocks that differ by more than this: certificates are backdated by ten minutes.
pub(crate) const SKEW_MS: u64 = 30_000;
/// What to do about them.
pub(crate) const SYNCHRONISE: &str = "synchronise the clocks: 'timedatectl set-ntp true', or chrony";
/// A proxy that reported within this time is connected; reports come every second.
const REPORT_AGE_MS: u64 = 15_000;

/// Judges what a control plane says of itself and of its mesh at `now_ms`.
pub(crate) fn examine(status: &Status, view: &MeshView, now_ms: u64) -> Vec<Category> {
    vec![
        Category::new("mesh-control", control(status, now_ms)),
        Category::new("mesh-identity", identity(status, view, now_ms)),
        Category::new("mesh-nodes", nodes(view, Some(status), now_ms)),
        Category::new("mesh-services", services(view)),
    ]
}

/// Judges what one proxy knows of its mesh at `now_ms`: who is there, by gossip, and which services they have.
pub(crate) fn examine_from_proxy(view: &MeshView, now_ms: u64) -> Vec<Category> {
    vec![
        Category::new("mesh-nodes", nodes(view, None, now_ms)),
        Category::new("mesh-services", services(view)),
    ]
}

/// The answer when no control plane could be asked.
pub(crate) fn unreachable(error: &str) -> Category {
    let hint = "is 'mesh control' running there, and may this user use its socket?";
    let found = check("control plane answers", Mark::Error, [error.to_owned()], hint);
    Category::new("mesh-control", vec![found])
}

fn control(status: &Status, now_ms: u64) -> Vec<Check> {
    let skew = status.now_ms.abs_diff(now_ms);
    let skewed =
        (skew > SKEW_MS).then(|| format!("{} is {} s away from this host", status.node, skew / 1000));
    let own = env!("CARGO_PKG_VERSION");
    let other =
        (status.build != own).then(|| format!("{} runs {}, this is {own}", status.node, status.build));
    vec![
        check("control plane answers", Mark::Error, Vec::new(), ""),
        check("clocks agree", Mark::Warning, skewed, SYNCHRONISE),
        check("versions agree", Mark::Warning, other, "run 'mesh upgrade' where the older one is"),
    ]
}

fn identity(status: &Status, view: &MeshView, now_ms: u64) -> Vec<Check> {
    let left = status.root_not_after_ms.saturating_sub(now_ms);
    let root = (left < ROOT_LEFT_MS).then(|| format!("it ends in {}", output::age(left)));
    let signer = (status.intermediate_not_after_ms <= now_ms)
        .then(|| "the signing certificate has expired".to_owned());
    let mut checks = vec![
        check(
            "trust anchors are valid for at least 60 days",
            Mark::Warning,
            root,
            "plan for a new root: nodes must join again to trust it",
        ),
        check("certificates can be signed", Mark::Error, signer, "restart the control plane"),
    ];
    checks.extend(certificate::judge(view.identities.iter().map(|held| (&held.node, &held.status)), now_ms));
    checks
}

/// What is wrong with nodes, by kind.
#[derive(Debug, Default)]
struct Nodes {
    dead: Vec<String>,
    suspect: Vec<String>,
    silent: Vec<String>,
    behind: Vec<String>,
    refused: Vec<String>,
    skewed: Vec<String>,
    removed: bool,
}

impl Nodes {
    fn look_at(&mut self, node: &NodeView, (view, now_ms): (&MeshView, u64)) {
        let since = output::age(now_ms.saturating_sub(node.since_ms));
        match node.state {
            MemberState::Dead => self.dead.push(format!("{} for {since}", node.name)),
            MemberState::Suspect => self.suspect.push(format!("{} for {since}", node.name)),
            MemberState::Alive if node.removed => {
                self.silent.push(format!("{} was removed from the mesh, and still runs", node.name));
                self.removed = true;
            }
            MemberState::Alive if node.role == Role::Proxy => self.look_at_proxy(node, (view, now_ms)),
            MemberState::Alive | MemberState::Left => {}
        }
    }

    fn look_at_proxy(&mut self, node: &NodeView, (view, now_ms): (&MeshView, u64)) {
        match node.reported_ms.map(|at_ms| now_ms.saturating_sub(at_ms)) {
            Some(age_ms) if age_ms <= REPORT_AGE_MS => {}
            Some(age_ms) => self.silent.push(format!("{} for {}", node.name, output::age(age_ms))),
            None => self.silent.push(format!("{} has not reported yet", node.name)),
        }
        match node.ahead_ms {
            Some(ahead_ms) if ahead_ms.unsigned_abs() > SKEW_MS => {
                self.skewed.push(skew(node.name.as_str(), ahead_ms, view.observer.to_string().as_str()));
            }
            Some(_) => {}
            None => self.skewed.push(format!("that of {} is not known, as it has not reported", node.name)),
        }
        if let Some(reason) = &node.refused {
            self.refused.push(format!("{}: {reason}", node.name));
        } else if let Some(has) = node.revision.filter(|revision| *revision < view.revision) {
            self.behind.push(format!("{} is at revision {has} of {}", node.name, view.revision));
        }
    }
}

/// Says by how much a clock is ahead of another one, or behind it.
pub(crate) fn skew(whose: &str, ahead_ms: i64, other: &str) -> String {
    let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
    format!("the clock of {whose} is {} {side} that of {other}", output::age(ahead_ms.unsigned_abs() + 500))
}

/// Judges the nodes; with `status`, that of control, also what only control knows.
fn nodes(view: &MeshView, status: Option<&Status>, now_ms: u64) -> Vec<Check> {
    let mut found = Nodes::default();
    view.nodes.iter().for_each(|node| found.look_at(node, (view, now_ms)));
    let mut checks = vec![
        check(
            "no node is dead",
            Mark::Error,
            found.dead,
            "start mesh there again, or let it be forgotten in an hour",
        ),
        check(
            "no node is suspect",
            Mark::Warning,
            found.suspect,
            "check UDP and TCP port 7946 between the hosts; 'mesh check' there tries both",
        ),
    ];
    let Some(status) = status else { return checks };
    let others =
        view.nodes.iter().filter(|node| node.state == MemberState::Alive && node.build != status.build);
    let others = others
        .map(|node| format!("{} runs {}, {} runs {}", node.name, node.build, status.node, status.build));
    checks.extend([
        check(
            "every proxy reports",
            Mark::Error,
            found.silent,
            if found.removed {
                "stop the one that was removed, or start it with --join TOKEN of a new token; the others: check that \
                 they reach the control plane's port 7443"
            } else {
                "check that it reaches the control plane's port 7443"
            },
        ),
        check(
            "every node runs the control plane's version",
            Mark::Warning,
            others,
            "run 'mesh upgrade' there",
        ),
        check(
            "every node's clock agrees with the control plane's",
            Mark::Warning,
            found.skewed,
            SYNCHRONISE,
        ),
        check("every proxy is at the newest revision", Mark::Warning, found.behind, "wait, or look at its log"),
        check(
            "no proxy refused a revision",
            Mark::Error,
            found.refused,
            "mend the object and apply it again; where it could not be kept, make room on the disk",
        ),
    ]);
    checks
}

/// What to do about an instance that is not ready, by why it is not.
fn remedy(standing: Standing) -> &'static str {
    match standing {
        Standing::Draining => "'mesh drain --undo NODE' gives a node that drains its calls again",
        Standing::Ready | Standing::Suspect | Standing::Unhealthy => {
            "check that the service listens where --service says, and its health check"
        }
    }
}

/// Returns how many instances of a service are ready, and why the others are not.
fn readiness(service: &ServiceView) -> String {
    let ready = service.instances.iter().filter(|one| one.standing == Standing::Ready).count();
    let others = service.instances.iter().filter_map(|one| match one.standing {
        Standing::Ready => None,
        Standing::Draining => Some(format!("{} drains", one.node)),
        Standing::Suspect => Some(format!("{} is suspect", one.node)),
        Standing::Unhealthy => Some(format!("{} is unhealthy", one.node)),
    });
    let others = others.collect::<Vec<_>>().join(", ");
    format!("{}: {ready} of {} ready: {others}", service.name, service.instances.len())
}

/// Returns what is wrong with the calls of an instance that is ready, if they fail.
fn failing(service: &ServiceView, instance: &InstanceView) -> Option<String> {
    if instance.standing != Standing::Ready || health::judge_instance(instance) != Health::Bad {
        return None;
    }
    let avoiders = instance.ejected_by.iter().map(ToString::to_string).collect::<Vec<_>>();
    let why = if avoiders.is_empty() {
        let share = instance.traffic.success().unwrap_or_default();
        format!("{:.2}% of its calls succeed", share * 100.0)
    } else {
        format!("ejected for failing by {}", avoiders.join(", "))
    };
    Some(format!("{}@{}: {why}", service.name, instance.node))
}

/// Judges the services; so does the console, by the same measures.
fn services(view: &MeshView) -> Vec<Check> {
    let (mut none, mut weak, mut failures, mut gone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut remedies = BTreeSet::new();
    let (mut failed, mut missed) = (Mark::Warning, Mark::Warning);
    for service in &view.services {
        if service.instances.is_empty() {
            let called = health::is_called(&service.name, view);
            missed = if called { Mark::Error } else { missed };
            let there = view.services.iter().filter(|other| !other.instances.is_empty());
            let hint = similar::hint(&service.name, there.map(|other| &other.name));
            gone.push(format!(
                "{}: {}{hint}",
                service.name,
                if called { "is called" } else { "was called earlier" }
            ));
            continue;
        }
        let ready: Vec<_> = service.instances.iter().filter(|one| one.standing == Standing::Ready).collect();
        if ready.len() < service.instances.len() {
            weak.push(readiness(service));
        }
        if ready.is_empty() {
            none.push(readiness(service));
        } else if ready.iter().all(|one| health::is_down(one)) {
            failed = Mark::Error;
        }
        let unready = service.instances.iter().filter(|one| one.standing != Standing::Ready);
        remedies.extend(unready.map(|one| remedy(one.standing)));
        failures.extend(ready.iter().filter_map(|instance| failing(service, instance)));
    }
    let calls = view.edges.iter().filter(|edge| health::judge(&edge.traffic, None) == Health::Bad);
    let calls = calls.map(|edge| {
        let share = edge.traffic.success().unwrap_or_default() * 100.0;
        format!("{} -> {}: {share:.2}% succeed", edge.source, edge.destination)
    });
    let remedies = remedies.into_iter().collect::<Vec<_>>().join("; ");
    vec![
        check("every service has a ready instance", Mark::Error, none, &remedies),
        check("every instance is ready", Mark::Warning, weak, &remedies),
        check(
            "no instance fails its calls",
            failed,
            failures,
            "look at the service and its log there; 'mesh stat' and 'mesh tap' show what fails",
        ),
        check("calls succeed", Mark::Warning, calls, "'mesh tap' and 'mesh why' show what becomes of them"),
        check(
            "somebody runs every service that is called",
            missed,
            gone,
            "nobody runs it: start it again; ten minutes after its last call it is forgotten",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::cli::check::finding::{Check, Mark};
    use crate::cli::check::mesh::services;
    use crate::model::view::MeshView;

    fn traffic(rate: f64, success: f64) -> Value {
        json!({
            "requestsPerSecond": rate, "successRate": success, "failuresPerSecond": rate * (1.0 - success),
            "deniedPerSecond": 0.0, "retriesPerSecond": 0.0, "bytesPerSecond": 0.0, "connectionsOpen": 0,
            "latencyMs": { "p50": null, "p95": null, "p99": null, "samples": 0 },
            "requestsTotal": 100, "failuresTotal": 0, "deniedTotal": 0, "classes": {}, "reasons": {}, "heat": []
        })
    }

    fn with(mut traffic: Value, more: Value) -> Value {
        let (Value::Object(all), Value::Object(more)) = (&mut traffic, more) else { panic!("no objects") };
        all.extend(more);
        traffic
    }

    fn instance(node: &str, standing: &str, ejected_by: &[&str], success: f64) -> Value {
        let more = json!({
            "node": node, "addr": "127.0.0.1:7001", "port": 80, "zone": null, "standing": standing,
            "ejectedBy": ejected_by
        });
        with(traffic(5.0, success), more)
    }

    /// Examines the service `web` with these instances, called at `rate` per second.
    fn examined(rate: f64, success: f64, instances: &[Value]) -> Vec<Check> {
        let service = json!({ "name": "web", "protocol": "http", "instances": instances, "routes": [] });
        let edge = json!({
            "source": "shop", "destination": "web", "protocol": "http", "server": null, "mtls": true
        });
        let view = json!({
            "mesh": "mesh.test", "observer": "control/c1", "atMs": 1, "windowSeconds": 10, "revision": 1,
            "services": [with(traffic(rate, success), service)], "edges": [with(traffic(rate, success), edge)],
            "nodes": [], "identities": [], "events": []
        });
        services(&serde_json::from_value::<MeshView>(view).unwrap())
    }

    fn told(checks: &[Check], description: &str) -> (Mark, String, String) {
        let check = checks.iter().find(|check| check.description == description).unwrap();
        (check.result, check.findings.join("\n"), check.hint.clone().unwrap_or_default())
    }

    #[test]
    fn a_service_of_which_every_instance_is_ejected_is_an_error() {
        let checks = examined(5.0, 0.0, &[instance("vm-1", "ready", &["vm-2"], 0.0)]);

        let (mark, findings, hint) = told(&checks, "no instance fails its calls");
        assert_eq!((mark, findings.as_str()), (Mark::Error, "web.default@vm-1: ejected for failing by vm-2"));
        assert!(!hint.is_empty());
        let (mark, findings, _) = told(&checks, "calls succeed");
        assert_eq!((mark, findings.as_str()), (Mark::Warning, "shop.default -> web.default: 0.00% succeed"));
    }

    #[test]
    fn one_ejected_instance_of_two_is_a_warning() {
        let both = [instance("vm-1", "ready", &["vm-2"], 0.0), instance("vm-3", "ready", &[], 1.0)];

        assert_eq!(told(&examined(5.0, 1.0, &both), "no instance fails its calls").0, Mark::Warning);
    }

    #[test]
    fn what_nobody_runs_is_an_error_only_while_it_is_called() {
        let what = "somebody runs every service that is called";

        let (mark, findings, hint) = told(&examined(0.0, 1.0, &[]), what);
        assert_eq!((mark, findings.as_str()), (Mark::Warning, "web.default: was called earlier"));
        assert!(hint.contains("nobody runs it"), "{hint}");
        assert_eq!(told(&examined(1.0, 0.0, &[]), what).0, Mark::Error);
        assert_eq!(told(&examined(0.0, 1.0, &[]), "every service has a ready instance").0, Mark::Success);
    }

    #[test]
    fn a_service_that_drains_is_told_how_to_undo_it_and_not_to_listen() {
        let checks = examined(0.0, 1.0, &[instance("vm-1", "draining", &[], 1.0)]);

        for (description, mark) in
            [("every service has a ready instance", Mark::Error), ("every instance is ready", Mark::Warning)]
        {
            let (result, findings, hint) = told(&checks, description);
            assert_eq!((result, findings.as_str()), (mark, "web.default: 0 of 1 ready: vm-1 drains"));
            assert!(hint.contains("mesh drain --undo") && !hint.contains("listens"), "{hint}");
        }
    }
}
