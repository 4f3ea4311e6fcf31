//! Messages and open sockets between two processes of one host and one user, over a unix socket.
//!
//! A message is its length (4 bytes) and the number of sockets that come with it (2 bytes), both in network order, then JSON,
//! then one byte for each group of sockets, which are attached to it (unix(7), `SCM_RIGHTS`). Whoever may connect may take
//! a listener over, so both ends make sure that the other is run by the same user, or by root; root trusts the path.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};

/// Most bytes of a message: all that gossip knows of the largest mesh, as text.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Most sockets with one message.
const SOCKETS_MAX: usize = 16_384;
/// Sockets in one group; Linux takes 253.
const GROUP: usize = 64;

/// Where other processes of this user can connect.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens it, in place of one that is there.
    ///
    /// # Errors
    /// When the path is too long for a socket (108 bytes), or cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Bound beside its place and moved there, so that it is never open to others, nor missing.
        let mut partial = path.as_os_str().to_owned();
        partial.push(".new");
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&partial)?;
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&partial, path)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Waits for the next process that may connect. Others are turned away.
    pub async fn next(&self) -> Line {
        loop {
            let refused = match self.listener.accept().await {
                Ok((stream, _)) => match Line::new(stream) {
                    Ok(line) => return line,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(path = %self.path.display(), error = %refused, "connection refused");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Closes it and takes it away.
    pub fn remove(self) {
        // Somebody else's by now, or gone: neither is ours to complain about.
        _ = std::fs::remove_file(&self.path);
    }
}

/// A connection to another process of this user.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    peer: i32,
    /// The process at the other end itself, whose number may be another's after it; `None` where that cannot be had.
    process: Option<OwnedFd>,
}

impl Line {
    /// Connects to whoever has opened `path`; `None` when nobody has.
    ///
    /// # Errors
    /// When it is another user's, or cannot be reached.
    pub async fn connect(path: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path).await {
            Ok(stream) => Self::new(stream).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = sockopt::socket_peercred(&stream)?;
        let own = rustix::process::geteuid();
        if !own.is_root() && !peer.uid.is_root() && peer.uid != own {
            let who = format!("the other end is run by user {}", peer.uid.as_raw());
            return Err(io::Error::new(ErrorKind::PermissionDenied, who));
        }
        let process = pidfd_open(peer.pid, PidfdFlags::empty()).ok();
        Ok(Self { stream, peer: peer.pid.as_raw_pid(), process })
    }

    /// Returns the number of the process at the other end.
    pub fn peer(&self) -> i32 {
        self.peer
    }

    /// Ends the process at the other end at once; returns whether it was still there, and could be.
    pub fn end_peer(&self) -> bool {
        self.process.as_ref().is_some_and(|process| pidfd_send_signal(process, Signal::KILL).is_ok())
    }

    /// Sends a message with sockets, which stay open here.
    ///
    /// # Errors
    /// When the other end is gone, or it is too much for one message.
    pub async fn send<T: Serialize>(&mut self, message: &T, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MESSAGE_BYTES_MAX || sockets.len() > SOCKETS_MAX {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the message is too long"));
        }
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let count = u16::try_from(sockets.len()).map_err(io::Error::other)?;
        self.stream.write_all(&length.to_be_bytes()).await?;
        self.stream.write_all(&count.to_be_bytes()).await?;
        self.stream.write_all(&body).await?;
        for group in sockets.chunks(GROUP) {
            let send = || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GROUP))];
                let mut attached = SendAncillaryBuffer::new(&mut space);
                if !attached.push(SendAncillaryMessage::ScmRights(group)) {
                    return Err(ErrorKind::InvalidInput.into());
                }
                Ok(sendmsg(&self.stream, &[IoSlice::new(b"+")], &mut attached, SendFlags::NOSIGNAL)?)
            };
            self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// Receives a message with its sockets.
    ///
    /// # Errors
    /// When the other end is gone, or does not keep to the form.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        let length = self.stream.read_u32().await? as usize;
        let count = usize::from(self.stream.read_u16().await?);
        if length > MESSAGE_BYTES_MAX || count > SOCKETS_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the message is too long"));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let (got, group) = self.stream.async_io(Interest::READABLE, || group_of(&self.stream)).await?;
            if got == 0 || group.is_empty() {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "sockets are missing"));
            }
            sockets.extend(group);
        }
        Ok((serde_json::from_slice(&body)?, sockets))
    }
}

/// Receives one byte, and the sockets attached to it.
fn group_of(stream: &UnixStream) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GROUP))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let into = &mut [IoSliceMut::new(&mut byte)];
    let got = recvmsg(stream.as_fd(), into, &mut attached, RecvFlags::CMSG_CLOEXEC)?;
    let mut group = Vec::new();
    for message in attached.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            group.extend(sockets);
        }
    }
    Ok((got.bytes, group))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    use crate::net::handoff::{Door, GROUP, Line};

    #[tokio::test]
    async fn sockets_arrive_with_their_message_and_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        let door = Door::open(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let many = vec![listener.as_fd(); GROUP + 3];

        let mut there = Line::connect(&path).await.unwrap().unwrap();
        let mut here = door.next().await;
        let (sent, received) = tokio::join!(here.send(&"these", &many), there.receive::<String>());
        sent.unwrap();
        let (said, mut sockets) = received.unwrap();
        drop(listener);

        assert_eq!((said.as_str(), sockets.len()), ("these", GROUP + 3));
        let received = TcpListener::from(sockets.pop().unwrap());
        drop(sockets);
        let mut caller = TcpStream::connect(address).unwrap();
        caller.write_all(b"x").unwrap();
        let mut byte = [0];
        received.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(there.peer(), i32::try_from(std::process::id()).unwrap());
    }

    #[tokio::test]
    async fn the_door_is_for_its_owner_alone_and_a_new_one_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        let _first = Door::open(&path).unwrap();
        let second = Door::open(&path).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        let _line = Line::connect(&path).await.unwrap().unwrap();
        second.next().await;
        second.remove();

        assert_eq!(mode & 0o777, 0o600);
        assert!(Line::connect(&path).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_message_that_breaks_off_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        let door = Door::open(&path).unwrap();
        let mut there = Line::connect(&path).await.unwrap().unwrap();
        let mut here = door.next().await;

        here.send(&[1, 2, 3], &[]).await.unwrap();
        drop(here);

        assert_eq!(there.receive::<Vec<u8>>().await.unwrap().0, [1, 2, 3]);
        assert!(there.receive::<Vec<u8>>().await.is_err());
    }
}
