//! `mesh release`: a directory from which hosts can be installed, made of this very program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use data_encoding::HEXLOWER;

use crate::cli::exit::Exit;
use crate::cli::output;
use crate::control::http::assets::INSTALLER;
use crate::identity::certificate::{file_sha256, sha256};
use crate::identity::key::Key;
use crate::net::disk::{self, OWN_PROGRAM, PARTIAL};

const PROGRAM: &str = "mesh";
const INSTALL: &str = "install.sh";
const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.sig";

/// Flags of `mesh release`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReleaseArgs {
    /// The directory: made if missing; a release that is in it is replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Sign the checksums with this key: ECDSA P-256, PEM (PKCS#8). 'install.sh --key' checks it with the public one
    #[arg(long, env = "MESH_SIGN_WITH", value_name = "FILE")]
    sign_with: Option<PathBuf>,
}

/// Writes a release. The checksums come last, so that half a release is none.
///
/// # Errors
/// When the directory has other things in it, or cannot be written; or the key cannot be used, and then nothing was written.
pub(crate) fn run(args: &ReleaseArgs) -> anyhow::Result<Exit> {
    let folder = &args.directory;
    let key = args.sign_with.as_deref().map(read_key).transpose()?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    make_room(folder)?;
    let put = |name: &str, content: &[u8], mode| {
        let path = folder.join(name);
        disk::write_file(&path, content, mode)
            .with_context(|| format!("{} cannot be written", path.display()))
    };
    put(PROGRAM, &fs::read(OWN_PROGRAM).context("this program cannot be read")?, 0o755)?;
    put(INSTALL, INSTALLER.as_bytes(), 0o755)?;
    let program = file_sha256(&folder.join(PROGRAM)).context("what was written cannot be read")?;
    let sums =
        format!("{program}  {PROGRAM}\n{}  {INSTALL}\n", HEXLOWER.encode(&sha256(INSTALLER.as_bytes())));
    if let Some(key) = &key {
        put(SIGNATURE, &key.sign(sums.as_bytes())?, 0o644)?;
    }
    put(SUMS, sums.as_bytes(), 0o644)?;
    let signed = if key.is_some() { ", signed" } else { "" };
    output::note(&format!("mesh {} is in {}{signed}", env!("CARGO_PKG_VERSION"), folder.display()));
    output::note(&format!("on a host with that directory: sh {0}/{INSTALL} --from {0} …", folder.display()));
    Ok(Exit::Done)
}

fn read_key(path: &Path) -> anyhow::Result<Key> {
    let pem = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Key::from_pem(&zeroize::Zeroizing::new(pem)).with_context(|| {
        let how = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE";
        format!("{} is no key to sign with; '{how}' makes one", path.display())
    })
}

/// Removes a release that is there, the checksums first; refuses a directory with anything else in it.
fn make_room(folder: &Path) -> anyhow::Result<()> {
    // Also what is left of one whose writing was cut short.
    let names = [SUMS, SIGNATURE, INSTALL, PROGRAM];
    let ours = names.map(|name| [name.to_owned(), format!("{name}{PARTIAL}")]).concat();
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        if !ours.iter().any(|own| name == own.as_str()) {
            bail!(
                "{} has other things in it ({}): give a release a directory of its own",
                folder.display(),
                name.display()
            );
        }
    }
    for name in &ours {
        let path = folder.join(name);
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}
