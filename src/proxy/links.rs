//! The links of one worker: which there are, and how one is made.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::time::timeout;

use crate::identity::tls::{Connector, Error};
use crate::model::endpoint::Endpoint;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::net::{dial, listen, task};
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::lapses::Lapses;
use crate::proxy::link::{self, Limits, Link};
use crate::proxy::upstream::endpoint::{Live, Target};
use crate::proxy::upstream::mux::{Carrier, Mux};

/// To open a TCP connection to a local service; to another host, where no policy says how long (Linkerd's default): a host
/// that is there answers within milliseconds, and another endpoint can still be asked.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(1);
/// To finish the TLS handshake on an open TCP connection: what is left of [`LINK_TIME`], as a host that has too much to do may
/// take seconds for one.
const HANDSHAKE_TIME: Duration = Duration::from_secs(4);
/// To open a TCP connection and finish the TLS handshake on it: no caller waits longer for a first byte.
pub(crate) const LINK_TIME: Duration = Duration::from_secs(5);
/// A link on which nothing is acknowledged for so long is given up: its host is gone.
const SILENCE: Duration = Duration::from_secs(5);

/// The links of one worker.
pub(crate) struct Links {
    connector: Rc<Connector>,
    open: Rc<Mux<Key, Link>>,
    /// Looks after the certificates of the peers, of links that others have made too.
    pub(crate) lapses: Rc<Lapses>,
    /// Whether TCP connections share links.
    reuse: bool,
}

/// Who speaks to which endpoint: links are never shared between identities.
#[derive(Clone)]
struct Key {
    live: Arc<Live>,
    source: Arc<Subject>,
    addr: SocketAddr,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
            && Arc::ptr_eq(&self.source, &other.source)
            && self.addr == other.addr
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.live).hash(state);
        Arc::as_ptr(&self.source).hash(state);
    }
}

impl Carrier for Link {
    fn is_open(&self) -> bool {
        Self::is_open(self)
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }

    fn is_idle(&self) -> bool {
        self.streams() == 0
    }
}

impl Links {
    /// Makes the links of a worker: none yet. Without `reuse`, each TCP connection gets a link of its own.
    pub(crate) fn new(connector: Connector, reuse: bool) -> Self {
        Self { connector: Rc::new(connector), open: Mux::new(), lapses: Rc::default(), reuse }
    }

    /// Finds a link to an endpoint with room for a stream, which must be opened at once. `connect` is how long a new TCP
    /// connection may take.
    ///
    /// # Errors
    /// When there is no connection, or no agreement on identities.
    pub(crate) async fn find(
        &self,
        source: &Arc<Subject>,
        service: &ServiceName,
        target: &Target,
        connect: Duration,
    ) -> Result<Link, Failed> {
        let key = Key { live: target.live.clone(), source: source.clone(), addr: target.endpoint.addr };
        let dial = || {
            let (connector, lapses, source) = (self.connector.clone(), self.lapses.clone(), source.clone());
            let (service, endpoint) = (service.clone(), target.endpoint.clone());
            async move { dial((&connector, &lapses), &source, &service, (&endpoint, connect)).await }
        };
        self.open.connection(&key, dial).await
    }

    /// Finds a link for a TCP connection.
    ///
    /// # Errors
    /// As [`Links::find`].
    pub(crate) async fn find_for_tcp(
        &self,
        source: &Arc<Subject>,
        service: &ServiceName,
        target: &Target,
        connect: Duration,
    ) -> Result<Link, Failed> {
        if self.reuse {
            return self.find(source, service, target, connect).await;
        }
        dial((&self.connector, &self.lapses), source, service, (&target.endpoint, connect)).await
    }

    /// Closes links that nobody used for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        self.open.sweep(now);
    }
}

/// Makes a link: a connection to the proxy of `endpoint` that has proven to speak for `service`.
async fn dial(
    (connector, lapses): (&Connector, &Lapses),
    source: &Subject,
    service: &ServiceName,
    (endpoint, connect): (&Endpoint, Duration),
) -> Result<Link, Failed> {
    let at = || format!("{service} on {} ({})", endpoint.node, endpoint.addr);
    let most = connect + HANDSHAKE_TIME;
    let linked = timeout(most, async {
        let stream = dial::connect(endpoint.addr, connect)
            .await
            .map_err(|error| Failed::new(Failure::Unreachable, format!("{}: {error}", at())))?;
        listen::fail_unacknowledged(&stream, SILENCE);
        connector
            .connect(source, service, endpoint.port, stream)
            .await
            .map_err(|error| Failed::new(refusal(&error), format!("{}: {error}", at())))
    });
    let connected = linked.await.unwrap_or_else(|_| {
        let cause = format!("{}: no mutual TLS within {:.1?}", at(), most);
        Err(Failed::new(Failure::Untrusted, cause))
    })?;
    let (link, driver) = Link::dial(connected.stream, Limits::DIALLED);
    task::spawn_local("link", driver.map(ended));
    lapses.enter(link.handle().clone(), &connected.peer);
    Ok(link)
}

/// Tells how a link has ended.
pub(crate) fn ended(outcome: Result<(), link::error::Error>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "link ended");
    }
}

/// Says whose doing it is that two proxies do not agree on identities: an endpoint is not to be avoided for what is missing
/// here.
fn refusal(error: &Error) -> Failure {
    match error {
        Error::NoIdentity(_) | Error::Expired(_) => Failure::NoIdentity,
        Error::Handshake(_) | Error::Timeout | Error::Distrust(_) | Error::NoTarget | Error::Library(_) => {
            Failure::Untrusted
        }
    }
}
