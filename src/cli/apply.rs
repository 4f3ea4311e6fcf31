//! `mesh apply`: sends manifests to the control plane, says what became of each, and waits for the proxies if asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::api::client::Client;
use crate::api::wire::ChangeKind;
use crate::cli::exit::Exit;
use crate::cli::{manifest, output};
use crate::model::endpoint::{MemberState, Role};
use crate::model::resource::Revision;
use crate::model::view::MeshView;

/// Flags of `mesh apply`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    /// Manifests: files, directories, or - for standard input; may be repeated
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Check everything and write nothing
    #[arg(long, value_enum, value_name = "server")]
    dry_run: Option<DryRun>,
    /// Wait until every proxy has the change in force, at most this long [default: 30s]
    #[arg(long, num_args = 0..=1, default_missing_value = "30s", require_equals = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

/// How to try without writing.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DryRun {
    /// The control plane runs all its checks.
    Server,
}

/// How often the proxies' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Applies the manifests in order. The first that is refused ends it; those before it are in force and said to be.
///
/// # Errors
/// When a manifest cannot be read or is refused, or the control plane cannot be reached.
pub(crate) async fn run(args: ApplyArgs, client: &Client) -> anyhow::Result<Exit> {
    let manifests = manifest::read(&args.files)?;
    manifests.warnings.iter().for_each(|warning| output::warn(&warning.to_string()));
    let mut revision = 0;
    for (resource, origin) in &manifests.objects {
        let result = client.put_resource(resource, args.dry_run.is_some()).await;
        let result = result
            .map_err(|error| anyhow::Error::new(error).context(format!("{origin}: {}", resource.key())))?;
        revision = revision.max(result.revision);
        let change = match result.change {
            ChangeKind::Created => "created",
            ChangeKind::Updated => "configured",
            ChangeKind::Unchanged => "unchanged",
            ChangeKind::Deleted => "deleted",
        };
        let trial = if args.dry_run.is_some() { " (server dry run)" } else { "" };
        output::line(&format!("{} {change} (r{}){trial}", name(&result.object.key()), result.revision))?;
        result.warnings.iter().for_each(|warning| output::warn(&format!("{origin}: {warning}")));
    }
    match args.wait {
        Some(limit) if args.dry_run.is_none() => follow(client, revision, limit).await,
        Some(_) | None => Ok(Exit::Done),
    }
}

/// Returns `httproute/checkout`, with the namespace where it is not the default one.
pub(crate) fn name(key: &crate::model::resource::Key) -> String {
    let kind = key.kind.as_str().to_ascii_lowercase();
    if key.namespace == crate::model::name::DEFAULT_NAMESPACE {
        format!("{kind}/{}", key.name)
    } else {
        format!("{kind}/{}.{}", key.name, key.namespace)
    }
}

/// Where the living proxies stand with a revision.
struct Progress {
    there: usize,
    behind: Vec<String>,
    refused: Vec<String>,
}

fn progress(view: &MeshView, revision: Revision) -> Progress {
    let mut progress = Progress { there: 0, behind: Vec::new(), refused: Vec::new() };
    let living = view.nodes.iter().filter(|node| {
        node.role == Role::Proxy && matches!(node.state, MemberState::Alive | MemberState::Suspect)
    });
    for node in living {
        match (&node.refused, node.revision) {
            (Some(reason), _) => progress.refused.push(format!("{}: {reason}", node.name)),
            (None, Some(has)) if has >= revision => progress.there += 1,
            (None, Some(has)) => progress.behind.push(format!("{} at r{has}", node.name)),
            (None, None) => progress.behind.push(node.name.to_string()),
        }
    }
    progress
}

/// Waits until every living proxy has `revision` in force.
async fn follow(client: &Client, revision: Revision, limit: Duration) -> anyhow::Result<Exit> {
    let spinner = output::Spinner::start("waiting for the proxies");
    let deadline = crate::net::clock::now() + limit;
    loop {
        let progress = progress(&client.view().await?, revision);
        let all = progress.there + progress.behind.len() + progress.refused.len();
        let standing = format!("{} of {all} proxies at r{revision}", progress.there);
        if progress.behind.is_empty() && progress.refused.is_empty() {
            drop(spinner);
            output::note(&standing);
            return Ok(Exit::Done);
        }
        if progress.behind.is_empty() || crate::net::clock::now() >= deadline {
            drop(spinner);
            output::note(&standing);
            progress.refused.iter().for_each(|line| output::note(&format!("  refused by {line}")));
            progress.behind.iter().for_each(|line| output::note(&format!("  behind: {line}")));
            output::note("see 'mesh check' for what to do");
            return Ok(if progress.behind.is_empty() { Exit::Refused } else { Exit::TimedOut });
        }
        spinner.say(standing);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
