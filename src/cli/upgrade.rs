//! `mesh upgrade`: the proxy of this host, or of others, becomes the version that its control plane runs, without losing a
//! call.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use tokio::time::sleep;

use crate::api::client::{self, Client};
use crate::cli::connect::{self, ControlAddress};
use crate::cli::exit::{Exit, refuse};
use crate::cli::roll::Roll;
use crate::cli::{data_dir, output};
use crate::identity::certificate::file_sha256;
use crate::model::name::NodeName;
use crate::model::token::Token;
use crate::net::clock;
use crate::proxy::handover;
use crate::proxy::program;
use crate::proxy::words::Who;

/// How long the new process may take until it is the proxy, or has given up.
const TAKEN_MAX: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where the installer writes the settings of this host's proxy. They are the word of whoever owns the host.
const SETTINGS: &str = "/etc/mesh/proxy.env";

/// Flags of `mesh upgrade`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpgradeArgs {
    /// Upgrade these hosts, from wherever you administer the mesh; without any, this host
    #[arg(value_name = "NODE")]
    nodes: Vec<NodeName>,
    /// Upgrade every host of the mesh, one after the other, until one fails
    #[arg(long, conflicts_with = "nodes")]
    all: bool,
    /// With NODE or --all: hosts of one service that may change at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// With NODE or --all: how long one host may take
    #[arg(long, value_name = "DURATION", default_value = "12m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Where the proxy of this host keeps its state, if not where it does by default
    #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whose program to take.
    #[arg(
        help = "For this host: take the program of the mesh that this token is of, whatever the proxy says; one that was used or has expired will do [default: that of MESH_JOIN in /etc/mesh/proxy.env]",
        long,
        env = "MESH_JOIN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    join: Option<Token>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Carries out `mesh upgrade`.
///
/// # Errors
/// When there is no proxy or no control plane, or the new program is refused: the old one goes on then, and its file is back.
pub(crate) async fn run(args: UpgradeArgs, address: ControlAddress) -> anyhow::Result<Exit> {
    if !args.all && args.nodes.is_empty() {
        return this_host(args.data_dir, args.join, args.dry_run).await;
    }
    let client = connect::client(&address).await?;
    let nodes = args.nodes.into_iter().collect();
    let roll = Roll { nodes, at_once: usize::from(args.at_once), limit: args.timeout };
    if args.dry_run { roll.plan(&client).await } else { roll.run(&client).await }
}

/// Downloads the program from the control plane, puts it in the place of the proxy's, and has the proxy hand over to it.
async fn this_host(data_dir: Option<PathBuf>, join: Option<Token>, dry_run: bool) -> anyhow::Result<Exit> {
    let folder = data_dir.unwrap_or_else(|| data_dir::of("proxy"));
    let Some((pid, proxy)) = handover::who(&folder).await? else {
        let text = format!("no proxy runs on {}: name its --data-dir, or start it", folder.display());
        return Err(refuse(Exit::NotFound, text));
    };
    let settled = if join.is_some() { None } else { written_down(&folder)? };
    let (client, wanted) = match (join, settled) {
        (Some(token), _) => believed(&token, &proxy).await?,
        (None, Some(token)) => {
            let found = believed(&token, &proxy).await;
            found.with_context(|| format!("this host's mesh is that of MESH_JOIN in {SETTINGS}"))?
        }
        (None, None) if may_be_believed(pid)? => control(&proxy).await?,
        (None, None) => {
            let text = format!(
                "the proxy on {} runs as another user, and only it says which control plane to take a program from: give a \
                 token of this mesh with --join, or write it as MESH_JOIN into {SETTINGS}",
                folder.display()
            );
            return Err(refuse(Exit::Refused, text));
        }
    };
    let running = running(pid, &folder)?;
    if running == wanted {
        output::note(&format!("the proxy of {} is the control plane's version already", proxy.node));
        return Ok(Exit::Done);
    }
    let installed = &proxy.program;
    output::note(&format!(
        "{} is {} there, and {} here",
        installed.display(),
        short(&wanted),
        short(&running)
    ));
    if dry_run {
        return Ok(Exit::Done);
    }
    if program::is_kept(&folder, installed) {
        // It runs what control gave it before, and keeps this one beside that.
        let bytes = client.program().await?;
        program::check(&bytes, &wanted)?;
        let kept = program::keep(&folder, &bytes, &wanted)?;
        let taken = take_over(&folder, Some(kept.clone())).await;
        return taken.map(|new| say_taken(pid, new)).map_err(|error| {
            _ = fs::remove_file(kept);
            error.context(NOT_TAKEN)
        });
    }
    if file_sha256(installed).ok().as_deref() != Some(&wanted) {
        install(installed, &client.program().await?, &wanted)?;
    }
    match take_over(&folder, None).await {
        Ok(new) => {
            _ = fs::remove_file(before(installed));
            Ok(say_taken(pid, new))
        }
        Err(error) => {
            // Whatever starts this program next gets the one that works.
            match fs::rename(before(installed), installed) {
                Err(gone) if gone.kind() != io::ErrorKind::NotFound => {
                    output::warn(&format!("{} could not be put back: {gone}", installed.display()));
                }
                Ok(()) | Err(_) => {}
            }
            Err(error.context(NOT_TAKEN))
        }
    }
}

