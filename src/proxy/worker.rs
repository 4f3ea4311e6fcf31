//! The threads of the data path. Each has listeners of its own on the common addresses, its own connections and its own
//! books, and shares only what is read: no request waits for another thread.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};
use tokio_util::task::TaskTracker;

use crate::identity::tls::{Acceptor, Connector};
use crate::model::name::ServiceName;
use crate::model::service::UpstreamPort;
use crate::net::clock;
use crate::net::connection::{Connection, Doubts};
use crate::net::drain::{Drain, Drainer, Phase};
use crate::net::listen::{Listener, Place, bind_shared, is_meant, share};
use crate::net::patience::Patience;
use crate::net::task::{self, Onward};
use crate::proxy::context::Context;
use crate::proxy::http::client::Http;
use crate::proxy::links::Links;
use crate::proxy::shared::Shared;
use crate::proxy::{inbound, outbound};

/// How often idle connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The same, while everything ends.
const LAST_SWEEPS_EVERY: Duration = Duration::from_millis(100);
/// For what is cut to notice.
const CUT_TIME: Duration = Duration::from_secs(1);
/// Tasks that run between two looks at the sockets (tokio's own choice for one thread).
const EVENT_INTERVAL: u32 = 61;

/// What the data path needs to begin.
#[derive(Debug)]
pub struct WorkerConfig {
    /// Where local applications reach services by name.
    pub outbound: SocketAddr,
    /// Where other proxies reach local services.
    pub inbound: SocketAddr,
    /// Local ports that lead to one service each.
    pub upstreams: Vec<UpstreamPort>,
    /// Where connections to virtual addresses are captured, on the same port of both loopback addresses; `None` when they
    /// are not.
    pub capture: Option<SocketAddr>,
    /// Number of threads, at least 1.
    pub workers: usize,
    /// Whether TLS sessions are resumed.
    pub reuse: bool,
    /// How long others are waited for.
    pub patience: Patience,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The listeners of a process that this one takes over from, by name; `None` begins to serve at once with its own.
    pub inherited: Option<Listeners>,
}

/// Listening sockets by what they are for: `outbound`, `inbound`, `upstream db.default`.
pub type Listeners = BTreeMap<String, Vec<TcpListener>>;

/// Why the data path could not begin. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is taken, or not ours.
    #[error("cannot listen on {addr} ({purpose})")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What it is for.
        purpose: String,
        /// Why.
        source: io::Error,
    },
    /// A thread could not be started, or not watch its sockets.
    #[error("cannot start a worker thread")]
    Thread(#[source] io::Error),
}

/// Where the data path listens, with the ports that were free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Where local applications reach services by name.
    pub outbound: SocketAddr,
    /// Where other proxies reach local services.
    pub inbound: SocketAddr,
    /// Local ports that lead to one service each.
    pub upstreams: BTreeMap<ServiceName, SocketAddr>,
    /// Where connections to virtual addresses are captured: IPv4 first, then IPv6 where this host has it.
    pub capture: Vec<SocketAddr>,
}

/// The data path, at work. Dropping it cuts everything.
#[derive(Debug)]
pub struct Workers {
    drainer: Drainer,
    /// Whether links are for another process as soon as this one drains.
    gives_links: Arc<AtomicBool>,
    /// All listeners once more, to be handed over.
    listeners: Listeners,
    addresses: Addresses,
    running: Vec<oneshot::Receiver<()>>,
}

/// What a listener is for.
#[derive(Debug, Clone)]
enum Purpose {
    Outbound,
    Inbound,
    Upstream(ServiceName),
    Capture,
}

