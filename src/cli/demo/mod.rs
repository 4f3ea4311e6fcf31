//! `mesh demo`: a whole mesh on one machine, a small shop on it, load, and the console.
//!
//! Nothing is simulated: control plane and proxies are processes of this executable, and every number shown was counted
//! by them. All of it listens on loopback, keeps its files in a temporary directory, and is gone afterwards.

mod shop;
mod fleet;

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::client::Client;
use crate::cli::demo::fleet::{Addresses, Fleet, Process};
use crate::cli::demo::shop::Instance;
use crate::cli::exit::Exit;
use crate::cli::{connect, edges, output, top};
use crate::net::task;

/// Flags of `mesh demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Do not open the console: run for a while, print who called whom, and end; so does a standard output that is no
    /// terminal
    #[arg(long, env = "MESH_HEADLESS")]
    headless: bool,
    /// How long to run; without it, until the console is closed (10s with --headless)
    #[arg(long, env = "MESH_DURATION", value_name = "DURATION", value_parser = output::duration)]
    duration: Option<Duration>,
}

/// How long a headless run lasts when nothing else is said.
const HEADLESS_DURATION: Duration = Duration::from_secs(10);
/// Time between two visitors.
const VISIT_EVERY: Duration = Duration::from_millis(25);
/// Visitors under way at once; more are not let in.
const VISITORS_MAX: usize = 64;

/// A host of the demo: its name, its service, how that behaves.
struct Host {
    name: &'static str,
    service: &'static str,
    work_ms: u64,
    fails_one_in: u32,
    calls: &'static [&'static str],
}

/// The shop. `payments` runs twice, and the second instance is slower and sometimes fails, as second instances do.
const SHOP: [Host; 6] = [
    Host { name: "host-web", service: "web", work_ms: 2, fails_one_in: 0, calls: &["catalog", "cart"] },
    Host { name: "host-catalog", service: "catalog", work_ms: 3, fails_one_in: 0, calls: &[] },
    Host { name: "host-cart", service: "cart", work_ms: 2, fails_one_in: 0, calls: &["catalog", "payments"] },
    Host { name: "host-pay-1", service: "payments", work_ms: 8, fails_one_in: 0, calls: &[] },
    Host { name: "host-pay-2", service: "payments", work_ms: 20, fails_one_in: 50, calls: &[] },
    Host { name: "host-ledger", service: "ledger", work_ms: 0, fails_one_in: 0, calls: &[] },
];
/// The host without a service, where the visitors come from.
const CLIENT: &str = "host-client";

/// Directories of the demo's state begin so; the process that made one follows.
const DIR_PREFIX: &str = "mesh-demo-";
/// A file in such a directory, locked for as long as its demo runs.
const LOCK_FILE: &str = "lock";

/// How to reach what runs.
struct Demo {
    socket: PathBuf,
    client: Addresses,
}

/// Counts of the visitors.
#[derive(Default)]
struct Visits {
    made: AtomicU64,
    failed: AtomicU64,
}

/// Runs the demo.
///
/// # Errors
/// When a process does not start, or a headless run saw no traffic. Everything is ended and removed in any case.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<Exit> {
    let stopped = stopped()?;
    remove_left_over();
    let (dir, _held) = tempdir()?;
    let mut fleet = Fleet::default();
    let outcome = tokio::select! {
        outcome = play(&args, &dir, &mut fleet) => outcome,
        () = stopped => Ok(Exit::Done),
    };
    fleet.stop().await;
    std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    outcome
}

/// Returns a future that ends when this process is told to end, or its terminal goes away.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut signals =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    Ok(async move {
        let [interrupt, terminate, hangup] = &mut signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

async fn play(args: &DemoArgs, dir: &Path, fleet: &mut Fleet) -> anyhow::Result<Exit> {
    let demo = start(dir, fleet).await?;
    let visits = Arc::new(Visits::default());
    let outbound = demo.client.outbound.context("the client's proxy did not say where it listens")?;
    let load = task::spawn("demo-load", visit(outbound, visits.clone()));
    let shown = if args.headless || !io::stdout().is_terminal() {
        headless(&demo, args.duration.unwrap_or(HEADLESS_DURATION), &visits).await
    } else {
        console(&demo, args.duration).await
    };
    load.abort();
    shown
}

/// Makes a directory that only this user can read, and that other demos leave alone while the file is open.
fn tempdir() -> anyhow::Result<(PathBuf, File)> {
    let dir = std::env::temp_dir().join(format!("{DIR_PREFIX}{}", std::process::id()));
    let make = || {
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let lock = File::create(dir.join(LOCK_FILE))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok::<_, io::Error>(lock)
    };
    let lock = make().with_context(|| format!("cannot make {}", dir.display()))?;
    Ok((dir, lock))
}

