//! Interception: installs the rules by which connections of this host come here, keeps them as they should be, and takes
//! them away at the end. Until then a [`Guard`] stands by.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};

use crate::logic::intercept::{self, Mode, Rules};
use crate::net::dns::resolvers::{Resolvers, Upstreams};
use crate::net::{mark, nft, tool};
use crate::proxy::bootstrap::{InterceptOptions, Options, Settings};
use crate::proxy::guard::{self, Guard};
use crate::proxy::names::Names;
use crate::proxy::worker::Addresses;
use crate::proxy::{resolved, ways};

/// How often the host's name servers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the table is looked for, which others may have flushed with everything else.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Where systemd-resolved answers programs that ask by DNS.
const STUBS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];
/// Pause before a guard that has ended is replaced.
const GUARD_PAUSE: Duration = Duration::from_secs(1);

/// Why nothing is intercepted. No rule is in force then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy may not.
    #[error("--intercept needs the capability CAP_NET_ADMIN: run as root, or give it to the service")]
    NotAllowed,
    /// The rules cannot be installed.
    #[error("--intercept: {0}")]
    Rules(#[from] tool::Error),
    /// No guard can be started.
    #[error("--intercept: no process can be started that removes the rules should this one be killed: {0}")]
    Guard(#[source] std::io::Error),
}

/// What the rules are made of.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) options: InterceptOptions,
    /// Where captured connections go: IPv4, then IPv6.
    pub(crate) capture: Vec<SocketAddr>,
    /// Where the name server listens, on addresses that questions can be led to.
    pub(crate) names: Vec<SocketAddr>,
    /// Whom this host asks.
    pub(crate) resolvers: Resolvers,
    /// Whether systemd-resolved asks the name server by itself.
    pub(crate) is_resolved_told: bool,
    pub(crate) settings: watch::Receiver<Settings>,
}

/// Interception at work.
#[derive(Debug)]
pub(crate) struct Interception {
    instance: String,
    sources: Sources,
    guard: Guard,
    rules: Rules,
    /// Which ways to virtual addresses are open.
    ways: (bool, bool),
    /// Ways to name servers that could not be made.
    in_vain: Vec<Vec<String>>,
}

/// Makes sure that this process may intercept, and that questions of this host, its own too, are not led to a name server
/// that is not there yet: rules of a proxy that was killed may still be in force, unless this one takes over from one that
/// runs and does not come `alone`.
///
/// # Errors
/// When it may not, or the host lacks the tool.
pub(crate) async fn prepare(alone: bool) -> Result<(), Error> {
    mark::begin();
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|_| Error::NotAllowed)?;
    mark::apply(&socket).map_err(|_| Error::NotAllowed)?;
    if alone {
        match nft::apply(&intercept::release_names()).await {
            Ok(()) | Err(tool::Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ways::open().await;
    Ok(())
}

/// Begins to intercept connections, for a data path that listens at `addresses`.
///
/// # Errors
/// When the kernel or the tool refuses.
pub(crate) async fn begin(
    options: &Options,
    addresses: &Addresses,
    names: &Names,
) -> Result<Interception, Error> {
    let listen = names.addrs.first().copied().filter(|addr| is_led_to(*addr));
    if listen.is_none() {
        tracing::warn!(
            "names below .mesh are not known on this host: --intercept leads questions to --dns 127.0.0.1:PORT alone"
        );
    }
    let own = listen.unwrap_or(options.intercept.capture);
    Interception::start(Sources {
        options: options.intercept.clone(),
        capture: addresses.capture.clone(),
        names: listen.map_or_else(Vec::new, |_| names.addrs.clone()),
        resolvers: Resolvers::new(Upstreams::default(), own),
        is_resolved_told: false,
        settings: options.settings.clone(),
    })
    .await
}

/// Returns the rules that a proxy with these options would install.
pub fn preview(options: &Options) -> Rules {
    let capture = options.intercept.capture;
    let listen = options.names.listen.filter(|listen| is_led_to(*listen));
    let both =
        |addr: SocketAddr| vec![addr, SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), addr.port())];
    let sources = Sources {
        options: options.intercept.clone(),
        capture: both(capture),
        names: listen.map(both).unwrap_or_default(),
        resolvers: Resolvers::new(Upstreams::default(), listen.unwrap_or(capture)),
        is_resolved_told: false,
        settings: options.settings.clone(),
    };
    sources.rules("preview")
}

/// Returns the commands for the ways that this host lacks, to virtual addresses and to the name servers whose questions `rules`
/// lead here, one a line, as comments for `nft`; nothing when it lacks none.
pub fn preview_ways(rules: &Rules) -> String {
    let list = |whereto: &str, commands: &[Vec<String>]| {
        if commands.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = commands.iter().map(|words| format!("#   ip {}\n", words.join(" "))).collect();
        format!("# this host has no way to {whereto}; until the rules are removed:\n{}", lines.concat())
    };
    let servers = rules.names.as_ref().map(|(_, servers)| ways::missing_to(servers)).unwrap_or_default();
    list("these addresses", &ways::missing()) + &list("the name servers that it asks", &servers)
}

