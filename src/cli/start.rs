//! `mesh control` and `mesh proxy`: from flags to options, from signals to shutdown.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::exit::{Exit, refuse};
use crate::cli::reload::{LogFilter, Reload, Reread, Told};
use crate::cli::{data_dir, default, output};
use crate::control::bootstrap as control;
use crate::logic::intercept::{Exception, Mode};
use crate::model::identity::TrustDomain;
use crate::model::intention::Action;
use crate::model::name::{NodeName, ZoneName};
use crate::model::service::{LocalService, UpstreamPort};
use crate::model::token::Token;
use crate::net::dns::resolvers::{self, Upstreams};
use crate::net::{clock, interface, pages, task};
use crate::proxy::bootstrap::{AccessLogTarget, InterceptOptions, NamesOptions, Options, Settings};
use crate::proxy::handover::READY_MAX;
use crate::proxy::program;
use crate::proxy::successor::Successor;
use crate::telemetry::log::{self, LogHandle};

/// How much a long-running process logs, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,mesh::proxy=debug`
    #[arg(long, env = "MESH_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Log lines for people (text) or machines (json)
    #[arg(long, env = "MESH_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Take the time of day for so many seconds later than it is, to see what a wrong clock does
    #[arg(long, hide = true, default_value_t = 0, allow_hyphen_values = true, value_name = "SECONDS")]
    clock_offset: i64,
    /// End when the process that started this one, which has this number, ends
    #[arg(long, hide = true, value_name = "PID")]
    die_with_parent: Option<i32>,
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
    /// Where the proxy keeps its certificates and state [default: /var/lib/mesh/proxy for root, else
    /// ~/.local/state/mesh/proxy]
    #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Join token from 'mesh token create'; needed on the first start, and a new one after 'mesh leave'
    #[arg(long, env = "MESH_JOIN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<Token>,
    /// What this host is called in the mesh [default: its host name]
    #[arg(long, env = "MESH_NODE", value_name = "NAME")]
    node: Option<NodeName>,
    /// The services that run here.
    #[arg(
        help = "A service that runs here: NAME[.NAMESPACE]=[ADDRESS:]PORT[/PROTOCOL][@OWNER]; may be repeated. Calls of OWNER's processes leave as this service: a user's name or number, unit:NAME of systemd, or cgroup:/PATH",
        long = "service",
        env = "MESH_SERVICE",
        value_name = "SERVICE",
        value_delimiter = ','
    )]
    services: Vec<LocalService>,
    /// A local port that leads to a service elsewhere: NAME[.NAMESPACE]=ADDRESS:PORT; may be repeated
    #[arg(long = "upstream", env = "MESH_UPSTREAM", value_name = "UPSTREAM", value_delimiter = ',')]
    upstreams: Vec<UpstreamPort>,
    /// Where applications send their requests for the mesh
    #[arg(long, env = "MESH_OUTBOUND", default_value = "127.0.0.1:15001", value_name = "ADDRESS", value_parser = address)]
    outbound: SocketAddr,
    /// Where other proxies reach this host, by mutual TLS only
    #[arg(long, env = "MESH_INBOUND", default_value = "0.0.0.0:15008", value_name = "ADDRESS", value_parser = address)]
    inbound: SocketAddr,
    /// Where gossip listens, UDP and TCP [default: 0.0.0.0:7946, or the next port that is free]
    #[arg(long, env = "MESH_GOSSIP", value_name = "ADDRESS", value_parser = address)]
    gossip: Option<SocketAddr>,
    /// Where health, metrics and the admin API answer, unauthenticated
    #[arg(long, env = "MESH_ADMIN", default_value = "127.0.0.1:15000", value_name = "ADDRESS", value_parser = address)]
    admin: SocketAddr,
    /// Where names below .mesh are answered, by DNS over UDP and TCP; 'off' for nowhere [default: 127.0.0.1:15053, or
    /// another port when that is taken]
    #[arg(long, env = "MESH_DNS", value_name = "ADDRESS|off", value_parser = listener)]
    dns: Option<Listener>,
    /// Who is asked about other names: the servers in /etc/resolv.conf (host), nobody (off), or these; may be repeated
    #[arg(
        long,
        env = "MESH_DNS_FORWARD",
        default_value = "host",
        value_name = "host|off|ADDRESS",
        value_delimiter = ','
    )]
    dns_forward: Vec<String>,
    /// Whether to intercept.
    #[arg(help = "Intercept connections of this host to services of the mesh, so that applications need not be changed; 'strict' also closes the ports of its own services to other hosts, for all but the mesh. Needs CAP_NET_ADMIN and nft", long, env = "MESH_INTERCEPT", value_name = "on|off|strict", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    intercept: Mode,
    /// Where intercepted connections arrive.
    #[arg(help = "Where intercepted connections arrive, on this port of 127.0.0.1 and of ::1", long, env = "MESH_CAPTURE", default_value = "127.0.0.1:15002", value_name = "ADDRESS", value_parser = address)]
    capture: SocketAddr,
    /// Who reaches services of this host without the mesh under 'strict': PORT, SOURCE or SOURCE=PORT, where SOURCE is an
    /// address or a network such as 10.0.0.0/8; may be repeated
    #[arg(long, env = "MESH_STRICT_EXCEPT", value_name = "EXCEPTION", value_delimiter = ',')]
    strict_except: Vec<Exception>,
    /// Print the rules that --intercept would install, and do nothing
    #[arg(long)]
    dry_run: bool,
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
    // Kubernetes' time: what people's services are made for.
    #[arg(long, env = "MESH_DRAIN", default_value = "30s", value_name = "DURATION", value_parser = output::duration)]
    drain: Duration,
    /// Take over from the proxy that runs on the same data directory, without losing a connection; start as usual if none does
    #[arg(long, env = "MESH_TAKE_OVER", value_parser = clap::builder::BoolishValueParser::new())]
    take_over: bool,
    /// How long a process may take to be ready that takes over from this one, to see what one does that hangs
    #[arg(long, hide = true, value_name = "DURATION", value_parser = output::duration)]
    ready_within: Option<Duration>,
    /// Where access records go: off, - (standard error) or a file
    #[arg(long, env = "MESH_ACCESS_LOG", default_value = "off", value_name = "FILE|-|off")]
    access_log: String,
    #[command(flatten)]
    log: LogArgs,
    /// A YAML file with any of these flags as keys; read again at SIGHUP
    #[arg(long, env = "MESH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl LogFilter for ProxyArgs {
    fn log_filter(&self) -> &str {
        &self.log.log
    }
}