/// Returns the digest of the program that a proxy runs.
fn running(pid: i32, folder: &Path) -> anyhow::Result<String> {
    match file_sha256(Path::new(&format!("/proc/{pid}/exe"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "the proxy on {} has just ended (it was process {pid}): start it ('systemctl start mesh-proxy') and give this \
                 command again; nothing was changed",
                folder.display()
            );
            Err(refuse(Exit::NotFound, text))
        }
        read => read.context("the proxy's program cannot be read"),
    }
}

const NOT_TAKEN: &str = "the new program was not taken; the old one goes on, and its log says why";

fn say_taken(old: i32, new: i32) -> Exit {
    output::note(&format!("process {new} has taken over from {old}, which serves out what is under way"));
    Exit::Done
}

/// Returns the token in the settings of this host's installed proxy; `None` when they hold none, or are another proxy's.
fn written_down(folder: &Path) -> anyhow::Result<Option<Token>> {
    let place = |folder: &Path| folder.canonicalize().ok();
    if place(folder).is_none() || place(folder) != place(&data_dir::system("proxy")) {
        return Ok(None);
    }
    let text = match fs::read_to_string(SETTINGS) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{SETTINGS} cannot be read")),
    };
    let token = join_of(&text).map(str::parse).transpose();
    token.with_context(|| format!("MESH_JOIN in {SETTINGS}"))
}

/// Returns the value of `MESH_JOIN` in an environment file: the last one counts.
fn join_of(text: &str) -> Option<&str> {
    let value = text.lines().filter_map(|line| line.trim().strip_prefix("MESH_JOIN=")).next_back()?;
    Some(value.trim_matches(['\'', '"'])).filter(|value| !value.is_empty())
}

/// Returns whether a process may say what is run here: it could do as much itself.
fn may_be_believed(pid: i32) -> anyhow::Result<bool> {
    let owner = fs::metadata(format!("/proc/{pid}"))
        .context("the proxy has just ended: start it, and give this command again")?
        .uid();
    Ok([0, rustix::process::geteuid().as_raw()].contains(&owner))
}

/// Returns a way to the control plane that a token pins, at the addresses that the token or the proxy names, and the digest of
/// its program.
async fn believed(token: &Token, proxy: &Who) -> anyhow::Result<(Client, String)> {
    let mut controls = proxy.controls.clone();
    controls.extend(token.controls.iter().filter(|control| !proxy.controls.contains(control)).cloned());
    let client = Client::pinning(controls, token.pin);
    let sum = client.program_sum().await?;
    Ok((client, sum))
}

/// Returns a way to the control plane that the proxy names, and the digest of its program.
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
fn install(installed: &Path, bytes: &[u8], wanted: &str) -> anyhow::Result<()> {
    program::check(bytes, wanted).context("nothing was installed")?;
    let fresh = beside(installed, "fresh");
    program::write(&fresh, bytes).context("nothing was installed")?;
    let before = before(installed);
    let replace = || {
        match fs::remove_file(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::hard_link(installed, &before)?;
        fs::rename(&fresh, installed)
    };
    replace().with_context(|| format!("{} cannot be replaced", installed.display()))
}

/// Has the proxy start its program again, or another one, and waits until that is the proxy; returns its process number.
async fn take_over(folder: &Path, program: Option<PathBuf>) -> anyhow::Result<i32> {
    let new = handover::replace(folder, program).await?;
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

#[cfg(test)]
mod tests {
    use crate::cli::upgrade::join_of;

    #[test]
    fn the_token_is_found_among_the_settings() {
        let settings =
            "# Settings of mesh proxy\nMESH_ARGS='--service web=8080'\nMESH_JOIN='mesh1.a.b.c@h:1'\n";

        assert_eq!(join_of(settings), Some("mesh1.a.b.c@h:1"));
        assert_eq!(join_of("MESH_JOIN=\"one\"\nMESH_JOIN=two\n"), Some("two"));
        assert_eq!(join_of("#MESH_JOIN='x'\nMESH_JOIN=''\nNO_MESH_JOIN=x\n"), None);
    }
}