/// Returns whether questions can be led to a name server that listens there: the kernel leads to the loopback address, and
/// the answer has to come from it.
pub(crate) fn is_led_to(listen: SocketAddr) -> bool {
    listen.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

impl Sources {
    fn rules(&self, instance: &str) -> Rules {
        let port = |addrs: &[SocketAddr], is_v4: bool| {
            addrs.iter().find(|addr| addr.is_ipv4() == is_v4).map(SocketAddr::port)
        };
        let settings = self.settings.borrow();
        let servers = self.resolvers.servers().iter().map(SocketAddr::ip).collect::<BTreeSet<_>>();
        let served = |server: &IpAddr| {
            let is_told = self.is_resolved_told && STUBS.contains(server);
            !is_told && port(&self.names, server.is_ipv4()).is_some()
        };
        let names = self
            .names
            .first()
            .map(|addr| (addr.port(), servers.into_iter().filter(served).collect::<BTreeSet<_>>()));
        let strict = (self.options.mode == Mode::Strict).then(|| {
            let ports = settings.services.iter().map(|service| service.addr.port()).collect();
            (ports, self.options.exceptions.clone())
        });
        Rules {
            instance: instance.to_owned(),
            mark: mark::MARK,
            capture_v4: port(&self.capture, true),
            capture_v6: port(&self.capture, false),
            names,
            strict,
        }
    }
}

impl Interception {
    /// Installs the rules, in the place of whatever rules of another proxy are in force.
    ///
    /// # Errors
    /// When the kernel or the tool refuses.
    async fn start(mut sources: Sources) -> Result<Self, Error> {
        let instance = format!("{:016x}", rand::random::<u64>());
        let guard = Guard::post(&instance, sources.options.mode).map_err(Error::Guard)?;
        if let Some(server) = sources.names.first() {
            sources.is_resolved_told = resolved::tell(*server).await;
        }
        let rules = sources.rules(&instance);
        if let Err(error) = nft::apply(&rules.install()).await {
            resolved::forget().await;
            guard.dismiss().await;
            return Err(error.into());
        }
        tracing::info!(mode = ?sources.options.mode, "connections of this host to services of the mesh come here");
        let mut made = Self { instance, sources, guard, rules, ways: ways::open_ways(), in_vain: Vec::new() };
        made.reach_servers().await;
        Ok(made)
    }

    /// Returns what its rules are called after.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Keeps the rules as they should be until `end`, and takes them away.
    pub(crate) async fn run(mut self, end: impl Future<Output = ()>) {
        let mut looks = interval(LOOK_EVERY);
        let mut check = Instant::now() + CHECK_EVERY;
        let mut end = std::pin::pin!(end);
        let mut settings = self.sources.settings.clone();
        loop {
            let is_due = tokio::select! {
                () = &mut end => break,
                _ = looks.tick() => false,
                Ok(()) = settings.changed() => false,
                () = sleep_until(check) => true,
                () = self.guard.ended() => {
                    self.replace_guard().await;
                    continue;
                }
            };
            if is_due {
                check = Instant::now() + CHECK_EVERY;
            }
            self.ways = ways::keep(self.ways).await;
            match self.renew(is_due).await {
                Ok(true) => self.reach_servers().await,
                Ok(false) => {
                    tracing::info!("another proxy intercepts on this host from now on");
                    break;
                }
                Err(error) => tracing::error!(%error, "the rules for interception could not be renewed"),
            }
        }
        if !guard::withdraw(&self.instance).await {
            tracing::debug!("the rules for interception were not this proxy's any more");
        }
        self.guard.dismiss().await;
    }

    /// Makes ways to the name servers whose questions are led here, unless that was tried in vain.
    async fn reach_servers(&mut self) {
        let Some((_, servers)) = &self.rules.names else { return };
        if ways::missing_to(servers) != self.in_vain {
            self.in_vain = ways::open_to(servers).await;
        }
    }

    /// Installs the rules again if they should be others, or, with `check`, if they are gone; returns whether they are still
    /// this proxy's. Rules that another proxy has made its own are left alone.
    async fn renew(&mut self, check: bool) -> Result<bool, Error> {
        let wanted = self.sources.rules(&self.instance);
        if !check && wanted == self.rules {
            return Ok(true);
        }
        match nft::table(intercept::TABLE).await? {
            Some(text) if !text.contains(&self.instance) => return Ok(false),
            Some(_) if wanted == self.rules => return Ok(true),
            Some(_) => {}
            None => {
                tracing::warn!("somebody has removed the rules for interception; they are installed again");
                ways::open().await;
            }
        }
        nft::apply(&wanted.install()).await?;
        if wanted.names != self.rules.names {
            // Other servers are asked by now: what leads to these is made anew.
            ways::close_to_servers().await;
        }
        self.rules = wanted;
        Ok(true)
    }

    async fn replace_guard(&mut self) {
        tokio::time::sleep(GUARD_PAUSE).await;
        match Guard::post(&self.instance, self.sources.options.mode) {
            Ok(guard) => self.guard = guard,
            Err(error) => tracing::error!(%error, "nobody stands by to remove the rules for interception"),
        }
    }
}
