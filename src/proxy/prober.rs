//! Active health checks of the services on this host: one probe at a time each, as their `Service` objects ask.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::service_spec::{GrpcProbe, HealthCheck, HttpProbe};
use crate::net::task;

/// Largest answer to a probe that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// `SERVING` in `grpc.health.v1.HealthCheckResponse`.
const SERVING: u8 = 1;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection, or it broke off.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The answer is not HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The probe cannot be sent as it is written.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The service says that it is not well.
    #[error("{0}")]
    Answer(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Asks the service at `addr` once, as `check` says.
///
/// # Errors
/// When it does not answer as it should within the check's timeout: the probe failed.
pub(crate) async fn probe(addr: SocketAddr, check: &HealthCheck) -> Result<(), Error> {
    let limit = check.timeout();
    let asked = async {
        let stream = TcpStream::connect(addr).await?;
        match (&check.http, &check.grpc) {
            (Some(probe), _) => http(stream, addr, probe).await,
            (None, Some(probe)) => grpc(stream, addr, probe).await,
            (None, None) => Ok(()),
        }
    };
    timeout(limit, asked).await.map_err(|_| Error::Timeout(limit))?
}

async fn http(stream: TcpStream, addr: SocketAddr, probe: &HttpProbe) -> Result<(), Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    task::spawn("health-check", connection);
    let request = Request::get(&probe.path)
        .header(http::header::HOST, addr.to_string())
        .header(http::header::USER_AGENT, "mesh-health-check")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await?.status();
    let expected = match probe.expected_statuses.as_slice() {
        [] => status.is_success(),
        statuses => statuses.iter().any(|expected| expected.has(status.as_u16())),
    };
    if expected { Ok(()) } else { Err(Error::Answer(format!("it answered {status}"))) }
}

/// Follows the gRPC health checking protocol, version 1.
async fn grpc(stream: TcpStream, addr: SocketAddr, probe: &GrpcProbe) -> Result<(), Error> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    task::spawn("health-check", connection);
    let request = Request::post(format!("http://{addr}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(health_request(&probe.service)))?;
    let response = sender.send_request(request).await?;
    let in_head = status_of(response.headers());
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| Error::Answer(format!("its answer broke off: {error}")))?;
    let status = body.trailers().and_then(status_of).or(in_head);
    let message = body.to_bytes();
    match (status.as_deref(), serving(&message)) {
        (Some("0"), true) => Ok(()),
        (Some("0"), false) => Err(Error::Answer("it does not say SERVING".to_owned())),
        (status, _) => Err(Error::Answer(format!("grpc-status {}", status.unwrap_or("is missing")))),
    }
}

fn status_of(headers: &http::HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

/// Writes `HealthCheckRequest { service = 1: string }` as one uncompressed gRPC message.
fn health_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put(message);
    framed.freeze()
}

/// Reads `HealthCheckResponse { status = 1: enum }` out of the first message of a gRPC body.
fn serving(body: &[u8]) -> bool {
    body.get(5..).is_some_and(|message| matches!(message, [0x08, status, ..] if *status == SERVING))
}
