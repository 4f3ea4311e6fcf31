//! A claim to what a host has once: whoever holds it tells others who it is, and it ends with its process, however that
//! ends.
//!
//! It is a socket with an abstract name (unix(7)): the kernel gives it to one process at a time, within one network
//! namespace, which is also what the rules of a firewall are for. Anybody may take such a name; a process that could not do
//! what is claimed is a stranger, and its claim counts for nothing.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::net::{clock, task};

/// A process that was told to end lets go within this time.
const WAIT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(50);
/// How long the holder may take to say who it is, and whoever asks to hear it.
const WORDS_TIME: Duration = Duration::from_secs(1);
/// Bytes that are read of what the holder says.
const WORDS_MAX: u64 = 4_096;
/// The number of `CAP_NET_ADMIN` (capabilities(7)).
const NET_ADMIN: u32 = 12;
/// Pause after a connection could not be accepted.
const TROUBLE_WAIT: Duration = Duration::from_millis(50);

/// Why something cannot be claimed.
#[derive(Debug)]
pub enum Error {
    /// Another process holds it.
    Held {
        /// The process; 0 when it is in another container.
        pid: i32,
        /// What it says of itself.
        words: String,
    },
    /// A process without the capability to use it has taken its name.
    Stranger(i32),
    /// The kernel refuses.
    Io(io::Error),
}

/// Something that is claimed, until the last process that holds this ends or drops it.
#[derive(Debug)]
pub struct Claim {
    socket: std::os::unix::net::UnixListener,
    answering: JoinHandle<Option<()>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Claim {
    /// Claims what is called `name`, and tells whoever asks `words`, and which process this is.
    ///
    /// # Errors
    /// When another process holds it, and does not let go within two seconds.
    pub async fn take(name: &str, words: &str) -> Result<Self, Error> {
        let path = format!("\0{name}");
        let deadline = clock::now() + WAIT;
        loop {
            match UnixListener::bind(&path) {
                Ok(listener) => return Self::hold(listener, words).map_err(Error::Io),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(Error::Io(error)),
            }
            match ask(&path).await {
                Ok(held) if clock::now() >= deadline => return Err(held),
                Ok(stranger @ Error::Stranger(_)) => return Err(stranger),
                // It has just let go, or is about to.
                Ok(_) | Err(_) if clock::now() < deadline => sleep(RETRY).await,
                Ok(held) => return Err(held),
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    /// Goes on with the claim of another process, which gave the socket.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn inherit(socket: OwnedFd, words: &str) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        Self::hold(UnixListener::from_std(socket)?, words)
    }

    /// Returns the socket, to be handed to another process.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn hold(listener: UnixListener, words: &str) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixListener::from(listener.as_fd().try_clone_to_owned()?);
        let said = format!("{} {words}", std::process::id());
        let answering = task::spawn("claim", async move {
            loop {
                match listener.accept().await {
                    Ok((mut asker, _)) => _ = timeout(WORDS_TIME, asker.write_all(said.as_bytes())).await,
                    Err(_) => sleep(TROUBLE_WAIT).await,
                }
            }
        });
        Ok(Self { socket, answering })
    }
}

/// Returns which process holds what is called `name`, and what it says of itself; `None` when nobody does.
pub async fn holder(name: &str) -> Option<(i32, String)> {
    match ask(&format!("\0{name}")).await {
        Ok(Error::Held { pid, words }) => Some((pid, words)),
        Ok(Error::Stranger(_) | Error::Io(_)) | Err(_) => None,
    }
}

/// Asks the holder who it is.
async fn ask(path: &str) -> io::Result<Error> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = timeout(WORDS_TIME, UnixStream::connect(path)).await.map_err(late)??;
    let pid = stream.peer_cred()?.pid().unwrap_or_default();
    if may_not(pid) {
        return Ok(Error::Stranger(pid));
    }
    let mut said = String::new();
    // One that is stopped says nothing, and holds it all the same.
    _ = timeout(WORDS_TIME, stream.take(WORDS_MAX).read_to_string(&mut said)).await;
    let (spoken, words) = said.split_once(' ').unwrap_or_default();
    // The socket may have been handed on since: who answers knows better whose it is.
    let pid = if pid == 0 { 0 } else { spoken.parse().unwrap_or(pid) };
    Ok(Error::Held { pid, words: words.to_owned() })
}

/// Returns whether a process is known not to have the capability. Where that cannot be seen, it is taken at its word.
fn may_not(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok())
        .is_some_and(|held| held >> NET_ADMIN & 1 == 0)
}

#[cfg(test)]
mod tests {
    use crate::net::claim::{Claim, Error};

    #[tokio::test]
    async fn one_process_holds_it_and_says_who_it_is_until_it_lets_go() {
        let name = format!("mesh-test-{}", std::process::id());
        let first = Claim::take(&name, "/first").await.unwrap();
        let heir = Claim::inherit(first.socket().try_clone_to_owned().unwrap(), "/first").unwrap();
        drop(first);

        match Claim::take(&name, "/second").await {
            // Whoever runs the tests has the capability, or has not.
            Err(Error::Held { pid, words }) => {
                assert_eq!((pid.unsigned_abs(), words.as_str()), (std::process::id(), "/first"));
            }
            Err(Error::Stranger(pid)) => assert_eq!(pid.unsigned_abs(), std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(heir);
    }
}
