//! A proxy from its options to its last connection: builds every part, connects them, and takes them apart in order.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::gossip::agent::{self, Estate};
use crate::identity::certificate::{Certificate, sha256};
use crate::identity::vault::{STATE_DIR, Vault};
use crate::logic::intercept::Mode;
use crate::net::claim::Claim;
use crate::net::handoff::Door;
use crate::net::patience::Patience;
use crate::net::{disk, listen, task};
use crate::proxy::addresses::{self, Addresses};
use crate::proxy::admin;
use crate::proxy::announcer::FAREWELL;
use crate::proxy::bootstrap::{AccessLogTarget, Options};
use crate::proxy::entry;
use crate::proxy::examiner::Intercepting;
use crate::proxy::handover::{self, Giver, Sockets, Taker};
use crate::proxy::intercept;
use crate::proxy::membership::{self, Membership};
use crate::proxy::names::{self, Life, Names};
use crate::proxy::node::{self, BUILD, Node, subjects};
use crate::proxy::program;
use crate::proxy::reporter::{self, Local};
use crate::proxy::services::Services;
use crate::proxy::shared::Shared;
use crate::proxy::successor::Successor;
use crate::proxy::upgrader::Upgrader;
use crate::proxy::words::{self, Who};
use crate::proxy::worker::{self, Listeners, WorkerConfig, Workers};
use crate::telemetry::access::{AccessLog, Target};
use crate::telemetry::log::LogHandle;
use crate::telemetry::metric::Registry;

/// File that says where a proxy listens, in its data directory.
const ADDRESSES_FILE: &str = "addresses.json";
/// What the admin listener is called when it is handed over.
const ADMIN: &str = "admin";
/// What the sockets of the name server are called: first UDP, then TCP.
const DNS: &str = "dns";
/// How often it is tried to open a store that another process has.
const REOPEN_EVERY: Duration = Duration::from_millis(200);
/// How long the start waits for the catalogue. A node whose neighbours are all away serves what it knows.
const GOSSIP_MAX: Duration = Duration::from_secs(10);

