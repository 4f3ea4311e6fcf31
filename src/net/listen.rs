//! Listening sockets: several workers share one address, and each takes no more connections than it can hold.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections of one listener of one worker; further ones wait in the kernel's queue. Idle, they are 24 MiB.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Connections that the kernel holds for us until they are accepted: as many as Linux allows by default (net.core.somaxconn).
const BACKLOG: i32 = 4_096;
/// How long to wait when the process has no descriptor or memory left for one more connection: to ask again at once would
/// take a core, and those under way need it to end.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(50);
/// After so long without a word, the kernel asks the other side whether it is still there, six times.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// Binds `count` listeners to one address, between which the kernel spreads connections (`SO_REUSEPORT`). With port 0 the
/// first takes a free one, and the others follow.
///
/// # Errors
/// When the address is not ours or is taken, also by a process that would share it: nothing is bound.
pub fn bind_shared(addr: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if addr.port() != 0 {
        // Sharing is meant for our own workers: whoever else holds the port makes this one fail.
        drop(bind(addr, false)?);
    }
    let first = bind(addr, true)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(bind(addr, true)?);
    }
    Ok(listeners)
}

/// Returns one of the listeners that another process had, if they are where this one is to listen; else a new one.
///
/// # Errors
/// When the address is taken, or not ours.
pub fn bind_or_keep(
    addr: SocketAddr,
    kept: Option<Vec<std::net::TcpListener>>,
) -> io::Result<std::net::TcpListener> {
    match kept.into_iter().flatten().find(|kept| is_meant(addr, kept)) {
        Some(kept) => Ok(kept),
        None => bind(addr, false),
    }
}

/// Returns whether a listener that another process had is where this one is to listen.
pub fn is_meant(addr: SocketAddr, kept: &std::net::TcpListener) -> bool {
    kept.local_addr().is_ok_and(|bound| bound == addr || addr.port() == 0 && bound.ip() == addr.ip())
}

/// Shares listeners that another process had out between `count` workers, whatever the number of its own. Each is kept: who
/// waits in its queue would be lost with it. Where there are fewer than workers, several accept from one; a new listener
/// would begin to fill at once, though this process may not come to serve.
///
/// # Errors
/// When the process has no descriptor left, or there is no listener.
pub fn share(
    listeners: Vec<std::net::TcpListener>,
    count: usize,
) -> io::Result<Vec<Vec<std::net::TcpListener>>> {
    let mut shares: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    for index in listeners.len()..count {
        let other = listeners.get(index % listeners.len().max(1)).ok_or(io::ErrorKind::NotFound)?;
        shares.get_mut(index).ok_or(io::ErrorKind::NotFound)?.push(other.try_clone()?);
    }
    for (index, listener) in listeners.into_iter().enumerate() {
        listener.set_nonblocking(true)?;
        shares.get_mut(index % count.max(1)).ok_or(io::ErrorKind::NotFound)?.push(listener);
    }
    Ok(shares)
}

fn bind(addr: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it, which saves them five calls each.
    tune(&socket);
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One worker's share of a listening address.
#[derive(Debug)]
pub struct Listener {
    inner: AsyncFd<std::net::TcpListener>,
    room: Rc<Room>,
}

/// What limits a listener; kept alive by its connections.
#[derive(Debug)]
struct Room(std::sync::Arc<Semaphore>);

/// A place among the connections of a listener, given back when dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Listener {
    /// Takes a bound socket into the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let room = Rc::new(Room(std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX))));
        #[expect(
            deprecated,
            reason = "its successor is unsafe, as not every descriptor is as lasting as a listener's"
        )]
        let inner = AsyncFd::with_interest(listener, Interest::READABLE)?;
        Ok(Self { inner, room })
    }

    /// Waits for the next connection. Never fails: what is wrong with one connection does not concern the next, and a
    /// process without descriptors waits for some to be closed. The connection does not block, and is not watched yet.
    pub async fn accept(&self) -> (std::net::TcpStream, SocketAddr, Place) {
        let permit = match self.room.0.clone().acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        };
        loop {
            match self.inner.async_io(Interest::READABLE, accept).await {
                Ok((stream, from)) => {
                    return (stream, from, Place(permit));
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "connection lost before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(EXHAUSTED_WAIT).await;
                }
            }
        }
    }
}

fn accept(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let (stream, from) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let from =
        from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((stream.into(), from))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Makes a connection, or those that a listener will accept, send at once what they are given, and notice when the other
/// side is gone.
pub fn tune<'s>(socket: impl Into<SockRef<'s>>) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = socket.into();
    // A socket that refuses an option was just closed by the other side; whoever reads from it will know.
    _ = socket.set_tcp_nodelay(true);
    _ = socket.set_tcp_keepalive(&keepalive);
}

/// Makes a connection fail when what was sent on it is not acknowledged for `limit`: the other host is gone, and says so
/// to nobody. Not for connections whose reader may stop reading.
pub fn fail_unacknowledged(stream: &TcpStream, limit: Duration) {
    _ = SockRef::from(stream).set_tcp_user_timeout(Some(limit));
}

/// Returns where a connection was meant to go before rules of the kernel sent it to `local`; `None` when it was meant to
/// come.
pub fn original_destination(stream: &impl AsFd, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    original.ok().and_then(|addr| addr.as_socket())
}

/// Makes the coming close of a connection a reset, so that the other side does not take a failure for a regular end.
pub fn reset_on_close(stream: &impl AsFd) {
    _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
