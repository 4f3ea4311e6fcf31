//! `mesh delete`: removes objects, by name or as manifests list them.

use std::path::PathBuf;

use clap::Args;

use crate::api::client::{Client, Error};
use crate::cli::exit::{Exit, refuse};
use crate::cli::selection::{self, Selection};
use crate::cli::{apply, manifest, output};
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::Key;

/// The status of an answer about what is not there.
const NOT_FOUND: u16 = 404;

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

/// Deletes the objects, in order. One that is not there does not hold up the others.
///
/// # Errors
/// When the control plane cannot be reached or refuses. What was printed is deleted.
pub(crate) async fn run(args: DeleteArgs, client: &Client) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    for key in keys(&args)? {
        match client.delete_resource(key.kind, &key.namespace, &key.name).await {
            Ok(result) => {
                output::line(&format!("{} deleted (r{})", apply::name(&key), result.revision))?;
                result.warnings.iter().for_each(|warning| output::warn(warning));
            }
            Err(Error::Problem(problem)) if problem.status == NOT_FOUND => {
                output::error(&anyhow::Error::from(Error::Problem(problem)));
                exit = Exit::NotFound;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit)
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
