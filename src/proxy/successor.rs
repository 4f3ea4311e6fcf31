//! How a proxy starts another process of its own program, or of another version, which is to take over from it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use tokio::task::JoinHandle;

use crate::net::task;

/// The flag with which a process takes over.
const TAKE_OVER: &str = "--take-over";

/// How a process ends; `None` when that is not known.
pub(crate) type Ended = JoinHandle<Option<Option<ExitStatus>>>;

/// How another process is started that takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The file, as it was when this process was started; it may be another version by now.
    pub program: PathBuf,
    /// The words after it.
    pub words: Vec<OsString>,
}

impl Successor {
    /// Starts it, with the output and the environment of this process; returns its number, and how it ends, which is logged.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self) -> io::Result<(i32, Ended)> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.words).stdin(std::process::Stdio::null());
        if !self.words.iter().any(|word| word == TAKE_OVER) {
            command.arg(TAKE_OVER);
        }
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let ended = task::spawn("successor", async move {
            let status = child.wait().await.ok()?;
            tracing::warn!(pid, %status, "the process that was started to take over has ended");
            Some(status)
        });
        Ok((pid, ended))
    }
}

/// Returns whether whoever started this process goes on with another one in its place.
///
/// # Errors
/// When all of the service would end with this process; why, and what to do.
pub(crate) fn may_follow() -> Result<(), &'static str> {
    let pid = std::process::id();
    if pid == 1 {
        return Err(
            "it is the first process of its container, which would end with it: start the container from an image \
                    with the new program",
        );
    }
    let is_main = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|main| main == pid.to_string());
    if is_main && std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Err(
            "systemd would not follow to the new process, and end it with this one: the unit needs Type=notify, \
                    as the one that install.sh writes has",
        );
    }
    Ok(())
}
