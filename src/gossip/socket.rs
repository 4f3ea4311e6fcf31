//! Sockets of gossip: UDP for packets and, on the same port, TCP for exchanges of everything, sealed frame by frame.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::gossip::seal::{Frames, GREETING_BYTES, Refused, Streams};

/// Most bytes of one message of an exchange.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Longest time an exchange takes, dialling included.
pub const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Most bytes of one frame: no more is read before it is known that a member sent it.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Marks a frame that another one of the same message follows.
const MORE: u32 = 1 << 31;
/// How often another free port is tried when TCP has one that UDP has not.
const BIND_TRIES: usize = 16;
const BUFFER_BYTES: usize = 1 << 20;

/// Why an exchange failed. Whatever was learned before stays; it is tried again with someone else.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection could not be made or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end is not a member of this mesh, or speaks another version.
    #[error("the other end {0}")]
    Refused(#[from] Refused),
    /// A message exceeds [`MESSAGE_BYTES_MAX`].
    #[error("the message is too long")]
    TooLong,
    /// A message does not say what it should.
    #[error("{0}")]
    Wire(#[from] crate::logic::gossip::wire::Error),
    /// It, or a step of it, took longer than allowed.
    #[error("it took too long")]
    Late,
}

/// Binds UDP and TCP on the first of the `ports` ports from `first` on that is free for both, as the processes of one host
/// share them out.
///
/// # Errors
/// When none is free, or the address is not this host's.
pub fn bind_from(first: SocketAddr, ports: u16) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let mut taken = io::ErrorKind::AddrInUse.into();
    for port in first.port()..=first.port().saturating_add(ports.saturating_sub(1)) {
        match bind(SocketAddr::new(first.ip(), port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            outcome => return outcome,
        }
    }
    Err(taken)
}

/// Binds UDP and TCP on one port; port 0 takes one that is free for both.
///
/// # Errors
/// When it is taken, or the address is not this host's.
pub fn bind(addr: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let mut last = None;
    for _ in 0..BIND_TRIES {
        let listener = bind_tcp(addr)?;
        match bind_udp(listener.local_addr()?) {
            Ok(socket) => return Ok((socket, listener)),
            Err(error) if addr.port() == 0 => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn bind_tcp(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_udp(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::DGRAM, None)?;
    // Room for the packets of a large mesh while the thread does something else; the system may grant less.
    let _less = socket.set_recv_buffer_size(BUFFER_BYTES);
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Both sockets, on the runtime of the thread that calls this.
pub fn adopt(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?))
}

/// One connection of an exchange.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    halves: Option<Streams>,
}

impl Channel {
    /// Begins on a connection made or accepted.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, halves: None }
    }

    /// Sends this side's greeting.
    pub async fn greet(&mut self, greeting: &[u8; GREETING_BYTES]) -> Result<(), Error> {
        self.stream.write_all(greeting).await?;
        Ok(())
    }

    /// Receives the other side's greeting.
    pub async fn greeted(&mut self) -> Result<[u8; GREETING_BYTES], Error> {
        let mut greeting = [0; GREETING_BYTES];
        self.stream.read_exact(&mut greeting).await?;
        Ok(greeting)
    }

    /// Takes the keys that both greetings make.
    pub fn secure(&mut self, halves: Streams) {
        self.halves = Some(halves);
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let halves = self.halves.as_mut().ok_or(Refused::Malformed)?;
        let mut chunks = message.chunks(FRAME_BYTES_MAX).peekable();
        while let Some(chunk) = chunks.next() {
            let more = if chunks.peek().is_some() { MORE } else { 0 };
            let head = (chunk.len() as u32 | more).to_be_bytes();
            let mut body = chunk.to_vec();
            halves.send.seal(head, &mut body)?;
            self.stream.write_all(&head).await?;
            self.stream.write_all(&body).await?;
        }
        Ok(())
    }

    /// Waits until the other side has read all that was sent and says no more; returns whether it came to that.
    pub async fn ended(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0))
    }

    /// Receives a message: never holds more than what members sent, plus one frame.
    pub async fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let halves = self.halves.as_mut().ok_or(Refused::Malformed)?;
        let mut message = Vec::new();
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).await?;
            let length = u32::from_be_bytes(head);
            let (more, length) = (length & MORE != 0, (length & !MORE) as usize);
            if length > FRAME_BYTES_MAX || message.len() + length > MESSAGE_BYTES_MAX {
                return Err(Error::TooLong);
            }
            let mut body = vec![0; length + Frames::TAG_BYTES];
            self.stream.read_exact(&mut body).await?;
            message.extend_from_slice(halves.receive.open(head, &mut body)?);
            if !more {
                return Ok(message);
            }
        }
    }
}