impl ProxyArgs {
    /// Returns what may change while the proxy runs.
    fn settings(&self) -> Settings {
        Settings { services: self.services.clone(), zone: self.zone.clone(), drain: self.drain }
    }

    /// Turns what was typed into what it means.
    fn options(self, settings: watch::Receiver<Settings>) -> anyhow::Result<Options> {
        let upstreams = upstreams(&self.dns_forward)?;
        if self.capture.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            // The kernel leads intercepted connections there and nowhere else.
            return Err(refuse(Exit::Usage, format!("--capture {}: expected 127.0.0.1:PORT", self.capture)));
        }
        let intercept =
            InterceptOptions { mode: self.intercept, capture: self.capture, exceptions: self.strict_except };
        let insists = self.node.is_some();
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
            insists,
            upstreams: self.upstreams,
            outbound: self.outbound,
            inbound: self.inbound,
            gossip: self.gossip,
            admin: self.admin,
            advertise: self.advertise,
            workers,
            tls_reuse: !self.no_tls_reuse,
            access_log,
            names: NamesOptions {
                listen: self.dns.map_or(Some(DEFAULT_DNS), |dns| dns.0),
                insists: self.dns.is_some(),
                both: self.intercept != Mode::Off,
                upstreams,
            },
            intercept,
            successor: Successor {
                program: std::env::current_exe().context("this program cannot be found")?,
                words: std::env::args_os().skip(1).collect(),
            },
            take_over: self.take_over,
            ready_max: self.ready_within.unwrap_or(READY_MAX),
            settings,
        })
    }
}

/// Parses an address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:15001 or 0.0.0.0:7443; port 0 takes a free one".to_owned()
    })
}

/// Where names are answered when nobody says.
const DEFAULT_DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15_053);

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy)]
struct Listener(Option<SocketAddr>);

/// Parses an address to listen on, or `off`.
fn listener(text: &str) -> Result<Listener, String> {
    if text == "off" { Ok(Listener(None)) } else { address(text).map(|addr| Listener(Some(addr))) }
}

