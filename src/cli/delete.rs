//! `mesh delete`: removes objects, by name or as manifests list them.

use std::path::PathBuf;

use clap::Args;

use crate::api::client::Client;
use crate::cli::exit::{Exit, refuse};
use crate::cli::{apply, manifest, output};
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::{Key, Kind};

/// Flags of `mesh delete`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    /// A kind, such as httproutes or intentions, or KIND/NAME
    #[arg(value_name = "KIND[/NAME]", required_unless_present = "files", conflicts_with = "files")]
    kind: Option<String>,
    /// The names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// Delete what these manifests declare: files, directories, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Deletes the objects, in order. The first that cannot be deleted ends it.
///
/// # Errors
/// When there is no such object, or the control plane cannot be reached.
pub(crate) async fn run(args: DeleteArgs, client: &Client) -> anyhow::Result<Exit> {
    for key in keys(&args)? {
        let result = client.delete_resource(key.kind, &key.namespace, &key.name).await?;
        output::line(&format!("{} deleted (r{})", apply::name(&key), result.revision))?;
        result.warnings.iter().for_each(|warning| output::warn(warning));
    }
    Ok(Exit::Done)
}

fn keys(args: &DeleteArgs) -> anyhow::Result<Vec<Key>> {
    let Some(kind) = &args.kind else {
        let manifests = manifest::read(&args.files)?;
        return Ok(manifests.objects.iter().map(|(resource, _)| resource.key()).collect());
    };
    let (kind, first) = match kind.split_once('/') {
        Some((kind, name)) => (kind, Some(name.to_owned())),
        None => (kind.as_str(), None),
    };
    let kind: Kind = kind.parse().map_err(|text: String| refuse(Exit::Usage, text))?;
    let names: Vec<_> = first.into_iter().chain(args.names.iter().cloned()).collect();
    if names.is_empty() {
        return Err(refuse(Exit::Usage, format!("name what to delete: mesh delete {} NAME", kind.plural())));
    }
    Ok(names.into_iter().map(|name| Key { kind, namespace: args.namespace.clone(), name }).collect())
}
