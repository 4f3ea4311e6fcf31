//! `mesh check`: is the mesh well, and if not, what to do. Categories, marks and hints as in `linkerd check`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::api::wire::Status;
use crate::cli::connect::{self, ControlAddress};
use crate::cli::exit::Exit;
use crate::cli::output::{self, Format};
use crate::model::endpoint::{MemberState, Role, Standing};
use crate::model::view::MeshView;
use crate::net::clock;

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
    hint: Option<&'static str>,
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
fn check(description: &str, mark: Mark, findings: Vec<String>, hint: &'static str) -> Check {
    let well = findings.is_empty();
    Check {
        description: description.to_owned(),
        result: if well { Mark::Success } else { mark },
        hint: (!well).then_some(hint),
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
    for node in &view.nodes {
        let since = output::age(now_ms.saturating_sub(node.since_ms));
        match node.state {
            MemberState::Dead => dead.push(format!("{} for {since}", node.name)),
            MemberState::Suspect => suspect.push(format!("{} for {since}", node.name)),
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
            "check that it reaches the control plane's port 7443",
        ),
        check("every proxy is at the newest revision", Mark::Warning, behind, "wait, or look at its log"),
        check("no proxy refused a revision", Mark::Error, refused, "mend the object and apply it again"),
    ]
}

fn services(view: &MeshView) -> Vec<Check> {
    let (mut down, mut weak) = (Vec::new(), Vec::new());
    for service in &view.services {
        let ready = service.instances.iter().filter(|instance| instance.standing == Standing::Ready).count();
        let all = service.instances.len();
        if ready == 0 {
            down.push(format!("{}: {all} instances, none ready", service.name));
        } else if ready < all {
            weak.push(format!("{}: {ready} of {all} instances ready", service.name));
        }
    }
    let hint = "check that the service listens where --service says, and its health check";
    vec![
        check("every service has a ready instance", Mark::Error, down, hint),
        check("every instance is ready", Mark::Warning, weak, hint),
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
            lines.extend(check.hint.map(|hint| format!("    hint: {hint}")));
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