/// Why a proxy did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no member.
    #[error(transparent)]
    Membership(#[from] membership::Error),
    /// Its disk.
    #[error(transparent)]
    Vault(#[from] crate::identity::vault::Error),
    /// The proxy that runs already goes on.
    #[error(transparent)]
    Handover(#[from] words::Error),
    /// Gossip did not start.
    #[error(transparent)]
    Gossip(#[from] agent::Error),
    /// The data path did not start.
    #[error("{0}{advice}", advice = advice(.0))]
    Workers(#[from] worker::Error),
    /// The admin address is taken, or not ours.
    #[error(
        "cannot listen on {addr} (admin): {source}; choose another address with --admin, or port 0 for a free one"
    )]
    Admin {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The name server does not start.
    #[error(
        "cannot listen on {addr} (dns): {source}; choose another address with --dns, port 0 for a free one, or 'off'"
    )]
    Names {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be intercepted.
    #[error(transparent)]
    Intercept(#[from] intercept::Error),
    /// The access log cannot be written.
    #[error("the access log cannot be written: {0}")]
    AccessLog(#[source] io::Error),
    /// The gossip thread ended by itself, by a bug.
    #[error(
        "gossip has stopped, so that this proxy would not hear of other hosts any more: the log says why; start it again"
    )]
    GossipEnded,
    /// The file that says where it listens cannot be written.
    #[error("{path} cannot be written: {source}")]
    Addresses {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<node::Error> for Error {
    fn from(error: node::Error) -> Self {
        match error {
            node::Error::Membership(error) => Self::Membership(error),
            node::Error::Gossip(error) => Self::Gossip(error),
        }
    }
}

/// Says what to do about a data path that did not start.
fn advice(error: &worker::Error) -> &'static str {
    match error {
        worker::Error::Listen { .. } => {
            "; choose another address with --outbound, --inbound or --upstream, or port 0 for a free one"
        }
        worker::Error::Thread(_) => "",
    }
}

/// Who is told how far a proxy has come.
pub struct Notices<'n> {
    /// Traffic would be served from here on.
    pub started: &'n dyn Fn(&Addresses),
    /// The process of this number is the proxy from here on.
    pub follow: &'n dyn Fn(i32),
}

/// How the life of a proxy ends.
enum End {
    /// It was told to, or has to.
    Stop(Result<(), Error>),
    /// The process of this number goes on in its place.
    HandedOver(i32),
}

/// Runs a proxy until `shutdown`, or until another process has taken over from it.
///
/// # Errors
/// When it cannot join or start. Nothing of it runs afterwards.
pub async fn run(
    options: Options,
    log: LogHandle,
    notices: Notices<'_>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let shutdown = shutdown.shared();
    let begun = begin(options, log, shutdown.clone()).await;
    if let Err(Error::Membership(membership::Error::Stopped(_))) = &begun {
        return Ok(());
    }
    let (running, options) = begun?;
    let path = options.data_dir.join(ADDRESSES_FILE);
    let body = serde_json::to_vec(&running.addresses).map_err(io::Error::from);
    body.and_then(|body| disk::write_file(&path, &body, 0o644))
        .map_err(|source| Error::Addresses { path: path.clone(), source })?;
    let door = Door::open(&options.data_dir.join(handover::SOCKET_FILE));
    let door = door
        .inspect_err(|error| tracing::warn!(%error, "no process will be able to take over from this one"));
    tracing::info!(outbound = %running.addresses.outbound, inbound = %running.addresses.inbound, "serving");
    (notices.started)(&running.addresses);

    let failed = running.node.agent.failed();
    let given = async {
        match &door {
            Ok(door) => handover::give(door, &running, notices.follow).await,
            Err(_) => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        () = shutdown => End::Stop(Ok(())),
        () = failed => End::Stop(Err(Error::GossipEnded)),
        pid = given => End::HandedOver(pid),
    };
    let grace = options.settings.borrow().drain;
    match end {
        End::Stop(outcome) => {
            tracing::info!("draining");
            // What is not there any more must not be connected to; its absence is no fault.
            let _ = std::fs::remove_file(&path);
            if let Ok(door) = door {
                door.remove();
            }
            running.stop(grace).await;
            outcome
        }
        End::HandedOver(pid) => {
            tracing::info!(pid, "handed over; serving out what is under way");
            drop(door);
            running.retire(grace).await;
            Ok(())
        }
    }
}

/// Starts a proxy, in place of one that runs if that is wanted; returns once it serves, or is to `stop`.
async fn begin(
    options: Options,
    log: LogHandle,
    stop: impl Future<Output = ()> + Clone,
) -> Result<(Running, Options), Error> {
    let wanted = options.insists.then_some(&options.node);
    let mut taker =
        if options.take_over { Taker::connect(&options.data_dir, wanted, BUILD).await? } else { None };
    let kept = taker.as_mut().and_then(|taker| taker.sockets.remove(intercept::CLAIM_SOCKET)?.pop());
    let claim = if options.intercept.mode == Mode::Off {
        None
    } else {
        intercept::prepare(taker.is_none(), kept, &options.data_dir).await?
    };
    let Some(mut taker) = taker else {
        let (mut running, options) = prepare(options, log, None, stop.clone()).await?;
        running.claim = claim;
        running.open(&options);
        running.intercept(&options).await?;
        tokio::select! {
            () = running.wait_for_others() => {}
            () = stop => return Ok((running, options)),
        }
        running.node.settle().await;
        running.node.ready.send_replace(true);
        return Ok((running, options));
    };
    match prepare(options, log, Some(&mut taker), stop).await {
        Ok((mut running, options)) => {
            running.claim = claim;
            running.node.ready.send_replace(true);
            running.open(&options);
            Ok((running, options))
        }
        Err(error) => {
            taker.give_up(&error.to_string()).await;
            Err(error)
        }
    }
}

/// Does everything but accept; with a `taker`, returns when the other process accepts no more either.
async fn prepare(
    options: Options,
    log: LogHandle,
    mut taker: Option<&mut Taker>,
    stop: impl Future<Output = ()>,
) -> Result<(Running, Options), Error> {
    if let Some(taker) = &mut taker {
        taker.store().await?;
    }
    let state = options.data_dir.join(STATE_DIR);
    if options.join.is_none() && !state.exists() {
        // Nothing is made on a host that cannot become a node.
        return Err(membership::Error::NoToken.into());
    }
    let vault = Arc::new(Vault::open(&state)?);
    let services = Services::load(vault.clone(), options.settings.clone())?;
    task::spawn("services", services.clone().follow());
    let mut options = Options { settings: services.settings(), ..options };
    if !options.insists
        && let Some(node) = Membership::kept_node(&vault)?
        && node != options.node
    {
        tracing::info!(host = %options.node, %node, "this host has another name by now; its node goes on under the old one");
        options.node = node;
    }
    let subjects = subjects(&options.node, &options.settings.borrow().services);
    let membership = entry::enter(&options, &vault, &subjects, (taker.is_some(), stop)).await?;
    let estate = match &mut taker {
        Some(taker) => Some(taker.gossip().await?),
        None => None,
    };
    let node = Node::start(&options, vault, membership, (subjects, estate)).await?;
    let sockets = taker.as_mut().map(|taker| std::mem::take(&mut taker.sockets));
    let mut running = Running::make((node, services), &options, log, sockets)?;
    if let Some(taker) = taker {
        running.wait_for_others().await;
        // The new rules lead where the old ones did, to sockets that both processes have.
        running.intercept(&options).await?;
        taker.traffic().await?;
    }
    Ok((running, options))
}

/// How far a proxy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Everything is there, and nothing is accepted.
    Standby,
    /// It serves.
    Open,
    /// It takes nothing new.
    Leaving,
    /// Only the last report is left.
    Gone,
}

/// Waits until a proxy has come so far.
fn until(stage: &watch::Sender<Stage>, wanted: Stage) -> impl Future<Output = ()> + Send + use<> {
    let mut stage = stage.subscribe();
    async move { drop(stage.wait_for(|stage| *stage >= wanted).await) }
}

/// Returns sockets as what they are.
fn listeners(sockets: Sockets) -> Listeners {
    let listeners = |(name, sockets): (String, Vec<OwnedFd>)| {
        (name, sockets.into_iter().map(std::net::TcpListener::from).collect())
    };
    sockets.into_iter().map(listeners).collect()
}

/// A proxy that serves, or is about to.
struct Running {
    node: Node,
    workers: Workers,
    /// The listener of the admin API once more, to be handed over.
    admin: std::net::TcpListener,
    names: Names,
    addresses: Addresses,
    interception: watch::Sender<Intercepting>,
    /// The right to intercept, which is one process's at a time.
    claim: Option<Claim>,
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    successor: Successor,
    /// How long one may take to be ready.
    ready_max: Duration,
    /// Why the last process that wanted to take over did not.
    failures: watch::Sender<Option<String>>,
    /// The tasks that end last.
    last: Vec<JoinHandle<Option<()>>>,
}

impl Running {
    /// Makes the data path, on `sockets` of another process if there are any, and what tells of it.
    fn make(
        (node, services): (Node, Arc<Services>),
        options: &Options,
        log: LogHandle,
        sockets: Option<Sockets>,
    ) -> Result<Self, Error> {
        let registry = Registry::new();
        let access = access_log(&options.access_log).map_err(Error::AccessLog)?;
        let policy = node.policies.borrow().as_ref().clone();
        let shared = Shared::new(policy, node.wallets.subscribe(), registry, access.clone());
        shared.set_locals(options.settings.borrow().services.clone());
        let refused = |source| Error::Admin { addr: options.admin, source };
        let stage = watch::Sender::new(Stage::Standby);
        let mut sockets = sockets;
        let asked = sockets.as_mut().and_then(|sockets| sockets.remove(DNS)).unwrap_or_default();
        let mut inherited = sockets.map(listeners);
        let kept = inherited.as_mut().and_then(|inherited| inherited.remove(ADMIN));
        let admin = listen::bind_or_keep(options.admin, kept).map_err(refused)?;
        let workers = Workers::start(WorkerConfig {
            patience: Patience::default(),
            inherited,
            outbound: options.outbound,
            inbound: options.inbound,
            upstreams: options.upstreams.clone(),
            capture: (options.intercept.mode != Mode::Off).then_some(options.intercept.capture),
            workers: options.workers,
            reuse: options.tls_reuse,
            shared: shared.clone(),
        })?;
        let life = || Life {
            begin: Box::pin(until(&stage, Stage::Open)),
            end: Box::pin(until(&stage, Stage::Leaving)),
        };
        let lead = names::lead(workers.addresses());
        let names = Names::start(&options.names, lead, node.policies.subscribe(), (asked, life));
        let names = names.map_err(|names::Error { addr, source }| Error::Names { addr, source })?;
        let admin_addr = admin.local_addr().map_err(refused)?;
        let addresses = addresses::gather(workers.addresses(), node.agent.local_addr(), admin_addr, &names);
        shared.set_zone(names.zone.clone());
        let local = Arc::new(Local::default());
        let sources = Arc::new(node.sources(&shared));
        let interception = watch::Sender::new(None);
        let examine = node.examiner(&sources, &names, interception.subscribe(), options);
        let handles =
            node.admin_handles(&shared, &local, &sources, (log, access), (&names, services, examine));
        let serving = TcpListener::from_std(admin.try_clone().map_err(refused)?).map_err(refused)?;
        let (opened, over) = (until(&stage, Stage::Open), until(&stage, Stage::Leaving));
        let answering = async move {
            opened.await;
            drop(admin::serve(serving, handles, over).await);
        };
        let (opened, over) = (until(&stage, Stage::Open), until(&stage, Stage::Gone));
        let reports = node.reports(&shared, sources, local);
        let reporting = async move {
            opened.await;
            reporter::run(reports, over).await;
        };
        let last = vec![task::spawn("admin", answering), task::spawn("reporter", reporting)];
        let (successor, failures) = (options.successor.clone(), watch::Sender::new(None));
        Ok(Self {
            node,
            workers,
            admin,
            names,
            addresses,
            interception,
            claim: None,
            shared,
            stage,
            successor,
            ready_max: options.ready_max,
            failures,
            last,
        })
    }

    /// Begins to accept, to announce and to report.
    fn open(&self, options: &Options) {
        self.workers.serve();
        self.node.follow(&self.shared, options, self.addresses.inbound);
        program::settle(&options.data_dir);
        let upgrader = Upgrader {
            client: self.node.client.clone(),
            data_dir: options.data_dir.clone(),
            successor: self.successor.clone(),
            failures: self.failures.subscribe(),
        };
        task::spawn("upgrader", upgrader.run(until(&self.stage, Stage::Leaving)));
        self.stage.send_replace(Stage::Open);
    }

    /// Begins to intercept this host's connections, if that is wanted.
    async fn intercept(&mut self, options: &Options) -> Result<(), Error> {
        if options.intercept.mode != Mode::Off {
            let interception = intercept::begin(options, self.workers.addresses(), &self.names).await?;
            self.interception
                .send_replace(Some((options.intercept.mode, interception.instance().to_owned())));
            // Who hands over has no say in the rules from then on; who stops keeps them while it serves out.
            let over = until(&self.stage, Stage::Leaving);
            let failures = self.failures.subscribe();
            self.last.push(task::spawn("interception", interception.run(failures, over)));
        }
        Ok(())
    }

    /// Waits until it is known who else is there, as far as can be.
    async fn wait_for_others(&self) {
        if timeout(GOSSIP_MAX, self.node.agent.ready()).await.is_err() {
            tracing::warn!("no other member answers; serving with what is known");
        }
        self.node.keep_peers().await;
    }

    /// Leaves the mesh, lets what is under way finish within `grace`, and sends the last report.
    async fn stop(self, grace: Duration) {
        self.node.ready.send_replace(false);
        // It may be silent, as another process was about to take over.
        self.node.agent.resume();
        self.node.agent.leave().await;
        sleep(FAREWELL).await;
        self.workers.drain(grace).await;
        self.stage.send_replace(Stage::Gone);
        futures_util::future::join_all(self.last).await;
    }

    /// Lets what is under way finish within `grace`, while another process is this node.
    async fn retire(self, grace: Duration) {
        self.stage.send_replace(Stage::Leaving);
        drop((self.admin, self.names, self.claim));
        self.workers.hand_over(grace).await;
        self.stage.send_replace(Stage::Gone);
        futures_util::future::join_all(self.last).await;
    }
}

impl Giver for Running {
    fn who(&self) -> Who {
        let pin = |root: &Vec<u8>| {
            let certificate = Certificate::parse(root).ok()?;
            Some(HEXLOWER.encode(&sha256(&certificate.public)))
        };
        let roots = membership::roots(&self.node.snapshots.borrow()).unwrap_or_default();
        Who {
            node: self.shared.node.clone(),
            build: BUILD.to_owned(),
            program: self.successor.program.clone(),
            controls: self.node.controls.borrow().clone(),
            pins: roots.iter().filter_map(pin).collect(),
        }
    }

    fn start_successor(&self, program: Option<PathBuf>) -> io::Result<i32> {
        let program = program.unwrap_or_else(|| self.successor.program.clone());
        Ok(Successor { program, ..self.successor.clone() }.start()?.0)
    }

    fn sockets(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let listeners = self.workers.listeners().iter();
        let each = listeners
            .flat_map(|(name, listeners)| listeners.iter().map(|listener| (name.clone(), listener.as_fd())));
        let names = self.names.sockets.iter().flat_map(|sockets| sockets.each());
        let names = names.map(|socket| (DNS.to_owned(), socket));
        let claim = self.claim.iter().map(|claim| (intercept::CLAIM_SOCKET.to_owned(), claim.socket()));
        each.chain([(ADMIN.to_owned(), self.admin.as_fd())]).chain(names).chain(claim).collect()
    }

    async fn lend_store(&self) {
        let writers = std::mem::take(&mut *self.node.writers.lock().unwrap_or_else(PoisonError::into_inner));
        for writer in writers {
            writer.abort();
            // Cut where it waited; what it had begun to write, it writes before the store closes.
            _ = writer.await;
        }
        let vault = self.node.vault.clone();
        _ = tokio::task::spawn_blocking(move || vault.close()).await;
    }

    async fn lend_gossip(&self) -> Option<Estate> {
        self.node.agent.pause().await
    }

    fn take_back(&self, reason: &str) {
        self.failures.send_replace(Some(reason.to_owned()));
        self.node.agent.resume();
    }

    async fn reopen_store(&self) {
        let mut told = false;
        loop {
            let vault = self.node.vault.clone();
            match tokio::task::spawn_blocking(move || vault.reopen()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if !told => {
                    told = true;
                    tracing::warn!(%error, "the store is not back yet; serving from memory");
                }
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(REOPEN_EVERY).await;
        }
        let none = self.node.writers.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if none {
            self.node.write();
        }
    }

    fn ready_max(&self) -> Duration {
        self.ready_max
    }
}

fn access_log(target: &AccessLogTarget) -> io::Result<Option<Arc<AccessLog>>> {
    match target {
        AccessLogTarget::Off => Ok(None),
        AccessLogTarget::Stderr => AccessLog::open(Target::Stderr).map(Some),
        AccessLogTarget::File(path) => AccessLog::open(Target::File(path)).map(Some),
    }
}
