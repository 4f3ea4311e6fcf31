//! `mesh apply`: sends manifests to the control plane, all of them or none, says what became of each, and waits for the
//! proxies if asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::api::client::{Client, Error};
use crate::api::problem::{FieldProblem, Problem};
use crate::api::wire::{Applied, ApplyRequest, ApplyResult, ChangeKind, Plan};
use crate::cli::exit::Exit;
use crate::cli::manifest::{self, Manifests};
use crate::cli::output::{self, Cell, Table, Tone};
use crate::cli::rollout;
use crate::cli::selection::{self, Labels};
use crate::logic::plan::Effect;
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::Key;
use crate::net::clock;

/// Flags of `mesh apply`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Check everything and write nothing
    #[arg(long, value_enum, value_name = "server")]
    dry_run: Option<DryRun>,
    /// Write nothing, and say what would change for the traffic of the last 24 hours: what would be refused, find no way, or
    /// go elsewhere; exit status 1 when calls would end
    #[arg(long, conflicts_with = "wait")]
    plan: bool,
    /// Wait until every proxy has the change in force, at most this long [default: 30s]; exit status 7 when that is over
    #[arg(long, num_args = 0..=1, default_missing_value = "30s", require_equals = true, value_name = "DURATION", value_parser = output::duration)]
    wait: Option<Duration>,
}

/// What there should be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Wanted {
    /// Manifests: files, directories with all below them, or - for standard input; may be repeated
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Delete the objects that have the labels of --selector and are not in the manifests
    #[arg(long, requires = "selector")]
    prune: bool,
    /// The labels of what --prune may delete: LABEL=VALUE, several joined by commas
    #[arg(short = 'l', long, value_name = "LABEL=VALUE", requires = "prune", value_parser = selection::labels)]
    selector: Option<Labels>,
}

/// How to try without writing.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DryRun {
    /// The control plane runs all its checks.
    Server,
}

/// Doubts or faults that are shown at once.
const SENTENCES_MAX: usize = 50;

/// What is to be done with the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// They are written.
    Write,
    /// They are checked.
    Try,
    /// They are checked, and held against the traffic there is.
    Plan,
}

impl Wanted {
    /// Reads the manifests.
    ///
    /// # Errors
    /// When one cannot be read or is not valid.
    pub(crate) fn read(&self) -> anyhow::Result<Manifests> {
        let manifests = manifest::read(&self.files)?;
        warn(manifests.warnings.iter().map(ToString::to_string));
        let unlabelled = manifests
            .objects
            .iter()
            .filter(|(object, _)| self.selector.as_ref().is_some_and(|labels| !labels.are_on(object)));
        for (object, origin) in unlabelled {
            let name = object.key();
            output::warn(&format!(
                "{origin}: {name} has not the labels of --selector: --prune will never delete it"
            ));
        }
        Ok(manifests)
    }

    /// Sends the manifests.
    ///
    /// # Errors
    /// When they are refused, with the places; or the control plane cannot be reached.
    pub(crate) async fn send(
        &self,
        manifests: &Manifests,
        client: &Client,
        how: How,
    ) -> anyhow::Result<ApplyResult> {
        let objects = manifests.objects.iter().map(|(object, _)| object.clone()).collect();
        let prune = self.selector.as_ref().map(|labels| labels.0.clone());
        let request = ApplyRequest { objects, prune, remove: Vec::new() };
        let sent = match how {
            How::Write => client.apply(&request, false).await,
            How::Try => client.apply(&request, true).await,
            How::Plan => client.plan(&request).await,
        };
        let result = sent.map_err(|error| placed(manifests, error))?;
        // What was said while the manifests were read is not said again.
        let said = |text: &String| manifests.warnings.iter().any(|known| known.to_string() == *text);
        let news = result.warnings.iter().map(|warning| sentence(manifests, warning));
        warn(news.filter(|text| !said(text)));
        Ok(result)
    }
}

/// Applies the manifests, all of them or none.
///
/// # Errors
/// When a manifest cannot be read or is refused, or the control plane cannot be reached: nothing was written.
pub(crate) async fn run(args: ApplyArgs, client: &Client) -> anyhow::Result<Exit> {
    let manifests = args.wanted.read()?;
    let dry_run = args.dry_run.is_some() || args.plan;
    let how = match (args.plan, dry_run) {
        (true, _) => How::Plan,
        (false, true) => How::Try,
        (false, false) => How::Write,
    };
    let result = args.wanted.send(&manifests, client, how).await?;
    let trial = if dry_run { " (server dry run)" } else { "" };
    for Applied { change, object, .. } in &result.changes {
        let version = object.metadata().resource_version.as_deref().unwrap_or("-");
        let revision =
            if *change == ChangeKind::Deleted { result.revision.to_string() } else { version.to_owned() };
        output::line(&format!("{} {} (r{revision}){trial}", name(&object.key()), word(*change)))?;
    }
    if result.changes.len() > 1 {
        output::note(&plan(&result.changes));
    }
    if let Some(plan) = &result.plan {
        return tell_plan(plan);
    }
    match args.wait {
        Some(limit) if !dry_run => rollout::follow(client, result.revision, limit).await,
        Some(_) | None => Ok(Exit::Done),
    }
}

