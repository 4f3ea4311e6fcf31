//! `mesh control` and `mesh proxy`: from flags to options, from signals to shutdown.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::{Exit, refuse};
use crate::cli::{data_dir, output};
use crate::control::bootstrap as control;
use crate::model::identity::TrustDomain;
use crate::model::name::{NodeName, ZoneName};
use crate::model::service::{LocalService, UpstreamPort};
use crate::model::token::Token;
use crate::net::{interface, task};
use crate::proxy::bootstrap::{AccessLogTarget, Options};
use crate::telemetry::log::{self, LogHandle};

/// How much a long-running process logs, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,mesh::proxy=debug`
    #[arg(long, env = "MESH_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    /// Log lines for people (text) or machines (json)
    #[arg(long, env = "MESH_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `mesh proxy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProxyArgs {
    /// Where the proxy keeps its certificates and state
    #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Join token from 'mesh token create'; needed on the first start only
    #[arg(long, env = "MESH_JOIN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<Token>,
    /// What this host is called in the mesh [default: its host name]
    #[arg(long, env = "MESH_NODE", value_name = "NAME")]
    node: Option<NodeName>,
    /// A service that runs here: NAME[.NAMESPACE]=[ADDRESS:]PORT[/PROTOCOL]; may be repeated
    #[arg(long = "service", env = "MESH_SERVICE", value_name = "SERVICE", value_delimiter = ',')]
    services: Vec<LocalService>,
    /// A local port that leads to a service elsewhere: NAME[.NAMESPACE]=ADDRESS:PORT; may be repeated
    #[arg(long = "upstream", env = "MESH_UPSTREAM", value_name = "UPSTREAM", value_delimiter = ',')]
    upstreams: Vec<UpstreamPort>,
    /// Where applications send their requests for the mesh
    #[arg(long, env = "MESH_OUTBOUND", default_value = "127.0.0.1:15001", value_name = "ADDRESS")]
    outbound: SocketAddr,
    /// Where other proxies reach this host, by mutual TLS only
    #[arg(long, env = "MESH_INBOUND", default_value = "0.0.0.0:15008", value_name = "ADDRESS")]
    inbound: SocketAddr,
    /// Where gossip listens, UDP and TCP
    #[arg(long, env = "MESH_GOSSIP", default_value = "0.0.0.0:7946", value_name = "ADDRESS")]
    gossip: SocketAddr,
    /// Where health, metrics and the admin API answer, unauthenticated
    #[arg(long, env = "MESH_ADMIN", default_value = "127.0.0.1:15000", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Where DNS for *.mesh answers; this version serves none, so only 'off' is accepted
    #[arg(long, env = "MESH_DNS", default_value = "off", value_name = "ADDRESS|off")]
    dns: String,
    /// The IP address that other hosts reach this one at [default: the one facing the control plane]
    #[arg(long, env = "MESH_ADVERTISE", value_name = "IP")]
    advertise: Option<IpAddr>,
    /// This host's failure domain, such as a rack or data centre
    #[arg(long, env = "MESH_ZONE", value_name = "ZONE")]
    zone: Option<ZoneName>,
    /// Data-plane threads [default: the number of cores]
    #[arg(long, env = "MESH_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Switch off TLS session resumption: every meshed TCP connection costs a full handshake
    #[arg(long, env = "MESH_NO_TLS_REUSE", value_parser = clap::builder::BoolishValueParser::new())]
    no_tls_reuse: bool,
    /// How long running requests may take to end after SIGTERM
    #[arg(long, env = "MESH_DRAIN", default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// Where access records go: off, - (standard error) or a file
    #[arg(long, env = "MESH_ACCESS_LOG", default_value = "off", value_name = "FILE|-|off")]
    access_log: String,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// A YAML file with any of these flags as keys
    #[arg(long, env = "MESH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ProxyArgs {
    /// Turns what was typed into what it means.
    pub(crate) fn options(self) -> anyhow::Result<Options> {
        if self.dns != "off" {
            bail!(
                "--dns {}: this version serves no DNS; leave it 'off' and reach services by --upstream, by the Host \
                 header at {}, or with http_proxy=http://{}",
                self.dns,
                self.outbound,
                self.outbound
            );
        }
        let node = match self.node {
            Some(node) => node,
            None => this_host()?,
        };
        let workers = match self.workers {
            Some(workers) => usize::from(workers),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let access_log = match self.access_log.as_str() {
            "off" => AccessLogTarget::Off,
            "-" => AccessLogTarget::Stderr,
            path => AccessLogTarget::File(path.into()),
        };
        Ok(Options {
            data_dir: self.data_dir.unwrap_or_else(|| data_dir::of("proxy")),
            join: self.join,
            node,
            services: self.services,
            upstreams: self.upstreams,
            outbound: self.outbound,
            inbound: self.inbound,
            gossip: self.gossip,
            admin: self.admin,
            advertise: self.advertise,
            zone: self.zone,
            workers,
            tls_reuse: !self.no_tls_reuse,
            drain: self.drain,
            access_log,
        })
    }
}

