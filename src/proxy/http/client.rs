//! The HTTP connections of one worker: links to other proxies, and connections to local services.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as _;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use crate::identity::tls::Alpn;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::net::{dial, http as limits, task};
use crate::proxy::context::{CONNECT_TIME, Context};
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::body::Body;
use crate::proxy::upstream::endpoint::{Live, Target};
use crate::proxy::upstream::idle::{Idle, Lease};
use crate::proxy::upstream::mux::{Mux, Stream};

/// Host names remembered at most; then all are parsed anew.
const HOSTS_MAX: usize = 1_024;

/// The HTTP side of one worker.
pub(crate) struct Http {
    pub(crate) context: Rc<Context>,
    links: Rc<Mux<LinkKey, Body>>,
    idle: Rc<Idle<Body>>,
    apps: Rc<Mux<SocketAddr, Body>>,
    hosts: RefCell<HashMap<Box<[u8]>, Option<ServiceName>, foldhash::fast::RandomState>>,
}

/// Who speaks to which endpoint: links are never shared between identities.
#[derive(Clone)]
struct LinkKey {
    live: Arc<Live>,
    source: Arc<Subject>,
    addr: SocketAddr,
}

impl PartialEq for LinkKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
            && Arc::ptr_eq(&self.source, &other.source)
            && self.addr == other.addr
    }
}

impl Eq for LinkKey {}

impl Hash for LinkKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.live).hash(state);
        Arc::as_ptr(&self.source).hash(state);
    }
}

impl Http {
    /// Makes the HTTP side of a worker, without connections.
    pub(crate) fn new(context: Rc<Context>) -> Rc<Self> {
        let (links, idle, apps) = (Mux::new(), Idle::new(), Mux::new());
        Rc::new(Self { context, links, idle, apps, hosts: RefCell::default() })
    }

    /// Returns the service that a host names.
    pub(crate) fn service(&self, host: &[u8]) -> Option<ServiceName> {
        if let Some(known) = self.hosts.borrow().get(host) {
            return known.clone();
        }
        let service = std::str::from_utf8(host).ok().and_then(ServiceName::from_host);
        let mut hosts = self.hosts.borrow_mut();
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        hosts.insert(host.into(), service.clone());
        service
    }

    /// Finds room for one request on a link to an endpoint.
    ///
    /// # Errors
    /// When there is no connection, or no agreement on identities.
    pub(crate) async fn link(
        &self,
        source: &Arc<Subject>,
        service: &ServiceName,
        target: &Target,
    ) -> Result<Stream<Body>, Failed> {
        let live = target.live.clone();
        let key = LinkKey { live, source: source.clone(), addr: target.endpoint.addr };
        let dial = || {
            let (context, source) = (self.context.clone(), source.clone());
            let (service, endpoint) = (service.clone(), target.endpoint.clone());
            async move {
                let link = context.link(&source, &service, &endpoint, Alpn::Http).await?;
                handshake(link.stream).await
            }
        };
        self.links.stream(&key, dial).await
    }

    /// Finds room for one request on an HTTP/2 connection to a local service.
    ///
    /// # Errors
    /// When it refuses the connection.
    pub(crate) async fn app_stream(&self, addr: SocketAddr) -> Result<Stream<Body>, Failed> {
        self.apps.stream(&addr, || async move { handshake(connect(addr).await?).await }).await
    }

    /// Takes an HTTP/1 connection to a local service, an idle one if there is one and `reuse` allows it.
    ///
    /// # Errors
    /// When it refuses the connection.
    pub(crate) async fn app_lease(&self, addr: SocketAddr, reuse: bool) -> Result<Lease<Body>, Failed> {
        if let Some(lease) = reuse.then(|| self.idle.take(addr)).flatten() {
            return Ok(lease);
        }
        let io = TokioIo::new(connect(addr).await?);
        let (sender, connection) = limits::h1_client().handshake(io).await.map_err(|error| broken(&error))?;
        task::spawn_local("app", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a local service ended");
            }
        });
        Ok(self.idle.adopt(addr, sender))
    }

    /// Closes connections that nobody used for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        self.links.sweep(now);
        self.apps.sweep(now);
        self.idle.sweep(now);
        self.context.ledger.sweep();
    }
}

async fn connect(addr: SocketAddr) -> Result<tokio::net::TcpStream, Failed> {
    dial::connect(addr, CONNECT_TIME)
        .await
        .map_err(|error| Failed::new(Failure::Unreachable, format!("local service at {addr}: {error}")))
}

async fn handshake<S>(stream: S) -> Result<http2::SendRequest<Body>, Failed>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, connection) =
        limits::h2_client().handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    task::spawn_local("link", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "link ended");
        }
    });
    Ok(sender)
}

/// Tells what an error of hyper means for the request that met it.
pub(crate) fn broken(error: &hyper::Error) -> Failed {
    let mut cause = error.to_string();
    let mut failure = if error.is_parse() { Failure::BadResponse } else { Failure::Reset };
    let mut source = error.source();
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        if let Some(h2) = inner.downcast_ref::<h2::Error>()
            && h2.is_remote()
            && (h2.reason() == Some(h2::Reason::REFUSED_STREAM) || h2.is_go_away())
        {
            // The other side says that it has not looked at the request (RFC 9113 §8.7, §6.8).
            failure = Failure::NotHere;
        }
        source = inner.source();
    }
    Failed::new(failure, cause)
}
