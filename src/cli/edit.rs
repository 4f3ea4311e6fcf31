//! `mesh edit`: an object in the user's editor, written back over the very version that was read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use crate::api::client::{Client, Error};
use crate::api::wire::ApplyRequest;
use crate::cli::exit::{Exit, refuse};
use crate::cli::manifest::Manifests;
use crate::cli::{apply, connect, manifest, output, selection};
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::{Key, Resource};

/// Flags of `mesh edit`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EditArgs {
    /// Which object: KIND NAME or KIND/NAME
    #[arg(value_name = "KIND[/NAME] [NAME]", required = true)]
    objects: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
}

/// The editor of those who have not chosen one.
const EDITOR: &str = "vi";

/// Opens the object in `$VISUAL`, else `$EDITOR`, and writes what comes back, unless somebody else wrote in between.
///
/// # Errors
/// When there is no such object, the editor fails, or what comes back is refused: the text is kept in a file then.
pub(crate) async fn run(args: EditArgs, client: &Client) -> anyhow::Result<Exit> {
    let key = selection::parse_key(&args.objects, &args.namespace)?;
    let mut stored = client.get_resource(key.kind, &key.namespace, &key.name).await?;
    stored.set_status(None);
    let text = output::yaml_text(&stored)?;
    let path = keep(&key, &text)?;
    let edited = edit(&path).and_then(|()| Ok(std::fs::read_to_string(&path)?));
    let edited = edited.with_context(|| format!("cannot edit {}", path.display()))?;
    if edited == text {
        let _gone = std::fs::remove_file(&path);
        output::note("nothing was changed");
        return Ok(Exit::Done);
    }
    match write(&path, &stored, client).await {
        Ok(revision) => {
            let _gone = std::fs::remove_file(&path);
            output::line(&format!("{} edited (r{revision})", apply::name(&key)))?;
            Ok(Exit::Done)
        }
        Err(error) => {
            let exit = connect::exit_of(&error);
            let file = path.display();
            let way_out = match exit {
                Exit::Conflict => format!(
                    "somebody else wrote it meanwhile. Your text is kept in {file}: see what differs with 'mesh history \
                     {} --diff', then 'mesh edit' again; or take the line resourceVersion out of it and 'mesh apply -f \
                     {file}', which overwrites theirs",
                    apply::name(&key)
                ),
                Exit::Done
                | Exit::Refused
                | Exit::Usage
                | Exit::Unreachable
                | Exit::NotFound
                | Exit::NotAllowed
                | Exit::TimedOut => {
                    format!("Your text is kept in {file}: mend it, then 'mesh apply -f {file}'")
                }
            };
            Err(refuse(exit, format!("{}\n{way_out}", output::words(&error))))
        }
    }
}

/// Puts the text into a new file that only its owner can read.
fn keep(key: &Key, text: &str) -> anyhow::Result<PathBuf> {
    let kind = key.kind.as_str().to_ascii_lowercase();
    let name = format!("mesh-edit-{kind}-{}-{:08x}.yaml", key.name, rand::random::<u32>());
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Runs the editor, which may be a command line of its own: `code --wait`.
fn edit(path: &Path) -> anyhow::Result<()> {
    let chosen = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let editor = chosen.into_iter().find(|editor| !editor.trim().is_empty());
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status()?;
    anyhow::ensure!(status.success(), "the editor '{editor}' ended with {status}: nothing was written");
    Ok(())
}

async fn write(path: &Path, stored: &Resource, client: &Client) -> anyhow::Result<u64> {
    let manifests: Manifests = manifest::read(&[path.to_owned()])?;
    let [(edited, _)] = manifests.objects.as_slice() else {
        anyhow::bail!("one object was given out, and one must come back");
    };
    anyhow::ensure!(
        edited.key() == stored.key(),
        "{} was given out, {} came back",
        stored.key(),
        edited.key()
    );
    let mut object = edited.clone();
    object.metadata_mut().resource_version.clone_from(&stored.metadata().resource_version);
    let request = ApplyRequest { objects: vec![object], prune: None };
    let result = client.apply(&request, false).await;
    let result = result.map_err(|error: Error| apply::placed(&manifests, error))?;
    result
        .warnings
        .iter()
        .for_each(|warning| output::warn(&format!("{}: {}", warning.path, warning.message)));
    Ok(result.revision)
}
