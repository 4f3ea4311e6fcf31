//! The demo's mesh: one control plane and several proxies, each a real process of this executable on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long one process may take to become ready.
const READY_MAX: Duration = Duration::from_secs(20);
/// How long one process may take to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a process says of itself in `addresses.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Addresses {
    /// Where applications send requests.
    pub(crate) outbound: Option<SocketAddr>,
    /// Where health and metrics answer.
    pub(crate) admin: Option<SocketAddr>,
    /// The local ports of `--upstream`.
    pub(crate) upstreams: BTreeMap<String, SocketAddr>,
}

/// A running process of the mesh.
pub(crate) struct Process {
    name: String,
    child: Child,
    data_dir: PathBuf,
    log: PathBuf,
}

/// Everything that was started.
#[derive(Default)]
pub(crate) struct Fleet {
    /// The control plane.
    pub(crate) control: Option<Process>,
    /// The proxies, in the order in which they were started.
    pub(crate) proxies: Vec<Process>,
}

impl Fleet {
    /// Ends everything, the control plane last, and waits for it.
    pub(crate) async fn stop(self) {
        join_all(self.proxies.into_iter().map(Process::stop)).await;
        join_all(self.control.into_iter().map(Process::stop)).await;
    }
}

impl Process {
    /// Starts `mesh` with `args`, its data and log below `dir`. It dies with this process, however this one ends.
    pub(crate) fn start(dir: &Path, name: &str, args: &[String]) -> anyhow::Result<Self> {
        let data_dir = dir.join(name);
        let log = dir.join(format!("{name}.log"));
        let output =
            std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let executable = std::env::current_exe().context("cannot find this executable")?;
        let child = Command::new(executable)
            .args(args)
            .arg("--data-dir")
            .arg(&data_dir)
            .arg("--die-with-parent")
            .arg(std::process::id().to_string())
            .env_remove("MESH_CONTROL")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, data_dir, log })
    }

    /// Waits until the process says that it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time: the end of its log is in the message.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<Addresses> {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    bail!("{} ended with {status}", self.name);
                }
                if let Some(addresses) = self.addresses()
                    && let Some(admin) = addresses.admin
                    && answers_ready(admin).await
                {
                    return Ok(addresses);
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let result = timeout(READY_MAX, wait).await;
        let result =
            result.unwrap_or_else(|_| Err(anyhow::anyhow!("{} was not ready in {READY_MAX:?}", self.name)));
        result.with_context(|| format!("its log ends with:\n{}", tail(&self.log)))
    }

    fn addresses(&self) -> Option<Addresses> {
        let text = std::fs::read_to_string(self.data_dir.join("addresses.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Ends the process and waits for it.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            // An error means that it has ended already, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Asks `admin` over one plain connection whether it is ready.
async fn answers_ready(admin: SocketAddr) -> bool {
    let asked = timeout(Duration::from_secs(1), crate::cli::demo::shop::get(admin, "localhost", "/readyz"));
    matches!(asked.await, Ok(Ok(200)))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
