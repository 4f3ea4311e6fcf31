//! The listeners: TLS for the mesh, a unix socket for administrators, plain HTTP for health.
//!
//! Bounded everywhere: connections in number, handshakes, heads and bodies in time and size, HTTP/2 in streams. A peer
//! that is gone without a word is noticed by pings (HTTP/2) or by unacknowledged data (TCP).

use std::convert::Infallible;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service as _;

use crate::control::authority;
use crate::control::enrollment::Holder;
use crate::control::http::access::{Caller, Certificate};
use crate::identity::tls::{ApiAcceptor, ApiPeer};
use crate::net::task;

/// Connections of the mesh: a few for each of some thousand proxies.
const MESH_CONNECTIONS_MAX: u32 = 16_384;
/// Connections to the unix socket and to the health address, each.
const LOCAL_CONNECTIONS_MAX: u32 = 256;
/// A head that has not arrived by then, or a connection idle for so long, is given up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head, bytes.
const HEAD_MAX: usize = 64 << 10;
const STREAMS_MAX: u32 = 64;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Data that stays unacknowledged for so long ends a TCP connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// Requests under way get so long when the control plane stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after a failed accept: the usual reason, too many descriptors, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener serves, and until when.
#[derive(Clone)]
pub struct Site {
    router: Router,
    slots: Arc<Semaphore>,
    slots_max: u32,
    closing: watch::Receiver<bool>,
}

impl Site {
    /// Makes a site for the connections of the mesh.
    pub fn mesh(router: Router, closing: watch::Receiver<bool>) -> Self {
        Self::new(router, closing, MESH_CONNECTIONS_MAX)
    }

    /// Makes a site for connections from this host.
    pub fn local(router: Router, closing: watch::Receiver<bool>) -> Self {
        Self::new(router, closing, LOCAL_CONNECTIONS_MAX)
    }

    fn new(router: Router, closing: watch::Receiver<bool>, slots_max: u32) -> Self {
        Self { router, slots: Arc::new(Semaphore::new(slots_max as usize)), slots_max, closing }
    }

    /// Waits until no connection is left.
    pub async fn drained(&self) {
        let _all = self.slots.acquire_many(self.slots_max).await;
    }

    /// Waits for room, then for `accept`; `None` when the site closes.
    async fn next<T>(
        &self,
        mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Option<(T, OwnedSemaphorePermit)> {
        let mut closing = self.closing.clone();
        loop {
            let accepted = async {
                let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((poll_fn(&mut accept).await?, slot))
            };
            tokio::select! {
                () = closed(&mut closing) => return None,
                accepted = accepted => match accepted {
                    Ok(accepted) => return Some(accepted),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Serves one connection to its end.
    async fn connection<I>(self, io: I, caller: Caller, http2: bool)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, mut closing, .. } = self;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller.clone());
            let mut router = router.clone();
            async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
        });
        let io = TokioIo::new(io);
        let ended = if http2 {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEAD_MAX as u32)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = closed(&mut closing) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
                }
            }
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_MAX)
                .half_close(true);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = closed(&mut closing) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "api connection ended");
        }
    }
}

/// Waits until the control plane stops.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _told = closing.wait_for(|closing| *closing).await;
}

/// Serves plain HTTP until the site closes.
pub async fn plain(listener: TcpListener, site: Site) {
    while let Some(((stream, _), slot)) = site.next(|context| listener.poll_accept(context)).await {
        bound(&stream);
        let connection = site.clone().connection(stream, Caller::Nobody, false);
        task::spawn("control-admin", async move {
            connection.await;
            drop(slot);
        });
    }
}

/// Serves the mesh by TLS until the site closes.
pub async fn mesh(listener: TcpListener, site: Site, acceptor: Arc<ApiAcceptor>) {
    while let Some(((stream, _), slot)) = site.next(|context| listener.poll_accept(context)).await {
        bound(&stream);
        let (site, acceptor) = (site.clone(), Arc::clone(&acceptor));
        task::spawn("control-api-connection", async move {
            match acceptor.accept(stream).await {
                Ok((stream, peer)) => {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    site.connection(stream, peer.map_or(Caller::Nobody, mesh_caller), http2).await;
                }
                Err(error) => tracing::debug!(%error, "api handshake failed"),
            }
            drop(slot);
        });
    }
}

fn mesh_caller(peer: ApiPeer) -> Caller {
    let holder = Holder {
        subject: peer.id.subject,
        node: peer.node,
        key: peer.key,
        issued_ms: authority::issued_ms(peer.not_before_ms),
    };
    Caller::Certificate(Certificate { holder, not_after_ms: peer.not_after_ms })
}

/// Makes the socket of administrators, in place of one that an earlier process left behind.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves administrators until the site closes.
pub async fn socket(listener: UnixListener, site: Site) {
    while let Some(((stream, _), slot)) = site.next(|context| listener.poll_accept(context)).await {
        let caller = local_caller(&stream);
        let connection = site.clone().connection(stream, caller, false);
        task::spawn("control-socket", async move {
            connection.await;
            drop(slot);
        });
    }
}

/// Root, and whoever runs this process, are administrators; the kernel says who is at the other end (unix(7)).
fn local_caller(stream: &UnixStream) -> Caller {
    let owner = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == owner => Caller::Local,
        Ok(_) | Err(_) => Caller::Nobody,
    }
}

/// Notices peers that are gone without a word.
fn bound(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let bounded = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)))
        .and_then(|()| socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(UNACKNOWLEDGED_MAX)));
    if let Err(error) = bounded {
        tracing::debug!(%error, "cannot set socket options");
    }
}