/// Reads whom to ask about other names.
fn upstreams(words: &[String]) -> anyhow::Result<Upstreams> {
    match words {
        [word] if word == "host" => return Ok(Upstreams::default()),
        [word] if word == "off" => return Ok(Upstreams::Nowhere),
        _ => {}
    }
    let server = |word: &String| {
        let with_port = word.parse::<SocketAddr>();
        let addr =
            with_port.or_else(|_| word.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, resolvers::PORT)));
        let text = format!(
            "--dns-forward: '{word}' is no address of a name server; expected host, off or ADDRESS[:PORT]"
        );
        addr.map_err(|_| refuse(Exit::Usage, text))
    };
    words.iter().map(server).collect::<anyhow::Result<_>>().map(Upstreams::Fixed)
}

/// Returns this host's name as a node name.
fn this_host() -> anyhow::Result<NodeName> {
    interface::host_name().context("this host's name cannot be a node name; choose one with --node")
}

/// Flags of `mesh control`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlArgs {
    /// Where the control plane keeps its authority and state [default: /var/lib/mesh/control for root, else
    /// ~/.local/state/mesh/control]
    #[arg(long, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens (TLS)
    #[arg(long, env = "MESH_LISTEN", default_value = control::DEFAULT_LISTEN, value_name = "ADDRESS", value_parser = address)]
    listen: SocketAddr,
    /// Where gossip listens, UDP and TCP [default: 0.0.0.0:7946, or the next port that is free]
    #[arg(long, env = "MESH_GOSSIP", value_name = "ADDRESS", value_parser = address)]
    gossip: Option<SocketAddr>,
    /// Where health and metrics answer, unauthenticated
    #[arg(long, env = "MESH_ADMIN", default_value = control::DEFAULT_ADMIN, value_name = "ADDRESS", value_parser = address)]
    admin: SocketAddr,
    /// Host name or IP address that other hosts reach this one at [default: that of the default route]
    #[arg(long, env = "MESH_ADVERTISE", value_name = "HOST")]
    advertise: Option<String>,
    /// Trust domain of a new mesh [default: random]
    #[arg(long, env = "MESH_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// What happens in a new mesh to calls that no intention speaks of [default: allow]; 'mesh default' changes it later
    #[arg(long, env = "MESH_DEFAULT_ACTION", value_name = "allow|deny", value_parser = default::action)]
    default_action: Option<Action>,
    /// What this control plane is called [default: this host's name]
    #[arg(long, env = "MESH_NAME", value_name = "NAME")]
    name: Option<NodeName>,
    /// Certificate of your own root (PEM); first start only
    #[arg(long, env = "MESH_ROOT_CERT", value_name = "FILE", requires = "root_key")]
    root_cert: Option<PathBuf>,
    /// Key of your own root (PEM): signs the intermediate and is not kept
    #[arg(long, env = "MESH_ROOT_KEY", value_name = "FILE", requires = "root_cert")]
    root_key: Option<PathBuf>,
    /// Refused: a mesh has one control plane for now, and a second one cannot join it
    #[arg(long, env = "MESH_JOIN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<String>,
    #[command(flatten)]
    log: LogArgs,
    /// A YAML file with any of these flags as keys; read again at SIGHUP
    #[arg(long, env = "MESH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl LogFilter for ControlArgs {
    fn log_filter(&self) -> &str {
        &self.log.log
    }
}

impl ControlArgs {
    /// Turns what was typed into what it means.
    fn options(self) -> control::Options {
        control::Options {
            data_dir: self.data_dir.unwrap_or_else(|| data_dir::of("control")),
            listen: self.listen,
            gossip: self.gossip,
            admin: self.admin,
            advertise: self.advertise,
            trust_domain: self.trust_domain,
            default_action: self.default_action,
            name: self.name,
            root_cert: self.root_cert,
            root_key: self.root_key,
            join: self.join,
        }
    }
}

/// The flags of a proxy that take effect at SIGHUP.
const LIVE: [&str; 4] = ["service", "zone", "drain", CLOCK];
/// The hidden flag that every long-running process can change.
const CLOCK: &str = "clock-offset";
/// Threads of a control plane's runtime: signing and TLS can use a second core, more is not needed.
const CONTROL_THREADS: usize = 2;

