//! What is left of a proxy that was killed, taken away.
//!
//! A process of its own waits for the end of the proxy, which it hears by a pipe that the kernel closes, however the proxy
//! ends. It then gives a new proxy some time to make the rules its own, and removes them if none has: whoever's
//! connections lead to nobody had rather have none of it. (The kernel could do it at once by the flag `owner` of a table;
//! but then a proxy that a service manager starts again would leave strict hosts open meanwhile.)
//!
//! A service manager ends whatever a killed service has left before it starts it again. A guard that is told to end takes
//! everything away at once, but for strict rules: those stay, so that the host is not open meanwhile, and questions about
//! names go their own way again.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::logic::intercept::{self, Mode};
use crate::net::{nft, tool};
use crate::proxy::{resolved, ways};

/// What the right to intercept is called among the abstract sockets of a host.
pub const CLAIM: &str = "mesh-intercept";
/// How long a new proxy may take to come.
const GRACE: Duration = Duration::from_secs(10);
/// What the proxy says when it has removed everything itself.
const DISMISSED: u8 = b'q';
/// How long a guard may take to go.
const DISMISSAL_TIME: Duration = Duration::from_secs(2);
/// How a guard is told that the rules are strict.
pub const STRICT_FLAG: &str = "--strict";
/// This program, also after a newer one has taken its place on disk.
const PROGRAM: &str = "/proc/self/exe";

/// The process that waits, as its proxy knows it.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no room for another process.
    pub(crate) fn post(instance: &str, mode: Mode) -> io::Result<Self> {
        let mut command = Command::new(PROGRAM);
        // A group of its own: what a terminal sends to the proxy is not for the guard.
        command.args(["intercept", "guard", instance]).stdin(Stdio::piped()).process_group(0);
        if mode == Mode::Strict {
            command.arg(STRICT_FLAG);
        }
        command.env_remove("NOTIFY_SOCKET");
        let mut child = command.stdout(Stdio::null()).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, pipe })
    }

    /// Waits until it has ended, which it should not.
    pub(crate) async fn ended(&mut self) {
        _ = self.child.wait().await;
    }

    /// Lets it go: there is nothing left to take away.
    pub(crate) async fn dismiss(mut self) {
        _ = self.pipe.write_all(&[DISMISSED]).await;
        _ = timeout(DISMISSAL_TIME, self.child.wait()).await;
    }
}

/// Waits for the end of the proxy that has started this process, and takes away what it left; returns whether there was
/// anything. A signal to end is obeyed only afterwards, and then at once: `is_strict` says that rules stay then.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn watch(instance: &str, is_strict: bool) -> io::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let _hangup = signal(SignalKind::hangup())?;
    let _interrupt = signal(SignalKind::interrupt())?;
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut pipe = pipe::Receiver::from_owned_fd(stdin)?;
    loop {
        tokio::select! {
            said = pipe.read_u8() => match said {
                Ok(DISMISSED) => return Ok(false),
                Ok(_) => {}
                Err(_) => break,
            },
            _ = terminate.recv() => {}
        }
    }
    tokio::select! {
        () = sleep(GRACE) => {}
        _ = terminate.recv() => if is_strict {
            // Another proxy's are made anew with the names in them.
            _ = nft::apply(&intercept::release_names()).await;
            return Ok(false);
        }
    }
    Ok(withdraw(instance).await)
}

/// Removes what one proxy has installed; returns whether it was still in force. What another proxy has made its own stays.
pub(crate) async fn withdraw(instance: &str) -> bool {
    let is_removed = nft::apply(&intercept::remove(instance)).await.is_ok();
    // Flushed by somebody, with the rest still there.
    if is_removed || matches!(nft::table(intercept::TABLE).await, Ok(None)) {
        resolved::forget().await;
        ways::close().await;
    }
    is_removed
}

/// Tells systemd-resolved where names below `.mesh` are answered, until what a proxy has installed is removed; returns
/// whether it knows now.
pub async fn tell_resolved(server: SocketAddr) -> bool {
    resolved::tell(server).await
}

/// Removes the rules of whatever proxy has installed them, if there are any.
///
/// # Errors
/// When the tool is missing or refuses.
pub async fn clear() -> Result<(), tool::Error> {
    nft::apply(&intercept::clear()).await?;
    resolved::forget().await;
    ways::close().await;
    Ok(())
}
