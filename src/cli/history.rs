//! `mesh history` and `mesh rollback`: what an object was, and back to it.

use std::time::Duration;

use clap::Args;

use crate::api::client::Client;
use crate::api::wire::ChangeKind;
use crate::cli::exit::Exit;
use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::cli::{apply, diff, rollout, selection};
use crate::logic::state::Written;
use crate::logic::state::history::Version;
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::Revision;
use crate::net::clock;

/// Flags of `mesh history`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HistoryArgs {
    /// Which object: KIND NAME or KIND/NAME; also one that was deleted
    #[arg(value_name = "KIND[/NAME] [NAME]", required = true)]
    objects: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// Show what each version changed
    #[arg(long)]
    diff: bool,
    /// How to print: table, wide, json or yaml (with the objects), or name (the revisions)
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Flags of `mesh rollback`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    /// Which object: KIND NAME or KIND/NAME; also one that was deleted
    #[arg(value_name = "KIND[/NAME] [NAME]", required = true)]
    objects: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// The version to go back to, by its revision in 'mesh history' [default: the last one that was another]
    #[arg(long, value_name = "REVISION", value_parser = revision)]
    to: Option<Revision>,
    /// Show what it would be and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until every proxy has the change in force, at most this long [default: 30s]; exit status 7 when that is over
    #[arg(long, num_args = 0..=1, default_missing_value = "30s", require_equals = true, value_name = "DURATION", value_parser = output::duration)]
    wait: Option<Duration>,
}

/// Reads a revision as people are shown them: `12` or `r12`.
fn revision(text: &str) -> Result<Revision, String> {
    let digits = text.strip_prefix('r').unwrap_or(text);
    digits.parse().map_err(|_| format!("'{text}' is not a revision: expected a number, such as 12 or r12"))
}

/// Prints the versions of an object, the newest last.
///
/// # Errors
/// When there is no such object, or the control plane cannot be reached.
pub(crate) async fn run(args: HistoryArgs, client: &Client) -> anyhow::Result<Exit> {
    let key = selection::parse_key(&args.objects, &args.namespace)?;
    let versions = client.history(&key).await?.versions;
    if args.diff {
        let mut before: Option<&Version> = None;
        for version in &versions {
            let object = |version: &Version| version.change != Written::Deleted;
            let old = before.filter(|version| object(version)).map(|version| version.object.as_ref());
            let new = Some(version).filter(|version| object(version)).map(|version| version.object.as_ref());
            output::line(&format!("r{} {} {}", version.revision, when(version), who(version)))?;
            output::write(&diff::of(old, new)?)?;
            before = Some(version);
        }
        return Ok(Exit::Done);
    }
    let name = |version: &Version| version.revision.to_string();
    output::list(args.output, &versions, |_| table(&versions), name)?;
    Ok(Exit::Done)
}

fn table(versions: &[Version]) -> Table {
    let mut table = Table::new(&["revision", "when", "who", "change", ">generation"]);
    for version in versions {
        let (change, tone) = match version.change {
            Written::Created => ("created", Tone::Good),
            Written::Updated => ("changed", Tone::Plain),
            Written::Deleted => ("deleted", Tone::Bad),
        };
        let generation = version.object.metadata().generation;
        let cells: [Cell; 5] = [
            format!("r{}", version.revision).into(),
            when(version).into(),
            who(version).into(),
            Cell::new(change, tone),
            generation.map_or_else(String::new, |generation| generation.to_string()).into(),
        ];
        table.row(cells);
    }
    table
}

/// Returns when a version was written: RFC 3339, UTC, to the second.
fn when(version: &Version) -> String {
    if version.at_ms == 0 { "?".to_owned() } else { clock::rfc3339(version.at_ms) }
}

fn who(version: &Version) -> String {
    if version.by.is_empty() { "?".to_owned() } else { version.by.clone() }
}

/// Writes an object as it was.
///
/// # Errors
/// When there is no such version, or the control plane refuses it or cannot be reached.
pub(crate) async fn rollback(args: RollbackArgs, client: &Client) -> anyhow::Result<Exit> {
    let key = selection::parse_key(&args.objects, &args.namespace)?;
    if args.dry_run {
        let now = client.history(&key).await?.versions.pop().filter(|last| last.change != Written::Deleted);
        let then = client.rollback(&key, args.to, true).await?;
        output::write(&diff::of(now.as_ref().map(|now| now.object.as_ref()), Some(&then.object))?)?;
        return Ok(Exit::Done);
    }
    let result = client.rollback(&key, args.to, false).await?;
    result.warnings.iter().for_each(|warning| output::warn(warning));
    let done = match result.change {
        ChangeKind::Created => "restored",
        ChangeKind::Updated | ChangeKind::Deleted => "rolled back",
        ChangeKind::Unchanged => "unchanged",
    };
    output::line(&format!("{} {done} (r{})", apply::name(&key), result.revision))?;
    match args.wait {
        Some(limit) => rollout::follow(client, result.revision, limit).await,
        None => Ok(Exit::Done),
    }
}
