//! The HTTP connections of one worker: links to other proxies, and connections to local services.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout;

use crate::model::name::ServiceName;
use crate::model::view::EdgeProtocol;
use crate::net::{clock, dial, task};
use crate::proxy::context::Context;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::observe::Observation;
use crate::proxy::http::stall::{Stalls, Turn};
use crate::proxy::link::{Limits, Link};
use crate::proxy::links::CONNECT_TIME;
use crate::proxy::peer::At;
use crate::proxy::stream::reader::Reader;
use crate::proxy::stream::writer::Writer;
use crate::proxy::upstream::idle::Idle;
use crate::proxy::upstream::mux::Mux;

/// Host names remembered at most; then all are parsed anew.
const HOSTS_MAX: usize = 1_024;

/// The connections of one worker, and what it remembers.
pub(crate) struct Http {
    pub(crate) context: Rc<Context>,
    /// Copies of requests under way.
    pub(crate) copies: Rc<Cell<usize>>,
    stalls: Stalls,
    idle: Idle<App>,
    apps: Rc<Mux<SocketAddr, Link>>,
    hosts: RefCell<HashMap<Box<str>, Option<ServiceName>, foldhash::fast::RandomState>>,
}

/// A connection to a local service that speaks HTTP/1.
pub(crate) struct App {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    /// Whether it carried something before.
    pub(crate) reused: bool,
}

/// A connection to a local service that had carried something before, and ended instead of an answer.
pub(crate) struct Lost {
    /// Whether anything was written to it.
    pub(crate) wrote: bool,
}

impl Http {
    /// Makes the connections of a worker: none yet.
    pub(crate) fn new(context: Rc<Context>) -> Rc<Self> {
        Rc::new(Self {
            copies: Rc::default(),
            stalls: Stalls::new(context.patience),
            context,
            idle: Idle::new(),
            apps: Mux::new(),
            hosts: RefCell::default(),
        })
    }

    /// Returns the service that a `host[:port]` names.
    pub(crate) fn service(&self, host: &str) -> Option<ServiceName> {
        if let Some(known) = self.hosts.borrow().get(host) {
            return known.clone();
        }
        let service = ServiceName::from_host(host);
        let mut hosts = self.hosts.borrow_mut();
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        hosts.insert(host.into(), service.clone());
        service
    }

    /// Takes an HTTP/1 connection to a local service, an idle one if there is one and `reuse` allows it.
    ///
    /// # Errors
    /// When it refuses the connection.
    pub(crate) async fn app(&self, addr: SocketAddr, reuse: bool) -> Result<App, Failed> {
        let idle = reuse.then(|| self.idle.take(addr, clock::now(), |app: &App| app.reader.is_quiet()));
        if let Some(app) = idle.flatten() {
            return Ok(app);
        }
        let socket = Rc::new(RefCell::new(connect(addr).await?.into()));
        let reader = Reader::new(socket.clone(), BytesMut::new());
        Ok(App { reader, writer: Writer::new(socket), reused: false })
    }

    /// Keeps a connection whose exchange is complete for the next one.
    pub(crate) fn keep(&self, addr: SocketAddr, mut app: App) {
        app.reused = true;
        app.writer.take_wrote();
        app.reader.release();
        self.idle.put(addr, clock::now(), app);
    }

    /// Finds an HTTP/2 connection to a local service with room for a request, which must be sent at once; and says whether
    /// it was there before.
    ///
    /// # Errors
    /// When it refuses the connection.
    pub(crate) async fn app2(&self, addr: SocketAddr) -> Result<(Link, bool), Failed> {
        let mut reused = true;
        let dial = || {
            reused = false;
            handshake(addr)
        };
        let link = self.apps.connection(&addr, dial).await?;
        Ok((link, reused))
    }

    /// Enters a call of a local caller among those that are given up when nothing moves for `limit`.
    pub(crate) fn turn(
        &self,
        at: At<'_>,
        observation: &Rc<Observation>,
        (since, limit): (Instant, Option<Duration>),
    ) -> Option<Turn<'_>> {
        matches!(at, At::Outbound).then(|| self.stalls.enter(observation, since, limit))
    }

    /// Returns how long is too long for a call of which no policy says so; gRPC's may be silent for ever.
    pub(crate) fn patience(&self, protocol: EdgeProtocol) -> Option<Duration> {
        (protocol != EdgeProtocol::Grpc).then_some(self.context.patience.stall)
    }

    /// Closes connections that nobody used for a while, and gives up calls in which nothing moves.
    pub(crate) fn sweep(&self, now: Instant) {
        self.apps.sweep(now);
        self.idle.sweep(now);
        self.stalls.sweep(now);
        self.context.sweep(now);
    }
}

impl App {
    /// Returns what is known of it when this failure means that it was lost, and it had carried something before.
    pub(crate) fn lost(&mut self, failed: &Failed) -> Option<Lost> {
        let lost = self.reused && failed.failure == Failure::Reset;
        lost.then(|| Lost { wrote: self.writer.take_wrote() })
    }

    /// Returns whether both directions have ended in good order, so that another request can follow.
    pub(crate) fn is_reusable(&self) -> bool {
        self.reader.is_over()
            && !self.reader.has_more()
            && !self.reader.is_ended()
            && self.writer.is_complete()
    }
}

async fn connect(addr: SocketAddr) -> Result<tokio::net::TcpStream, Failed> {
    dial::connect(addr, CONNECT_TIME)
        .await
        .map_err(|error| Failed::new(Failure::Unreachable, format!("local service at {addr}: {error}")))
}

/// Makes a connection of HTTP/2. Its settings come before its answers: whether it takes upgrades is known then, and that it
/// speaks HTTP/2 at all.
async fn handshake(addr: SocketAddr) -> Result<Link, Failed> {
    let (link, driver) = Link::dial_http2(connect(addr).await?, Limits::DIALLED);
    task::spawn_local("app", async {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "connection to a local service ended");
        }
    });
    let settled = timeout(CONNECT_TIME, link.settled()).await;
    settled.map_err(|_| Failed::new(Failure::Unreachable, format!("local service at {addr} is silent")))?;
    if !link.handle().has_settled() {
        return Err(Failed::new(Failure::Reset, format!("local service at {addr} does not speak HTTP/2")));
    }
    Ok(link)
}
