//! The demo's services: a small shop that calls itself through the mesh, with the faults that a real one has.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get as on_get;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::net::task;

/// How long one service waits for another.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Largest body that is read from a neighbour.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Connections that the ledger serves at once.
const LEDGER_CONNECTIONS_MAX: usize = 64;

/// Sends `GET path` for `host` to `to` over a connection of its own; returns the status once the body has been read.
pub(crate) async fn get(to: SocketAddr, host: &str, path: &str) -> anyhow::Result<u16> {
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    task::spawn("demo-call", connection);
    let request = hyper::Request::get(path).header("host", host).body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), BODY_BYTES_MAX);
    body.collect().await.map_err(|error| anyhow::anyhow!("the body broke off: {error}"))?;
    Ok(status)
}

/// One instance of a service of the shop.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// How long its own work takes, at least.
    pub(crate) work: Duration,
    /// One call in so many fails; 0 for none.
    pub(crate) fails_one_in: u32,
    /// The services it calls, in order.
    pub(crate) calls: Vec<&'static str>,
    /// Where its host's proxy takes requests.
    pub(crate) outbound: SocketAddr,
    /// The local port of the ledger, if it keeps one.
    pub(crate) ledger: Option<SocketAddr>,
}

/// Serves an instance on `listener` until the process ends.
pub(crate) fn serve(listener: TcpListener, instance: Instance) {
    let router = Router::new().fallback(on_get(answer)).with_state(instance);
    task::spawn("demo-service", async move { axum::serve(listener, router).await });
}

/// Works, calls the others, and fails as often as it should.
async fn answer(State(instance): State<Instance>) -> (StatusCode, &'static str) {
    let (spread, unlucky) = {
        let mut rng = rand::rng();
        (rng.random_range(0.5..2.0), instance.fails_one_in > 0 && rng.random_ratio(1, instance.fails_one_in))
    };
    tokio::time::sleep(instance.work.mul_f64(spread)).await;
    if unlucky {
        return (StatusCode::INTERNAL_SERVER_ERROR, "out of luck\n");
    }
    for service in &instance.calls {
        match tokio::time::timeout(CALL_MAX, get(instance.outbound, service, "/")).await {
            Ok(Ok(status)) if status < 500 => {}
            Ok(Ok(_) | Err(_)) | Err(_) => {
                return (StatusCode::BAD_GATEWAY, "a service behind this one failed\n");
            }
        }
    }
    if let Some(ledger) = instance.ledger
        && !matches!(tokio::time::timeout(CALL_MAX, book(ledger)).await, Ok(Ok(())))
    {
        return (StatusCode::BAD_GATEWAY, "the ledger did not answer\n");
    }
    (StatusCode::OK, "ok\n")
}

/// Books one entry: reads the ledger's greeting, sends a line, waits for the receipt.
async fn book(ledger: SocketAddr) -> anyhow::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(ledger).await?);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    stream.write_all(b"book\n").await?;
    line.clear();
    stream.read_line(&mut line).await?;
    anyhow::ensure!(line == "booked\n", "unexpected receipt");
    Ok(())
}

/// Serves the ledger: plain TCP where the server speaks first.
pub(crate) fn serve_ledger(listener: TcpListener) {
    let slots = std::sync::Arc::new(Semaphore::new(LEDGER_CONNECTIONS_MAX));
    task::spawn("demo-ledger", async move {
        while let (Ok(slot), Ok((stream, _))) = (slots.clone().acquire_owned().await, listener.accept().await)
        {
            task::spawn("demo-ledger-connection", async move {
                // A caller that goes away in the middle is no event.
                let _ = tokio::time::timeout(CALL_MAX, keep_books(stream)).await;
                drop(slot);
            });
        }
    });
}

async fn keep_books(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"ledger ready\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    stream.write_all(b"booked\n").await?;
    stream.shutdown().await
}