/// Removes what demos of this user left that were killed without a chance to tidy up.
fn remove_left_over() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let demo = entry.file_name().to_str().is_some_and(|name| name.starts_with(DIR_PREFIX));
        let ours = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == me);
        // A demo that has made its directory and not locked it yet has no lock to be opened.
        let Some(lock) = (demo && ours).then(|| File::open(entry.path().join(LOCK_FILE)).ok()).flatten()
        else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What cannot be removed is in nobody's way.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn start(dir: &Path, fleet: &mut Fleet) -> anyhow::Result<Demo> {
    let progress = output::Spinner::start("starting the control plane");
    let listen = ["--gossip", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--advertise", "127.0.0.1"];
    let words = |parts: &[&str]| parts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut args = words(&["control", "--listen", "127.0.0.1:0"]);
    args.extend(words(&listen));
    fleet.control.insert(Process::start(dir, "control", &args)?).ready().await?;
    let socket = dir.join("control/control.sock");
    let token = token(&socket).await?;

    progress.say(format!("starting {} proxies", SHOP.len() + 1));
    let mut listeners = Vec::new();
    for (name, service) in SHOP.iter().map(|host| (host.name, host.service)).chain([(CLIENT, "")]) {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut args = words(&["proxy", "--join", &token, "--node", name, "--workers", "1"]);
        args.extend(words(&["--outbound", "127.0.0.1:0", "--inbound", "127.0.0.1:0", "--dns", "off"]));
        args.extend(words(&listen));
        if !service.is_empty() {
            let protocol = if service == "ledger" { "tcp" } else { "http" };
            args.extend(words(&["--service", &format!("{service}={}/{protocol}", listener.local_addr()?)]));
        }
        if service == "payments" {
            args.extend(words(&["--upstream", "ledger=127.0.0.1:0"]));
        }
        fleet.proxies.push(Process::start(dir, name, &args)?);
        listeners.push(listener);
    }
    let mut client = Addresses::default();
    for (index, (process, listener)) in fleet.proxies.iter_mut().zip(listeners).enumerate() {
        let addresses = process.ready().await?;
        match SHOP.get(index) {
            Some(host) => open(host, listener, &addresses)?,
            None => client = addresses,
        }
    }
    Ok(Demo { socket, client })
}

/// Starts the service of `host` on `listener`.
fn open(host: &Host, listener: TcpListener, addresses: &Addresses) -> anyhow::Result<()> {
    if host.service == "ledger" {
        shop::serve_ledger(listener);
        return Ok(());
    }
    let outbound =
        addresses.outbound.with_context(|| format!("{} did not say where it listens", host.name))?;
    let instance = Instance {
        work: Duration::from_millis(host.work_ms),
        fails_one_in: host.fails_one_in,
        calls: host.calls.to_vec(),
        outbound,
        ledger: addresses.upstreams.get("ledger.default").copied(),
    };
    shop::serve(listener, instance);
    Ok(())
}

/// Makes one token for all proxies, as an operator would.
async fn token(socket: &Path) -> anyhow::Result<String> {
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let uses = (SHOP.len() + 1).to_string();
    let output = tokio::process::Command::new(executable)
        .args(["token", "create", "--uses", &uses, "--ttl", "10m"])
        .env("MESH_CONTROL", format!("unix://{}", socket.display()))
        .output()
        .await
        .context("cannot run 'mesh token create'")?;
    if !output.status.success() {
        bail!("'mesh token create' failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Sends visitors to the shop until it is stopped.
async fn visit(outbound: SocketAddr, visits: Arc<Visits>) {
    let doors = Arc::new(tokio::sync::Semaphore::new(VISITORS_MAX));
    let mut clock = tokio::time::interval(VISIT_EVERY);
    loop {
        clock.tick().await;
        let Ok(place) = doors.clone().try_acquire_owned() else { continue };
        let visits = visits.clone();
        task::spawn("demo-visitor", async move {
            let visit = shop::get(outbound, "web", "/");
            let served = matches!(tokio::time::timeout(Duration::from_secs(10), visit).await, Ok(Ok(200)));
            visits.made.fetch_add(1, Ordering::Relaxed);
            visits.failed.fetch_add(u64::from(!served), Ordering::Relaxed);
            drop(place);
        });
    }
}

/// Lets the shop run for a while, then prints who called whom, as the control plane saw it.
async fn headless(demo: &Demo, duration: Duration, visits: &Visits) -> anyhow::Result<Exit> {
    let spinner =
        output::Spinner::start(format!("the shop is open for {}", humantime::format_duration(duration)));
    tokio::time::sleep(duration).await;
    drop(spinner);
    let client = Client::unix(&demo.socket);
    edges::run(&edges::EdgesArgs::default(), connect::views(&client, false).await?).await?;
    let (made, failed) = (visits.made.load(Ordering::Relaxed), visits.failed.load(Ordering::Relaxed));
    output::note(&format!(
        "{made} visits, {failed} failed (one payment in fifty fails on host-pay-2, as it should)"
    ));
    Ok(if made > failed { Exit::Done } else { Exit::Refused })
}

/// Opens the console on the demo's control plane.
async fn console(demo: &Demo, duration: Option<Duration>) -> anyhow::Result<Exit> {
    let address = connect::ControlAddress { control: Some(format!("unix://{}", demo.socket.display())) };
    let closed = top::run(top::TopArgs::default(), address);
    match duration {
        None => closed.await,
        Some(duration) => match tokio::time::timeout(duration, closed).await {
            Ok(closed) => closed,
            Err(_) => Ok(Exit::Done),
        },
    }
}
