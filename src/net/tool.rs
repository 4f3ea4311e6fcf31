//! Tools of the host: what the kernel and the host's services are told, they are told by the host's own programs.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Where it is when the search path of a service does not say.
const PLACES: [&str; 3] = ["", "/usr/sbin/", "/sbin/"];
/// A tool that takes longer is not working.
const TOOL_TIME: Duration = Duration::from_secs(10);
/// What is said of a failure at most, in bytes.
const WORDS_MAX: usize = 600;

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("the program '{0}' is not installed on this host")]
    Missing(&'static str),
    /// It refuses.
    #[error("{program} refuses: {words}")]
    Refused {
        /// Which program.
        program: &'static str,
        /// In its own words.
        words: String,
    },
    /// It could not be run, or does not end.
    #[error("cannot run '{program}'")]
    Broken {
        /// Which program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs a tool of the host with these words, and this text on its standard input; returns what it writes.
///
/// # Errors
/// When it is not there, or refuses.
pub async fn run(program: &'static str, words: &[&str], input: &str) -> Result<String, Error> {
    let broken = |source| Error::Broken { program, source };
    for place in PLACES {
        let mut command = Command::new(format!("{place}{program}"));
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What a service manager is told is not for tools to say.
        command.kill_on_drop(true).env("LC_ALL", "C").env_remove("NOTIFY_SOCKET");
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(broken(error)),
        };
        let running = async {
            if let Some(mut stdin) = child.stdin.take() {
                // One that has ended already says why.
                _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let ended = timeout(TOOL_TIME, running).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let output = ended.map_err(broken)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        words.truncate(words.floor_char_boundary(WORDS_MAX));
        return Err(Error::Refused { program, words });
    }
    Err(Error::Missing(program))
}
