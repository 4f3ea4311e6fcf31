//! `mesh upgrade`: the proxy of this host becomes the version that its control plane runs, without losing a call.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use tokio::time::sleep;

use crate::api::client::{self, Client};
use crate::cli::exit::{Exit, refuse};
use crate::cli::{data_dir, output};
use crate::identity::certificate::sha256;
use crate::net::{clock, disk};
use crate::proxy::handover::{self, Who};

/// How long the new process may take until it is the proxy, or has given up.
const TAKEN_MAX: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Flags of `mesh upgrade`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpgradeArgs {
    /// Where the proxy keeps its state, if not where it does by default
    #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Carries out `mesh upgrade`: downloads the program from the control plane, puts it in the place of the proxy's, and has
/// the proxy hand over to it.
///
/// # Errors
/// When there is no proxy or no control plane, or the new program is refused: the old one goes on then, and its file is back.
pub(crate) async fn run(args: UpgradeArgs) -> anyhow::Result<Exit> {
    let folder = args.data_dir.unwrap_or_else(|| data_dir::of("proxy"));
    let Some((pid, proxy)) = handover::who(&folder).await? else {
        let text = format!("no proxy runs on {}: name its --data-dir, or start it", folder.display());
        return Err(refuse(Exit::NotFound, text));
    };
    let (client, wanted) = control(&proxy).await?;
    let running = sum_of(Path::new(&format!("/proc/{pid}/exe")))?;
    if running == wanted {
        output::note(&format!("the proxy of {} is the control plane's version already", proxy.node));
        return Ok(Exit::Done);
    }
    let program = &proxy.program;
    output::note(&format!("{} is {} there, and {} here", program.display(), short(&wanted), short(&running)));
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if sum_of(program).ok().as_deref() != Some(&wanted) {
        install(program, &client.program().await?, &wanted)?;
    }
    match take_over(&folder).await {
        Ok(new) => {
            _ = fs::remove_file(before(program));
            output::note(&format!(
                "process {new} has taken over from {pid}, which serves out what is under way"
            ));
            Ok(Exit::Done)
        }
        Err(error) => {
            // Whatever starts this program next gets the one that works.
            match fs::rename(before(program), program) {
                Err(gone) if gone.kind() != io::ErrorKind::NotFound => {
                    output::warn(&format!("{} could not be put back: {gone}", program.display()));
                }
                Ok(()) | Err(_) => {}
            }
            Err(error.context("the new program was not taken; the old one goes on, and its log says why"))
        }
    }
}

/// Returns a way to the control plane, and the digest of its program.
async fn control(proxy: &Who) -> anyhow::Result<(Client, String)> {
    let mut last = anyhow::Error::new(client::Error::Unreachable("no address is known".to_owned()));
    for pin in &proxy.pins {
        let pin = HEXLOWER_PERMISSIVE.decode(pin.as_bytes()).ok().and_then(|pin| pin.try_into().ok());
        let client = Client::pinning(proxy.controls.clone(), pin.context("the proxy gives no usable pin")?);
        match client.program_sum().await {
            Ok(sum) => return Ok((client, sum)),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn sum_of(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(HEXLOWER.encode(&sha256(&bytes)))
}

fn short(sum: &str) -> &str {
    sum.get(..12).unwrap_or(sum)
}

/// Where the program is kept that was there before.
fn before(program: &Path) -> PathBuf {
    beside(program, "before")
}

fn beside(program: &Path, ending: &str) -> PathBuf {
    let mut name = program.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Puts a program in the place of another, once it is known to be whole and to run here. The other is kept.
fn install(program: &Path, bytes: &[u8], wanted: &str) -> anyhow::Result<()> {
    let found = HEXLOWER.encode(&sha256(bytes));
    if found != wanted {
        bail!(
            "what arrived is not what was meant: its SHA-256 is {found} instead of {wanted}; nothing was installed"
        );
    }
    let fresh = beside(program, "fresh");
    let write = || disk::write_file(&fresh, bytes, 0o755);
    write().with_context(|| format!("{} cannot be written: run this as who may", fresh.display()))?;
    let ran = std::process::Command::new(&fresh).arg("version").output();
    if !ran.as_ref().is_ok_and(|output| output.status.success()) {
        _ = fs::remove_file(&fresh);
        bail!("the control plane's program does not run on this host; nothing was installed");
    }
    let before = before(program);
    let replace = || {
        match fs::remove_file(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::hard_link(program, &before)?;
        fs::rename(&fresh, program)
    };
    replace().with_context(|| format!("{} cannot be replaced", program.display()))
}

/// Has the proxy start its program again, and waits until that is the proxy; returns its process number.
async fn take_over(folder: &Path) -> anyhow::Result<i32> {
    let new = handover::replace(folder).await?;
    let deadline = clock::now() + TAKEN_MAX;
    while clock::now() < deadline {
        if handover::runs(folder).await?.is_some_and(|pid| pid == new) {
            return Ok(new);
        }
        if !Path::new(&format!("/proc/{new}")).exists() {
            bail!("process {new} has ended");
        }
        sleep(LOOK_EVERY).await;
    }
    Err(refuse(Exit::TimedOut, format!("process {new} has not taken over within {TAKEN_MAX:?}")))
}
