//! `mesh diff`: what applying manifests would change, as `diff -u` shows it.

use clap::Args;

use crate::api::client::Client;
use crate::api::wire::{Applied, ChangeKind};
use crate::cli::apply::{self, How, Wanted};
use crate::cli::exit::Exit;
use crate::cli::output::{self, Tone};
use crate::logic::difference;
use crate::model::resource::Resource;

/// Flags of `mesh diff`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    wanted: Wanted,
}

/// Prints the differences between what is stored and what the manifests say, all defaults filled in.
///
/// # Errors
/// When a manifest cannot be read or would be refused, or the control plane cannot be reached.
pub(crate) async fn run(args: DiffArgs, client: &Client) -> anyhow::Result<Exit> {
    let manifests = args.wanted.read()?;
    let result = args.wanted.send(&manifests, client, How::Try).await?;
    let mut exit = Exit::Done;
    for Applied { change, object, before } in &result.changes {
        let after = (*change != ChangeKind::Deleted).then_some(object);
        let text = of(before.as_ref(), after)?;
        if !text.is_empty() {
            exit = Exit::Refused;
            output::write(&text)?;
        }
    }
    Ok(exit)
}

/// Returns the difference between two versions of an object, each of which may be missing; empty when they say the same.
///
/// # Errors
/// When one of them cannot be written as YAML.
pub(crate) fn of(before: Option<&Resource>, after: Option<&Resource>) -> anyhow::Result<String> {
    let (old, new) = (written(before)?, written(after)?);
    let difference = difference::unified(&old, &new);
    let Some(object) = after.or(before).filter(|_| !difference.is_empty()) else { return Ok(String::new()) };
    let name = apply::name(&object.key());
    let version = before.and_then(|before| before.metadata().resource_version.as_deref());
    let live = version.map_or_else(|| "/dev/null".to_owned(), |version| format!("{name} (r{version})"));
    let wanted = if after.is_some() { name } else { "/dev/null".to_owned() };
    let colour = output::colour(&std::io::stdout());
    let mut text = format!("--- {live}\n+++ {wanted}\n");
    text.push_str(&difference);
    let painted = text.split_inclusive('\n').map(|line| painted(line, colour));
    Ok(painted.collect())
}

fn written(object: Option<&Resource>) -> anyhow::Result<String> {
    let Some(object) = object else { return Ok(String::new()) };
    let mut object = object.clone();
    object.metadata_mut().forget_history();
    object.set_status(None);
    Ok(output::yaml_text(&object)?)
}

fn painted(line: &str, colour: bool) -> String {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    let tone = match text.as_bytes() {
        [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => Tone::Strong,
        [b'-', ..] => Tone::Bad,
        [b'+', ..] => Tone::Good,
        [b'@', ..] => Tone::Dim,
        _ => Tone::Plain,
    };
    format!("{}{end}", tone.paint(text, colour))
}