impl Workers {
    /// Binds all addresses and starts the threads; returns when they accept connections.
    ///
    /// # Errors
    /// When an address cannot be bound or a thread not started: nothing runs then.
    pub fn start(config: WorkerConfig) -> Result<Self, Error> {
        let count = config.workers.max(1);
        config.shared.set_workers(u32::try_from(count).unwrap_or(u32::MAX));
        let drainer = if config.inherited.is_some() { Drainer::standby() } else { Drainer::new() };
        let mut inherited = config.inherited.unwrap_or_default();
        let mut shares: Vec<Vec<(Purpose, TcpListener)>> = (0..count).map(|_| Vec::new()).collect();
        let mut listeners = Listeners::new();
        let mut bind = |purpose: Purpose, addr: SocketAddr| {
            let failed = |source| Error::Listen { addr, purpose: purpose.to_string(), source };
            let name = purpose.to_string();
            let others = inherited.entry(name.clone()).or_default();
            let (kept, rest) = std::mem::take(others).into_iter().partition(|kept| is_meant(addr, kept));
            *others = rest;
            let kept: Vec<TcpListener> = kept;
            let parts = if kept.is_empty() {
                bind_shared(addr, count).map(|own| own.into_iter().map(|one| vec![one]).collect())
            } else {
                share(kept, count)
            };
            let parts: Vec<Vec<TcpListener>> = parts.map_err(failed)?;
            let first = parts.first().and_then(|part| part.first());
            let bound = first.map_or(Ok(addr), TcpListener::local_addr).map_err(failed)?;
            for (share, part) in shares.iter_mut().zip(parts) {
                for listener in part {
                    let again = listener.try_clone().map_err(failed)?;
                    listeners.entry(name.clone()).or_default().push(again);
                    share.push((purpose.clone(), listener));
                }
            }
            Ok(bound)
        };
        let outbound = bind(Purpose::Outbound, config.outbound)?;
        let inbound = bind(Purpose::Inbound, config.inbound)?;
        let mut upstreams = BTreeMap::new();
        for UpstreamPort { name, listen } in config.upstreams {
            let bound = bind(Purpose::Upstream(name.clone()), listen)?;
            upstreams.insert(name, bound);
        }
        let mut capture = Vec::new();
        if let Some(addr) = config.capture {
            let bound = bind(Purpose::Capture, addr)?;
            capture.push(bound);
            // A host without IPv6 has no connections of it either.
            capture.extend(bind(Purpose::Capture, (Ipv6Addr::LOCALHOST, bound.port()).into()).ok());
        }
        let own = [outbound, inbound].into_iter().chain(upstreams.values().copied());
        config.shared.set_own(own.chain(capture.iter().copied()).collect());
        let mut running = Vec::new();
        let gives_links = Arc::<AtomicBool>::default();
        let (ready, started) = mpsc::channel();
        for (index, listeners) in shares.into_iter().enumerate() {
            let (done, end) = oneshot::channel();
            let (ready, ending) = (ready.clone(), (drainer.drain(), gives_links.clone()));
            let (shared, reuse, patience) = (config.shared.clone(), config.reuse, config.patience);
            let body = move || {
                run(listeners, (shared, ending, reuse, patience), &ready);
                _ = done.send(());
            };
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            thread.spawn(body).map_err(Error::Thread)?;
            running.push(end);
        }
        for _ in 0..count {
            started.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map_err(Error::Thread)?;
        }
        Ok(Self {
            drainer,
            gives_links,
            listeners,
            addresses: Addresses { outbound, inbound, upstreams, capture },
            running,
        })
    }

    /// Returns where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns its listeners, to be handed to the process that takes over.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Begins to serve, with listeners that were inherited.
    pub fn serve(&self) {
        self.drainer.advance(Phase::Serving);
    }

    /// As [`Workers::drain`], while another process accepts on the same sockets: links are left to it from now on.
    pub async fn hand_over(self, grace: Duration) {
        self.gives_links.store(true, Ordering::Relaxed);
        self.drain(grace).await;
    }

    /// Stops accepting callers, lets what is under way finish for `grace`, cuts the rest, and returns when all threads have
    /// ended. Links are accepted as long as there are callers: what they call may be a service behind this very proxy.
    pub async fn drain(mut self, grace: Duration) {
        // The workers close the last of each, having taken what waits in it.
        self.listeners.clear();
        self.drainer.advance(Phase::Draining);
        let mut running = futures_util::future::join_all(std::mem::take(&mut self.running));
        if timeout(grace, &mut running).await.is_err() {
            self.drainer.advance(Phase::Closing);
            _ = timeout(CUT_TIME * 2, running).await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.drainer.advance(Phase::Closing);
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outbound => f.write_str("outbound"),
            Self::Inbound => f.write_str("inbound"),
            Self::Capture => f.write_str("capture"),
            Self::Upstream(service) => write!(f, "upstream {service}"),
        }
    }
}

/// How the end is told: when, and whether links are for another process then.
type Ending = (Drain, Arc<AtomicBool>);

/// One thread, from its runtime to its end.
fn run(
    listeners: Vec<(Purpose, TcpListener)>,
    given: (Arc<Shared>, Ending, bool, Patience),
    ready: &mpsc::Sender<io::Result<()>>,
) {
    let mut builder = Builder::new_current_thread();
    let built = builder.enable_all().event_interval(EVENT_INTERVAL).build_local(LocalOptions::default());
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async move {
        let wrapped = listeners
            .into_iter()
            .map(|(purpose, listener)| Ok((purpose, Listener::new(listener)?)))
            .collect::<io::Result<Vec<_>>>();
        match wrapped {
            Ok(listeners) => {
                _ = ready.send(Ok(()));
                work(listeners, given).await;
            }
            Err(error) => _ = ready.send(Err(error)),
        }
    });
}

