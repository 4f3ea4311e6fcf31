//! The way to a control plane: the first address that takes a connection, TLS, HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::identity::tls::ApiConnector;
use crate::net::{resolve, task};

/// A control plane that does not take the connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a connection to the first address of `host:port` that takes one.
pub(crate) async fn open(place: &str) -> Result<TcpStream, String> {
    let mut last = "it has no address".to_owned();
    for address in resolve::addresses(place).await.map_err(|error| error.to_string())? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no connection within {CONNECT_TIMEOUT:?}"),
        }
    }
    Err(last)
}

/// Why a control plane was not reached.
pub(crate) enum NoLink {
    /// It proved to be somebody else.
    Distrust(String),
    /// Anything else.
    Other(String),
}

/// Connects to one control plane.
pub(crate) async fn dial(
    control: &str,
    connector: &ApiConnector,
) -> Result<http2::SendRequest<Full<Bytes>>, NoLink> {
    let other = NoLink::Other;
    let host =
        resolve::split(control).map(|(host, _)| host).ok_or_else(|| other("not HOST:PORT".to_owned()))?;
    let stream = open(control).await.map_err(other)?;
    let stream = connector.connect(host, stream).await.map_err(|error| {
        if error.is_distrust() { NoLink::Distrust(error.to_string()) } else { other(error.to_string()) }
    })?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| other(error.to_string()))?;
    task::spawn("api-connection", connection);
    Ok(sender)
}
