//! `mesh snapshot`: the control plane kept in a file, the file checked, and the control plane put back from it.

use std::fs;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::client::{self, Client};
use crate::cli::connect::{self, ControlAddress};
use crate::cli::data_dir;
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Format};
use crate::control::backup::{Backup, Summary};
use crate::control::bootstrap::SOCKET_FILE;
use crate::control::restore::{self, BEFORE_FILE};
use crate::model::resource::Revision;
use crate::net::{clock, disk};

/// Largest file that is read: far above what the bounds of a mesh's state come to.
const FILE_BYTES_MAX: usize = 2 << 30;
/// A piece of the answer that takes longer is given up.
const PIECE_TIMEOUT: Duration = Duration::from_secs(15);
/// A control plane that was told to restore serves again within this time, or says why not in its log.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Stands for standard input or output.
const STREAM: &str = "-";

/// Flags of `mesh snapshot`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum SnapshotCommand {
    /// Keep all that the control plane is in a file, private keys included (mode 0600); on its own host
    Save {
        /// Where to; '-' for standard output, to encrypt it on its way: mesh snapshot save - | age -r KEY > FILE
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
        /// How to print what is in it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Check a file and print what is in it, without its secrets; needs no control plane
    Verify {
        /// The file; '-' for standard input
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
        /// How to print what is in it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Put a control plane back as it was: in an empty data directory, or with --yes in the place of what is there, running or
    /// not
    Restore {
        /// The file; '-' for standard input
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
        /// The control plane's data directory [default: as of 'mesh control']
        #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Replace what is there
        #[arg(long)]
        yes: bool,
    },
}

/// Carries out a `mesh snapshot` command.
///
/// # Errors
/// When the file is damaged, of another mesh or none, or the control plane does not answer.
pub(crate) async fn run(args: SnapshotArgs, address: ControlAddress) -> anyhow::Result<Exit> {
    match args.command {
        SnapshotCommand::Save { file, output } => {
            save(&connect::client(&address).await?, &file, output).await
        }
        SnapshotCommand::Verify { file, output } => {
            let (bytes, backup) = read(&file)?;
            print(&backup.summary(), bytes.len(), output)?;
            Ok(Exit::Done)
        }
        SnapshotCommand::Restore { file, data_dir, yes } => {
            let named = address.control.as_deref().and_then(|control| control.strip_prefix("unix://"));
            let beside = named.and_then(|socket| Path::new(socket).parent()).map(Path::to_owned);
            let data_dir = data_dir.or(beside).unwrap_or_else(|| data_dir::of("control"));
            restore(&file, &data_dir, yes).await
        }
    }
}

// --- save -----------------------------------------------------------------------------------------------------------

async fn save(client: &Client, file: &Path, format: Format) -> anyhow::Result<Exit> {
    let to_stream = file.as_os_str() == STREAM;
    if to_stream && std::io::stdout().is_terminal() {
        let text = "a snapshot holds private keys, and standard output is a terminal: name a file, or a command to pipe it to";
        return Err(refuse(Exit::Usage, text.to_owned()));
    }
    let mut pieces = client.backup().await?;
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(piece) =
        timeout(PIECE_TIMEOUT, pieces.next()).await.map_err(|_| client::Error::TimedOut)?
    {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > FILE_BYTES_MAX {
            return Err(refuse(Exit::Refused, format!("the snapshot is larger than {FILE_BYTES_MAX} bytes")));
        }
    }
    let backup = Backup::parse(&bytes).context("the control plane's answer is no snapshot")?;
    if to_stream {
        output::write(std::str::from_utf8(&bytes)?)?;
        return Ok(Exit::Done);
    }
    let written = disk::write_file(file, &bytes, 0o600);
    written.with_context(|| format!("cannot write {}", file.display()))?;
    print(&backup.summary(), bytes.len(), format)?;
    output::note(&format!(
        "{} holds the mesh's private keys: whoever reads it can be the mesh; only its owner can (mode 0600)",
        file.display()
    ));
    Ok(Exit::Done)
}

// --- verify ---------------------------------------------------------------------------------------------------------

fn read(file: &Path) -> anyhow::Result<(Zeroizing<Vec<u8>>, Backup)> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = FILE_BYTES_MAX as u64;
    let read = if file.as_os_str() == STREAM {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    let backup = Backup::parse(&bytes)
        .map_err(|unfit| refuse(Exit::Refused, format!("{}: {unfit}", file.display())))?;
    Ok((bytes, backup))
}

fn print(summary: &Summary, bytes: usize, format: Format) -> std::io::Result<()> {
    match format {
        Format::Json => output::json(summary),
        Format::Yaml => output::yaml(summary),
        Format::Name => output::line(&summary.mesh),
        Format::Table | Format::Wide => output::write(&describe(summary, bytes, clock::wall_ms())),
    }
}

fn describe(summary: &Summary, bytes: usize, now_ms: u64) -> String {
    let objects: Vec<_> = summary.objects.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let banned: Vec<_> = summary.banned.iter().map(ToString::to_string).collect();
    let or_none = |parts: Vec<String>| if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
    let key = if summary.has_root_key {
        "its key is in the file"
    } else {
        "its key was brought along, and is not in the file"
    };
    let age = output::age(now_ms.saturating_sub(summary.taken_ms));
    let taken = clock::rfc3339(summary.taken_ms);
    output::facts(&[
        ("mesh", summary.mesh.clone()),
        ("revision", summary.revision.to_string()),
        ("taken", format!("{taken} ({age} ago), by {}, mesh {}", summary.node, summary.build)),
        ("objects", or_none(objects)),
        ("nodes", format!("{} proxies, {} operators", summary.proxies, summary.operators)),
        ("banned", or_none(banned)),
        ("tokens", summary.tokens.to_string()),
        ("root", format!("sha256 {}; {key}", summary.root)),
        ("file", format!("{bytes} bytes; whole: its checksum is right")),
    ])
}

// --- restore --------------------------------------------------------------------------------------------------------

async fn restore(file: &Path, data_dir: &Path, yes: bool) -> anyhow::Result<Exit> {
    let (bytes, backup) = read(file)?;
    let summary = backup.summary();
    let socket = data_dir.join(SOCKET_FILE);
    let is_running = UnixStream::connect(&socket).await.is_ok();
    if !yes && (is_running || restore::is_used(data_dir)) {
        let what = if is_running { "a running control plane's state" } else { "a control plane's state" };
        let text = format!(
            "{} holds {what}: with --yes, revision {} of {} takes its place, and what was written since is no longer in \
             force (it is kept beside it, in {BEFORE_FILE})",
            data_dir.display(),
            summary.revision,
            clock::rfc3339(summary.taken_ms)
        );
        return Err(refuse(Exit::Refused, text));
    }
    restore::place(data_dir, &bytes)?;
    let done = if is_running { over(&socket).await } else { into(data_dir).await };
    let revision = done.inspect_err(|_| restore::take_back(data_dir))?;
    output::note(&format!(
        "restored: revision {} of mesh {}, as it was {} ago; it goes on at revision {revision}",
        summary.revision,
        summary.mesh,
        output::age(clock::wall_ms().saturating_sub(summary.taken_ms))
    ));
    output::note(
        "Proxies follow by themselves. What was done since the snapshot was taken counts no more: hosts that joined must join \
         again with a new token, and nodes that were banned or removed are members again.",
    );
    if !is_running {
        output::note(&format!("Start it with: mesh control --data-dir {}", data_dir.display()));
    }
    Ok(Exit::Done)
}

/// Restores what was placed while nobody runs there.
async fn into(data_dir: &Path) -> anyhow::Result<Revision> {
    let dir = data_dir.to_owned();
    let done = tokio::task::spawn_blocking(move || restore::carry_out(&dir, clock::wall_ms())).await??;
    done.map(|(_, revision)| revision).context("the snapshot was taken away while it was being restored")
}

/// Has the running control plane restore what was placed, and waits until it serves again.
async fn over(socket: &Path) -> anyhow::Result<Revision> {
    let before = Client::unix(socket).status().await?.revision;
    Client::unix(socket).restore().await?;
    let again = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Ok(status) = Client::unix(socket).status().await
                && status.revision > before
            {
                return status.revision;
            }
        }
    };
    timeout(RESTORE_TIMEOUT, again).await.map_err(|_| {
        let text =
            format!("the control plane does not serve again after {RESTORE_TIMEOUT:?}: its log says why");
        refuse(Exit::TimedOut, text)
    })
}
