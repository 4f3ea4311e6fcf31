//! `mesh check`: is the mesh well, and if not, what to do. Categories, marks and hints as in `linkerd check`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::api::wire::Status;
use crate::cli::connect::{self, ControlAddress};
use crate::cli::exit::Exit;
use crate::cli::output::{self, Format};
use crate::model::endpoint::{MemberState, Role, Standing};
use crate::model::view::{InstanceView, MeshView, ServiceView};
use crate::net::clock;
use crate::top::health::{self, Status as Health};

/// Flags of `mesh check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Keep checking until all is well, for at most this long
    #[arg(long, env = "MESH_WAIT", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// How to print: table or json
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Format,
}

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// All is well.
    Success,
    /// It works, but look at it.
    Warning,
    /// It does not work.
    Error,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    description: String,
    result: Mark,
    /// What is wrong, and what to do about it; empty when all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Checks on one subject.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Category {
    category_name: &'static str,
    checks: Vec<Check>,
}

/// The whole answer, as `-o json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Findings {
    success: bool,
    categories: Vec<Category>,
}

const DAY_MS: u64 = 86_400_000;
/// Warn when the root certificate has less left than this.
const ROOT_LEFT_MS: u64 = 60 * DAY_MS;
/// Warn about clocks that differ by more than this: certificates are backdated by ten minutes.
const SKEW_MS: u64 = 30_000;
/// A proxy that reported within this time is connected; reports come every second.
const REPORT_AGE_MS: u64 = 15_000;

/// Returns a check that is well without findings, and has `mark` with some.
fn check(description: &str, mark: Mark, findings: Vec<String>, hint: &str) -> Check {
    let well = findings.is_empty();
    Check {
        description: description.to_owned(),
        result: if well { Mark::Success } else { mark },
        hint: (!well).then(|| hint.to_owned()),
        findings,
    }
}

/// Judges what a control plane says of itself and of its mesh at `now_ms`.
pub(crate) fn examine(status: &Status, view: &MeshView, now_ms: u64) -> Findings {
    let categories = vec![
        Category { category_name: "mesh-control", checks: control(status, now_ms) },
        Category { category_name: "mesh-identity", checks: identity(status, view, now_ms) },
        Category { category_name: "mesh-nodes", checks: nodes(view, now_ms) },
        Category { category_name: "mesh-services", checks: services(view) },
    ];
    let success =
        categories.iter().flat_map(|category| &category.checks).all(|check| check.result != Mark::Error);
    Findings { success, categories }
}

/// The answer when no control plane could be asked.
pub(crate) fn unreachable(error: &str) -> Findings {
    let found = check(
        "control plane answers",
        Mark::Error,
        vec![error.to_owned()],
        "is 'mesh control' running there, and may this user use its socket?",
    );
    Findings {
        success: false,
        categories: vec![Category { category_name: "mesh-control", checks: vec![found] }],
    }
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
        check("clocks agree", Mark::Warning, skewed.into_iter().collect(), "synchronise the clocks (NTP)"),
        check(
            "versions agree",
            Mark::Warning,
            other.into_iter().collect(),
            "install the same version everywhere",
        ),
    ]
}

fn identity(status: &Status, view: &MeshView, now_ms: u64) -> Vec<Check> {
    let left = status.root_not_after_ms.saturating_sub(now_ms);
    let root = (left < ROOT_LEFT_MS).then(|| format!("it ends in {}", output::age(left)));
    let signer = (status.intermediate_not_after_ms <= now_ms)
        .then(|| "the signing certificate has expired".to_owned());
    let mut expired = Vec::new();
    let mut late = Vec::new();
    for identity in &view.identities {
        let status = &identity.status;
        let life = status.not_after_ms.saturating_sub(status.not_before_ms);
        let left = status.not_after_ms.saturating_sub(now_ms);
        let reason = status.last_error.as_deref().unwrap_or("no renewal was tried");
        let line = format!("{} on {}: {} left, {reason}", status.subject, identity.node, output::age(left));
        if left <= life / 20 {
            expired.push(line);
        } else if left <= life / 5 {
            late.push(line);
        }
    }
    vec![
        check(
            "trust anchors are valid for at least 60 days",
            Mark::Warning,
            root.into_iter().collect(),
            "plan for a new root: nodes must join again to trust it",
        ),
        check(
            "certificates can be signed",
            Mark::Error,
            signer.into_iter().collect(),
            "restart the control plane",
        ),
        check(
            "no certificate is about to end (95 % of its life)",
            Mark::Error,
            expired,
            "look at the proxy's log for 'certificate renewal failed'",
        ),
        check(
            "certificates are renewed in time (80 % of their life)",
            Mark::Warning,
            late,
            "look at the proxy's log for 'certificate renewal failed'",
        ),
    ]
}

