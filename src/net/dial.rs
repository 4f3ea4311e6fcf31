//! Connecting to an address, within a time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::net::listen::tune;
use crate::net::mark;

/// Opens a connection.
///
/// # Errors
/// When it is refused, or not open within `limit` ([`io::ErrorKind::TimedOut`]).
pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    mark::apply(&socket)?;
    let connected = timeout(limit, socket.connect(addr)).await.map_err(|_| {
        let text = format!("no answer from {addr} within {} ms", limit.as_millis());
        io::Error::new(io::ErrorKind::TimedOut, text)
    });
    let stream = connected??;
    tune(&stream);
    Ok(stream)
}