/// Returns this host's name as a node name.
fn this_host() -> anyhow::Result<NodeName> {
    interface::host_name().context("this host's name cannot be a node name; choose one with --node")
}

/// Flags of `mesh control`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlArgs {
    /// Where the control plane keeps its authority and state
    #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens (TLS)
    #[arg(long, env = "MESH_LISTEN", default_value = control::DEFAULT_LISTEN, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where gossip listens, UDP and TCP
    #[arg(long, env = "MESH_GOSSIP", default_value = control::DEFAULT_GOSSIP, value_name = "ADDRESS")]
    gossip: SocketAddr,
    /// Where health and metrics answer, unauthenticated
    #[arg(long, env = "MESH_ADMIN", default_value = control::DEFAULT_ADMIN, value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Host name or IP address that other hosts reach this one at [default: that of the default route]
    #[arg(long, env = "MESH_ADVERTISE", value_name = "HOST")]
    advertise: Option<String>,
    /// Trust domain of a new mesh [default: random]
    #[arg(long, env = "MESH_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// What this control plane is called [default: this host's name]
    #[arg(long, env = "MESH_NAME", value_name = "NAME")]
    name: Option<NodeName>,
    /// Certificate of your own root (PEM); first start only
    #[arg(long, env = "MESH_ROOT_CERT", value_name = "FILE", requires = "root_key")]
    root_cert: Option<PathBuf>,
    /// Key of your own root (PEM): signs the intermediate and is not kept
    #[arg(long, env = "MESH_ROOT_KEY", value_name = "FILE", requires = "root_cert")]
    root_key: Option<PathBuf>,
    /// Join token of an existing control plane
    #[arg(long, env = "MESH_JOIN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<String>,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// A YAML file with any of these flags as keys
    #[arg(long, env = "MESH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ControlArgs {
    /// Turns what was typed into what it means.
    pub(crate) fn options(self) -> control::Options {
        control::Options {
            data_dir: self.data_dir.unwrap_or_else(|| data_dir::of("control")),
            listen: self.listen,
            gossip: self.gossip,
            admin: self.admin,
            advertise: self.advertise,
            trust_domain: self.trust_domain,
            name: self.name,
            root_cert: self.root_cert,
            root_key: self.root_key,
            join: self.join,
        }
    }
}

/// Threads of a control plane's runtime: signing and TLS can use a second core, more is not needed.
const CONTROL_THREADS: usize = 2;

/// Runs `mesh control` until it is told to stop.
///
/// # Errors
/// When it cannot start, or its store fails.
pub(crate) fn control(args: ControlArgs, reread: Reread) -> anyhow::Result<Exit> {
    let log = begin(&args.log)?;
    let options = args.options();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(CONTROL_THREADS).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        reload_on_hangup(log, reread)?;
        crate::control::run(options, greet, stop()?).await?;
        Ok(Exit::Done)
    })
}

/// Runs `mesh proxy` until it is told to stop.
///
/// # Errors
/// When it cannot join or start.
pub(crate) fn proxy(args: ProxyArgs, reread: Reread) -> anyhow::Result<Exit> {
    let log = begin(&args.log)?;
    let options = args.options()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        reload_on_hangup(log.clone(), reread)?;
        let started =
            |addresses: &crate::proxy::Addresses| ready(&format!("serving at {}", addresses.outbound));
        crate::proxy::run(options, log, started, stop()?).await?;
        Ok(Exit::Done)
    })
}

/// What every long-running process does first.
fn begin(args: &LogArgs) -> anyhow::Result<LogHandle> {
    if args.die_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    let format = match args.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(format, &args.log).map_err(|error| refuse(Exit::Usage, format!("--log: {error}")))
}

/// Tells the service manager, if there is one, that traffic would be served.
fn ready(status: &str) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

/// Prints how to go on, once the control plane serves.
fn greet(started: &control::Started) {
    ready(&format!("serving the mesh {} at {}", started.trust_domain, started.advertised));
    output::note(&format!(
        "mesh {} is ready: {} serves at {}",
        started.trust_domain, started.node, started.advertised
    ));
    if let Some(install) = &started.install {
        output::note("\nOn every other host, run (the token is good for 24 hours; --service is optional):\n");
        output::note(&format!("  {install} --service NAME=PORT\n"));
        output::note("More tokens: mesh token create --install      Watch: mesh top      Doubts: mesh check");
    }
}

/// Reads the command line, the environment and the configuration file again.
pub(crate) type Reread = fn() -> anyhow::Result<LogArgs>;

/// Reads the settings again at each SIGHUP. The log filter is put in force; all else is for the next start, as ports,
/// names and services are what a process is.
fn reload_on_hangup(log: LogHandle, reread: Reread) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    task::spawn("reload", async move {
        while hangup.recv().await.is_some() {
            match reread().and_then(|args| Ok(log.set_filter(&args.log)?)) {
                Ok(()) => tracing::info!(
                    filter = log.filter(),
                    "configuration read again; the log filter is in force, all else from the next start on"
                ),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the old configuration stays in force");
                }
            }
        }
    });
    Ok(())
}

/// Returns a future that ends when the process is told to stop.
fn stop() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    })
}
