//! Connecting to an address, within a time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::listen::tune;

/// Opens a connection.
///
/// # Errors
/// When it is refused, or not open within `limit` ([`io::ErrorKind::TimedOut`]).
pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = match timeout(limit, TcpStream::connect(addr)).await {
        Ok(connected) => connected?,
        Err(_) => {
            let text = format!("no answer from {addr} within {} ms", limit.as_millis());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    };
    tune(&stream);
    Ok(stream)
}
