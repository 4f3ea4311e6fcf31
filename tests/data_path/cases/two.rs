//! Callers and services that speak HTTP/2 by the `h2` crate: streams one by one, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;

use ::mesh::net::task;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::data_path::mesh::{loopback, within};

/// A caller.
#[derive(Clone)]
pub(crate) struct Two(SendRequest<Bytes>);

impl Two {
    pub(crate) async fn to(addr: SocketAddr) -> Self {
        Self::with(addr, &h2::client::Builder::new()).await
    }

    /// Waits for the settings of the other side, which may allow upgrades.
    pub(crate) async fn ready(addr: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(addr)).await.unwrap();
        let (sender, mut connection) = within(h2::client::handshake(stream)).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        task::spawn("test", async move { _ = connection.await });
        within(pings.ping(h2::Ping::opaque())).await.unwrap();
        Self(sender)
    }

    pub(crate) async fn with(addr: SocketAddr, builder: &h2::client::Builder) -> Self {
        let stream = within(TcpStream::connect(addr)).await.unwrap();
        let (sender, connection) = within(builder.handshake(stream)).await.unwrap();
        task::spawn("test", async move { _ = connection.await });
        Self(sender)
    }

    /// Begins a request whose body follows.
    pub(crate) async fn open(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = within(self.0.clone().ready()).await.unwrap();
        ready.send_request(request, false).unwrap()
    }

    /// Sends a request without a body.
    pub(crate) async fn get(&mut self, request: Request<()>) -> ResponseFuture {
        let mut ready = within(self.0.clone().ready()).await.unwrap();
        ready.send_request(request, true).unwrap().0
    }
}

/// Makes a request to `web`.
pub(crate) fn wanted(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://web{path}")).body(()).unwrap()
}

/// A body and its trailers, or what it broke off with.
pub(crate) async fn whole(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), Option<Reason>> {
    let mut all = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data.map_err(|error| error.reason())?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    let trailers = within(body.trailers()).await.map_err(|error| error.reason())?;
    Ok((all, trailers.unwrap_or_default()))
}

/// A request as a service gets it.
pub(crate) type Called = (Request<RecvStream>, SendResponse<Bytes>);

/// A service whose requests a test answers itself.
pub(crate) struct Service2 {
    pub(crate) addr: SocketAddr,
    calls: mpsc::UnboundedReceiver<Called>,
    connections: mpsc::UnboundedReceiver<()>,
    leave: Arc<Notify>,
}

impl Service2 {
    pub(crate) async fn start() -> Self {
        Self::with(h2::server::Builder::new()).await
    }

    pub(crate) async fn with(builder: h2::server::Builder) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (calling, calls) = mpsc::unbounded_channel();
        let (connecting, connections) = mpsc::unbounded_channel();
        let leave = Arc::new(Notify::new());
        let leaving = leave.clone();
        task::spawn("test", async move {
            while let Ok((stream, _)) = listener.accept().await {
                _ = connecting.send(());
                let (calling, leaving, builder) = (calling.clone(), leaving.clone(), builder.clone());
                task::spawn("test", async move {
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
                    loop {
                        let accepted = tokio::select! {
                            accepted = connection.accept() => accepted,
                            () = leaving.notified() => {
                                connection.graceful_shutdown();
                                continue;
                            }
                        };
                        let Some(Ok(call)) = accepted else { return };
                        _ = calling.send(call);
                    }
                });
            }
        });
        Self { addr, calls, connections, leave }
    }

    /// Waits for the next request.
    pub(crate) async fn call(&mut self) -> Called {
        within(self.calls.recv()).await.unwrap()
    }

    /// Waits for the next request, however long it takes.
    pub(crate) async fn call_late(&mut self) -> Option<Called> {
        self.calls.recv().await
    }

    /// Says GOAWAY on its connection.
    pub(crate) fn leave(&self) {
        self.leave.notify_waiters();
    }

    /// Returns how many connections were made to it.
    pub(crate) fn connections(&mut self) -> usize {
        std::iter::from_fn(|| self.connections.try_recv().ok()).count()
    }
}

/// Answers without a body.
pub(crate) fn answer(respond: &mut SendResponse<Bytes>, status: u16) {
    respond.send_response(Response::builder().status(status).body(()).unwrap(), true).unwrap();
}