/// Runs `mesh control` until it is told to stop.
///
/// # Errors
/// When it cannot start, or its store fails.
pub(crate) fn control(told: Told<ControlArgs>, reread: Reread<ControlArgs>) -> anyhow::Result<Exit> {
    let log = begin(&told.args.log)?;
    let options = told.args.options();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(CONTROL_THREADS).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let take_effect = Box::new(|args: &ControlArgs| clock::shift(args.log.clock_offset));
        Reload { log, flags: told.flags, reread, live: &[CLOCK], take_effect }.start()?;
        crate::control::run(options, greet, stop()?).await?;
        Ok(Exit::Done)
    })
}

/// Runs `mesh proxy` until it is told to stop.
///
/// # Errors
/// When it cannot join or start.
pub(crate) fn proxy(told: Told<ProxyArgs>, reread: Reread<ProxyArgs>) -> anyhow::Result<Exit> {
    let settings = watch::Sender::new(told.args.settings());
    let (dry_run, log) = (told.args.dry_run, told.args.log.clone());
    let options = told.args.options(settings.subscribe())?;
    if dry_run {
        let rules = crate::proxy::intercept::preview(&options);
        output::write(&format!("{rules}{}", crate::proxy::intercept::preview_ways(&rules)))?;
        return Ok(Exit::Done);
    }
    become_current(&options.data_dir);
    let log = begin(&log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let take_effect = Box::new(move |args: &ProxyArgs| {
            clock::shift(args.log.clock_offset);
            settings.send_replace(args.settings());
        });
        Reload { log: log.clone(), flags: told.flags, reread, live: &LIVE, take_effect }.start()?;
        let started =
            |addresses: &crate::proxy::Addresses| ready(&format!("serving at {}", addresses.outbound));
        let notices = crate::proxy::Notices { started: &started, follow: &follow };
        crate::proxy::run(options, log, notices, stop()?).await?;
        Ok(Exit::Done)
    })
}

/// Becomes the program that control has given this host, if it has; comes back if not.
fn become_current(data_dir: &Path) {
    if let Some(program) = program::current(data_dir) {
        let error = std::process::Command::new(&program).args(std::env::args_os().skip(1)).exec();
        output::warn(&format!(
            "{} cannot be started: {error}; the installed program runs",
            program.display()
        ));
    }
}

/// What every long-running process does first.
fn begin(args: &LogArgs) -> anyhow::Result<LogHandle> {
    clock::shift(args.clock_offset);
    if let Some(parent) = args.die_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before this was asked for, and then nothing would be sent.
        if rustix::process::getppid().map(rustix::process::Pid::as_raw_pid) != Some(parent) {
            bail!("the process that started this one has ended");
        }
    }
    let format = match args.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(format, &args.log).map_err(|error| refuse(Exit::Usage, format!("--log: {error}")))
}

/// Tells the service manager, if there is one, that traffic would be served, and gives back what only the start needed.
fn ready(status: &str) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    if let Err(error) = pages::give_back() {
        tracing::debug!(%error, "what only the start needed stays in memory");
    }
    if let Some(patience) = watchdog() {
        task::spawn("watchdog", async move {
            loop {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
                tokio::time::sleep(patience / 3).await;
            }
        });
    }
}

/// Returns how long the service manager waits for a sign of life, if it does. That the variable is meant for another process
/// is no matter: who takes over from that one is the service from then on.
fn watchdog() -> Option<Duration> {
    let patience = std::env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)?;
    (patience > Duration::ZERO).then_some(patience)
}

/// Tells the service manager, if there is one, which process is the service from now on.
fn follow(pid: i32) {
    if let Ok(pid) = u32::try_from(pid) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::MainPid(pid)]);
    }
}

/// Returns whether standard error is kept by the system's journal, where no secret belongs (systemd.exec(5)).
fn is_logged() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

/// Prints how to go on, once the control plane serves.
fn greet(started: &control::Started) {
    ready(&format!("serving the mesh {} at {}", started.trust_domain, started.advertised));
    output::note(&format!(
        "mesh {} is ready: {} serves at {}",
        started.trust_domain, started.node, started.advertised
    ));
    if started.is_local() {
        output::warn(&format!(
            "other hosts cannot reach {}: start again with --advertise HOST, a name or address of this host that they can",
            started.advertised
        ));
    }
    if is_logged() {
        output::note("other hosts join by the line that 'mesh token create --install' prints");
    } else if let Some(install) = &started.install {
        output::note("\nOn every other host, run (the token is good for 24 hours; --service is optional):\n");
        output::note(&format!("  {install} --service NAME=PORT\n"));
        output::note("More tokens: mesh token create --install      Watch: mesh top      Doubts: mesh check");
    }
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
