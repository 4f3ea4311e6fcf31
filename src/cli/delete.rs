//! `mesh delete`: removes objects, by name or as manifests list them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use crate::api::client::Client;
use crate::api::wire::{Applied, ApplyRequest};
use crate::cli::exit::{Exit, refuse};
use crate::cli::selection::{self, Selection};
use crate::cli::{apply, manifest, output};
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::Key;

/// Flags of `mesh delete`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    /// What to delete: KIND NAME… or KIND/NAME…, of the kinds
    /// grpcroute, httproute, intention, service, tcproute or trafficpolicy
    #[arg(value_name = "KIND[/NAME] [NAME]", required_unless_present = "files", conflicts_with = "files")]
    objects: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// Delete what these manifests declare: files, directories, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Deletes the objects together, all of them or none. One that is not there does not hold up the others.
///
/// # Errors
/// When the control plane cannot be reached or refuses: nothing was deleted then.
pub(crate) async fn run(args: DeleteArgs, client: &Client) -> anyhow::Result<Exit> {
    let keys = keys(&args)?;
    let remove: BTreeSet<String> = keys.iter().map(Key::path).collect();
    let request = ApplyRequest { remove: remove.into_iter().collect(), ..ApplyRequest::default() };
    let result = client.apply(&request, false).await?;
    for Applied { object, .. } in &result.changes {
        output::line(&format!("{} deleted (r{})", apply::name(&object.key()), result.revision))?;
    }
    for warning in &result.warnings {
        output::warn(&format!("{}: {}: {}", warning.object, warning.path, warning.message));
    }
    for key in keys.iter().filter(|key| result.missing.contains(&key.path())) {
        output::error(&refuse(Exit::NotFound, format!("there is no {key}")));
    }
    Ok(if result.missing.is_empty() { Exit::Done } else { Exit::NotFound })
}

fn keys(args: &DeleteArgs) -> anyhow::Result<Vec<Key>> {
    if args.objects.is_empty() {
        let manifests = manifest::read(&args.files)?;
        return Ok(manifests.objects.iter().map(|(resource, _)| resource.key()).collect());
    }
    let mut keys = Vec::new();
    for Selection { kind, names } in selection::parse(&args.objects)? {
        if names.is_empty() {
            let text = format!("name what to delete: mesh delete {} NAME", kind.plural());
            return Err(refuse(Exit::Usage, text));
        }
        keys.extend(names.into_iter().map(|name| Key { kind, namespace: args.namespace.clone(), name }));
    }
    Ok(keys)
}