fn nodes(view: &MeshView, now_ms: u64) -> Vec<Check> {
    let (mut dead, mut suspect, mut silent, mut behind, mut refused) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut removed = false;
    for node in &view.nodes {
        let since = output::age(now_ms.saturating_sub(node.since_ms));
        match node.state {
            MemberState::Dead => dead.push(format!("{} for {since}", node.name)),
            MemberState::Suspect => suspect.push(format!("{} for {since}", node.name)),
            MemberState::Alive if node.removed => {
                silent.push(format!("{} was removed from the mesh, and still runs", node.name));
                removed = true;
            }
            MemberState::Alive if node.role == Role::Proxy => {
                match node.reported_ms {
                    Some(at) if now_ms.saturating_sub(at) <= REPORT_AGE_MS => {}
                    Some(at) => {
                        silent.push(format!("{} for {}", node.name, output::age(now_ms.saturating_sub(at))));
                    }
                    None => silent.push(format!("{} has not reported yet", node.name)),
                }
                if let Some(reason) = &node.refused {
                    refused.push(format!("{}: {reason}", node.name));
                } else if node.revision.is_some_and(|revision| revision < view.revision) {
                    let has = node.revision.unwrap_or_default();
                    behind.push(format!("{} is at revision {has} of {}", node.name, view.revision));
                }
            }
            MemberState::Alive | MemberState::Left => {}
        }
    }
    vec![
        check(
            "no node is dead",
            Mark::Error,
            dead,
            "start mesh there again, or let it be forgotten in an hour",
        ),
        check("no node is suspect", Mark::Warning, suspect, "check UDP and TCP port 7946 between the hosts"),
        check(
            "every proxy reports",
            Mark::Error,
            silent,
            if removed {
                "stop the one that was removed, or start it with --join TOKEN of a new token; the others: check that \
                 they reach the control plane's port 7443"
            } else {
                "check that it reaches the control plane's port 7443"
            },
        ),
        check("every proxy is at the newest revision", Mark::Warning, behind, "wait, or look at its log"),
        check("no proxy refused a revision", Mark::Error, refused, "mend the object and apply it again"),
    ]
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
            gone.push(format!(
                "{}: {}",
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
        check(
            "calls succeed",
            Mark::Warning,
            calls.collect(),
            "'mesh tap' and 'mesh why' show what becomes of them",
        ),
        check(
            "somebody runs every service that is called",
            missed,
            gone,
            "nobody runs it: start it again; ten minutes after its last call it is forgotten",
        ),
    ]
}

/// Returns the findings as text for people, line by line.
pub(crate) fn lines(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut worst = Mark::Success;
    for category in &findings.categories {
        lines.extend([category.category_name.to_owned(), "-".repeat(category.category_name.len())]);
        for check in &category.checks {
            worst = worst.max(check.result);
            lines.push(format!("{} {}", glyph(check.result), check.description));
            lines.extend(check.findings.iter().map(|finding| format!("    {finding}")));
            lines.extend(check.hint.iter().map(|hint| format!("    hint: {hint}")));
        }
        lines.push(String::new());
    }
    lines.push(format!("Status check results are {}", glyph(worst)));
    lines
}

fn glyph(mark: Mark) -> &'static str {
    match mark {
        Mark::Success => "√",
        Mark::Warning => "‼",
        Mark::Error => "×",
    }
}

/// How often to look again while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Checks the mesh and prints the findings; with `--wait`, until all is well or the time is over.
///
/// # Errors
/// Those of standard output. A control plane that cannot be asked is a finding.
pub(crate) async fn run(args: CheckArgs, address: ControlAddress) -> anyhow::Result<Exit> {
    let deadline = clock::now() + args.wait.unwrap_or_default();
    let spinner = output::Spinner::start("checking");
    let findings = loop {
        let findings = look(&address).await.unwrap_or_else(|error| unreachable(&output::words(&error)));
        if findings.success || clock::now() >= deadline {
            break findings;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    drop(spinner);
    match args.output {
        Format::Json => output::json(&findings)?,
        Format::Yaml => output::yaml(&findings)?,
        Format::Table | Format::Wide | Format::Name => {
            lines(&findings).iter().try_for_each(|line| output::line(line))?;
        }
    }
    Ok(if findings.success { Exit::Done } else { Exit::Refused })
}

async fn look(address: &ControlAddress) -> anyhow::Result<Findings> {
    let client = connect::client(address).await?;
    let status = client.status().await?;
    let view = client.view().await?;
    Ok(examine(&status, &view, clock::wall_ms()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::cli::check::{Check, Mark, services};
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