async fn work(
    listeners: Vec<(Purpose, Listener)>,
    (shared, (mut drain, gives_links), reuse, patience): (Arc<Shared>, Ending, bool, Patience),
) {
    let acceptor = Rc::new(Acceptor::new(shared.wallet.clone(), reuse));
    let connector = Connector::new(shared.wallet.clone(), reuse);
    let links = Links::new(connector, reuse);
    let http = Http::new(Rc::new(Context::new(shared, links, drain.clone(), patience)));
    let (callers, links) = (TaskTracker::new(), http.context.tasks.clone());
    let doubts = Rc::<Doubts>::default();
    for (purpose, listener) in listeners {
        let desk = Desk {
            http: http.clone(),
            acceptor: acceptor.clone(),
            connections: if matches!(purpose, Purpose::Inbound) { &links } else { &callers }.clone(),
            purpose,
            doubts: doubts.clone(),
        };
        task::spawn_local("accept", desk.receive(listener, drain.clone()));
    }
    task::spawn_local("revisions", follow(http.clone()));
    let mut sweeps = interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = sweeps.tick() => http.sweep(clock::now()),
            () = drain.draining() => break,
        }
    }
    // The listeners take what already waits with the kernel before they close.
    tokio::task::yield_now().await;
    http.context.rest.drain();
    let ended = async {
        callers.close();
        if !gives_links.load(Ordering::Relaxed) {
            callers.wait().await;
        }
        http.context.phase.set(Phase::Draining);
        // As above.
        tokio::task::yield_now().await;
        links.close();
        tokio::join!(callers.wait(), links.wait());
    };
    let mut ended = pin!(ended);
    let mut sweeps = interval(LAST_SWEEPS_EVERY);
    loop {
        tokio::select! {
            () = &mut ended => break,
            _ = sweeps.tick() => http.sweep(clock::now()),
            () = drain.closing() => {
                http.context.phase.set(Phase::Closing);
                _ = timeout(CUT_TIME, ended).await;
                break;
            }
        }
    }
}

/// Tells those that wait for it of each new policy.
async fn follow(http: Rc<Http>) {
    let context = &http.context;
    let mut changes = context.shared.changes();
    // What came before is what the list began with, or is told once more.
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        let generation = *changes.borrow_and_update();
        context.generation.set(generation);
    }
}

/// Where connections of one listener are received.
struct Desk {
    http: Rc<Http>,
    acceptor: Rc<Acceptor>,
    purpose: Purpose,
    connections: TaskTracker,
    doubts: Rc<Doubts>,
}

impl Desk {
    async fn receive(self, listener: Listener, mut drain: Drain) {
        drain.serving().await;
        let end = self.http.context.phase.enter();
        let over = async {
            if matches!(self.purpose, Purpose::Inbound) {
                end.reached(Phase::Draining).await;
            } else {
                drain.draining().await;
                // Callers are told so from before the first one is refused.
                self.http.context.rest.drain();
            }
        };
        let mut over = pin!(over);
        loop {
            tokio::select! {
                (stream, from, place) = listener.accept() => self.take(stream, from, place),
                () = &mut over => break,
            }
        }
        while let Some((stream, from, place)) = listener.accept().now_or_never() {
            self.take(stream, from, place);
        }
    }

    fn take(&self, stream: std::net::TcpStream, from: SocketAddr, place: Place) {
        let http = self.http.clone();
        let stream = Connection::accepted(stream, self.doubts.clone());
        // A box for each purpose: one for all would make every connection as large as the largest.
        match &self.purpose {
            Purpose::Outbound => {
                self.spawn(place, move || outbound::named(http, stream, from));
            }
            Purpose::Inbound => {
                let acceptor = self.acceptor.clone();
                self.spawn(place, move || inbound::serve(http, acceptor, stream));
            }
            Purpose::Upstream(service) => {
                let service = service.clone();
                self.spawn(place, move || outbound::port(http, service, stream, from));
            }
            Purpose::Capture => {
                self.spawn(place, move || outbound::captured(http, stream, from));
            }
        }
    }

    fn spawn<F: Future<Output = Option<Onward>> + 'static>(&self, place: Place, begin: impl FnOnce() -> F) {
        let begun: Pin<Box<dyn Future<Output = Option<Onward>>>> = task::boxed(begin);
        let served = self.connections.track_future(async move {
            if let Some(onward) = begun.await {
                onward.await;
            }
            drop(place);
        });
        task::spawn_local("connection", served);
    }
}
