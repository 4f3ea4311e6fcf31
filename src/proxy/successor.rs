//! How a proxy starts another process of its own program, which is to take over from it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::net::task;

/// The flag with which a process takes over.
const TAKE_OVER: &str = "--take-over";

/// How another process is started that takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The file, as it was when this process was started; it may be another version by now.
    pub program: PathBuf,
    /// The words after it.
    pub words: Vec<OsString>,
}

impl Successor {
    /// Starts it, with the output and the environment of this process; returns its number. Its end is logged.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self) -> io::Result<i32> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.words).stdin(std::process::Stdio::null());
        if !self.words.iter().any(|word| word == TAKE_OVER) {
            command.arg(TAKE_OVER);
        }
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        task::spawn("successor", async move {
            if let Ok(status) = child.wait().await {
                tracing::warn!(pid, %status, "the process that was started to take over has ended");
            }
        });
        Ok(pid)
    }
}