/// Prints what changes for the traffic there is.
fn tell_plan(plan: &Plan) -> anyhow::Result<Exit> {
    let Some(since_ms) = plan.since_ms else {
        output::note("no traffic was counted yet that could change");
        return Ok(Exit::Done);
    };
    let since = clock::rfc3339(since_ms);
    if plan.changes.is_empty() {
        output::note(&format!("nothing changes for the traffic since {since}"));
        return Ok(Exit::Done);
    }
    output::note(&format!("for the traffic since {since}:"));
    let mut table = Table::new(&["caller", "called", "by", ">calls", "effect", "detail"]);
    for one in &plan.changes {
        let (effect, tone) = match one.effect {
            Effect::Denied => ("refused", Tone::Bad),
            Effect::Lost => ("lost", Tone::Bad),
            Effect::MaybeDenied => ("may be refused", Tone::Warning),
            Effect::MaybeLost => ("may be lost", Tone::Warning),
            Effect::Moved => ("moved", Tone::Plain),
        };
        let cells: [Cell; 6] = [
            one.source.to_string().into(),
            one.destination.to_string().into(),
            one.route.clone().into(),
            one.requests.to_string().into(),
            Cell::new(effect, tone),
            one.detail.clone().into(),
        ];
        table.row(cells);
    }
    output::show(&table)?;
    let ends = plan.changes.iter().any(|one| one.effect.is_loss());
    Ok(if ends { Exit::Refused } else { Exit::Done })
}

/// Returns what is said of a change, in kubectl's words.
pub(crate) fn word(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Created => "created",
        ChangeKind::Updated => "configured",
        ChangeKind::Unchanged => "unchanged",
        ChangeKind::Deleted => "pruned",
    }
}

/// Returns `2 created, 1 configured`.
fn plan(changes: &[Applied]) -> String {
    let kinds = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Unchanged, ChangeKind::Deleted];
    let counted = kinds.into_iter().filter_map(|kind| {
        let count = changes.iter().filter(|applied| applied.change == kind).count();
        (count > 0).then(|| format!("{count} {}", word(kind)))
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// Returns `httproute/checkout`, with the namespace where it is not the default one.
pub(crate) fn name(key: &Key) -> String {
    let kind = key.kind.as_str().to_ascii_lowercase();
    if key.namespace == DEFAULT_NAMESPACE {
        format!("{kind}/{}", key.name)
    } else {
        format!("{kind}/{}.{}", key.name, key.namespace)
    }
}

/// Puts what the control plane found wrong to its places in the manifests.
pub(crate) fn placed(manifests: &Manifests, error: Error) -> anyhow::Error {
    let problem = match error {
        Error::Problem(problem) if !problem.errors.is_empty() => problem,
        error @ (Error::Problem(_)
        | Error::Unreachable(_)
        | Error::WrongPin(_)
        | Error::Broken(_)
        | Error::TimedOut) => return error.into(),
    };
    let shown = problem.errors.iter().take(SENTENCES_MAX).map(|wrong| sentence(manifests, wrong));
    let mut lines: Vec<_> = shown.collect();
    let rest = problem.errors.len() - lines.len();
    lines.extend((rest > 0).then(|| format!("and {rest} more")));
    anyhow::Error::new(Error::Problem(Problem { detail: lines.join("\n"), errors: Vec::new(), ..problem }))
}

/// Says doubts, as many as anybody reads.
fn warn(texts: impl Iterator<Item = String>) {
    let mut rest = 0;
    for (index, text) in texts.enumerate() {
        if index < SENTENCES_MAX {
            output::warn(&text);
        } else {
            rest += 1;
        }
    }
    if rest > 0 {
        output::warn(&format!("and {rest} more; 'mesh describe' tells those of one route"));
    }
}

fn sentence(manifests: &Manifests, wrong: &FieldProblem) -> String {
    let key = wrong.object.parse::<Key>().ok();
    let fault = key.as_ref().and_then(|key| manifests.fault(key, &wrong.path, &wrong.message));
    match (fault, key) {
        (Some(fault), _) => fault.to_string(),
        (None, Some(key)) => format!("{key}: {}: {}", wrong.path, wrong.message),
        (None, None) => format!("{}: {}", wrong.path, wrong.message),
    }
}
