//! Applications that call through their proxy.

use std::net::SocketAddr;

use ::mesh::net::task;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::cases::service::Speaks;
use crate::data_path::mesh::within;

/// A response, complete.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Got {
    let (parts, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Got { status: parts.status, headers: parts.headers, body: body.to_bytes(), trailers }
}

/// Opens an HTTP/1 connection.
pub(crate) async fn h1(addr: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    task::spawn("test", connection.with_upgrades());
    sender
}

/// Opens an HTTP/2 connection.
pub(crate) async fn h2(addr: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_connection_window_size((1 << 31) - 1)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    task::spawn("test", connection);
    sender
}

pub(crate) fn request(method: &str, host: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).header("host", host).body(Full::new(body.into())).unwrap()
}

/// Calls by HTTP/1, on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, host: &str, path: &str) -> Got {
    let mut sender = h1(addr).await;
    let response = within(sender.send_request(request("GET", host, path, Bytes::new()))).await.unwrap();
    read(response).await
}

/// Calls by either version, on a connection of its own.
pub(crate) async fn get_by(speaks: Speaks, addr: SocketAddr, host: &str, path: &str) -> Got {
    read(within(begin(speaks, addr, request("GET", host, path, Bytes::new()))).await).await
}

/// Sends a request by either version, on a connection of its own.
pub(crate) async fn begin(
    speaks: Speaks,
    addr: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Response<Incoming> {
    match speaks {
        Speaks::One => h1(addr).await.send_request(request).await.unwrap(),
        Speaks::Two => {
            name_all(&mut request);
            h2(addr).await.send_request(request).await.unwrap()
        }
    }
}

/// Puts into a request's target what HTTP/2 wants to know.
pub(crate) fn name_all(request: &mut Request<Full<Bytes>>) {
    let host = request.headers_mut().remove("host").unwrap();
    *request.uri_mut() = format!("http://{}{}", host.to_str().unwrap(), request.uri()).parse().unwrap();
}

/// Sends bytes as they are, and returns all that comes back.
pub(crate) async fn say(addr: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    within(stream.read_to_end(&mut heard)).await.unwrap();
    String::from_utf8(heard).unwrap()
}
