//! Interception: installs the rules by which connections of this host come here, keeps them as they should be, and takes
//! them away at the end. Until then a [`Guard`] stands by.
//!
//! One proxy of a host intercepts, the one that holds the [`Claim`]: a second one would take the rules away from the first,
//! and with them what `strict` closes. The holder makes them again whoever has changed them, unless that is a process which
//! is taking over from it: such rules are named after the same data directory.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};

use crate::identity::certificate::sha256;
use crate::logic::intercept::{self, Mode, Rules};
use crate::net::claim::{self, Claim};
use crate::net::dns::resolvers::{Resolvers, Upstreams};
use crate::net::{mark, nft, tool};
use crate::proxy::bootstrap::{InterceptOptions, Options, Settings};
use crate::proxy::guard::{self, CLAIM, Guard};
use crate::proxy::names::Names;
use crate::proxy::worker::Addresses;
use crate::proxy::{resolved, ways};

/// How often the host's name servers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the table is looked at, which others may have flushed with everything else: it is back within ten seconds.
const CHECK_EVERY: Duration = Duration::from_secs(8);
/// What its socket is called when it is handed over.
pub(crate) const CLAIM_SOCKET: &str = "intercept";
/// Bytes of the digest of a data directory that rules are named after.
const FAMILY_BYTES: usize = 4;
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
    /// Another proxy does.
    #[error(
        "another proxy intercepts on this host already ({who}), and only one can: start this one with --intercept off, or \
         stop that one first, with 'systemctl stop mesh-proxy' or {stop}"
    )]
    Claimed {
        /// Its process and its data directory.
        who: String,
        /// How it is ended by hand.
        stop: String,
    },
    /// The right to intercept cannot be had.
    #[error("--intercept: it cannot be found out whether another proxy intercepts on this host: {0}")]
    Claim(#[source] std::io::Error),
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
    /// The proxy's data directory, after which its rules are named.
    pub(crate) data_dir: PathBuf,
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
    /// Whether `nft` writes the table in as many lines as it is told: then it is seen when some are missing.
    is_comparable: bool,
    /// Whether a process that takes over was found to have made the table, when that was looked at last.
    has_heir: bool,
    /// Which ways to virtual addresses are open.
    ways: (bool, bool),
    /// Ways to name servers that could not be made.
    in_vain: Vec<Vec<String>>,
}

/// Why the rules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Others may be wanted.
    Wanted,
    /// It is time to see whether they are there.
    Time,
    /// A process that was to take over has not.
    Alone,
}

/// Makes sure that this process may intercept and nobody else does, and that questions of this host, its own too, are not led
/// to a name server that is not there yet: rules of a proxy that was killed may still be in force, unless this one takes over
/// from one that runs and does not come `alone`. That one's claim comes with its sockets; `None` is returned where somebody
/// else has taken the name of the claim.
///
/// # Errors
/// When it may not, another proxy intercepts, or the host lacks the tool.
pub(crate) async fn prepare(
    alone: bool,
    kept: Option<OwnedFd>,
    data_dir: &Path,
) -> Result<Option<Claim>, Error> {
    mark::begin();
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|_| Error::NotAllowed)?;
    mark::apply(&socket).map_err(|_| Error::NotAllowed)?;
    let claim = claim(kept, data_dir).await?;
    if alone {
        match nft::apply(&intercept::release_names()).await {
            Ok(()) | Err(tool::Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ways::open().await;
    Ok(claim)
}

async fn claim(kept: Option<OwnedFd>, data_dir: &Path) -> Result<Option<Claim>, Error> {
    let words = format!("{}", absolute(data_dir).display());
    if let Some(kept) = kept {
        return Claim::inherit(kept, &words).map(Some).map_err(Error::Claim);
    }
    match Claim::take(CLAIM, &words).await {
        Ok(claim) => Ok(Some(claim)),
        Err(claim::Error::Held { pid, words }) => {
            let process = match pid {
                0 => "a process of another container".to_owned(),
                pid => format!("process {pid}"),
            };
            let who = if words.is_empty() { process } else { format!("{process}, data directory {words}") };
            let stop = if pid == 0 { "in that container".to_owned() } else { format!("'kill {pid}'") };
            Err(Error::Claimed { who, stop })
        }
        // Anybody could keep a host from intercepting, and so from being strict, if that counted.
        Err(claim::Error::Stranger(pid)) => {
            tracing::warn!(
                pid,
                "a process that may not intercept has taken the name @{CLAIM}: a second proxy would not be noticed"
            );
            Ok(None)
        }
        Err(claim::Error::Io(error)) => Err(Error::Claim(error)),
    }
}

/// Counts what a table consists of: one line is one rule, or the beginning of a chain.
fn size(table: &str) -> usize {
    table.lines().filter(|line| !matches!(line.trim(), "" | "}")).count()
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Returns what the names of all rules of proxies with this data directory begin with.
fn family(data_dir: &Path) -> String {
    let digest = sha256(absolute(data_dir).as_os_str().as_encoded_bytes());
    HEXLOWER.encode(digest.get(..FAMILY_BYTES).unwrap_or_default())
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
        data_dir: options.data_dir.clone(),
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
        data_dir: options.data_dir.clone(),
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
        let instance = format!("{}{:016x}", family(&sources.data_dir), rand::random::<u64>());
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
        let listing = nft::table(intercept::TABLE).await.ok().flatten();
        let mut made = Self {
            instance,
            sources,
            guard,
            is_comparable: listing.is_some_and(|listing| size(&listing) == size(&rules.to_string())),
            rules,
            has_heir: false,
            ways: ways::open_ways(),
            in_vain: Vec::new(),
        };
        made.reach_servers().await;
        Ok(made)
    }

    /// Returns what its rules are called after.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Keeps the rules as they should be until `end`, and takes them away. `failures` tells of processes that were to take over
    /// and have not.
    pub(crate) async fn run(
        mut self,
        mut failures: watch::Receiver<Option<String>>,
        end: impl Future<Output = ()>,
    ) {
        let mut looks = interval(LOOK_EVERY);
        let mut check = Instant::now() + CHECK_EVERY;
        let mut end = std::pin::pin!(end);
        let mut settings = self.sources.settings.clone();
        loop {
            let look = tokio::select! {
                () = &mut end => break,
                _ = looks.tick() => Look::Wanted,
                Ok(()) = settings.changed() => Look::Wanted,
                Ok(()) = failures.changed() => Look::Alone,
                () = sleep_until(check) => Look::Time,
                () = self.guard.ended() => {
                    self.replace_guard().await;
                    continue;
                }
            };
            if look != Look::Wanted {
                check = Instant::now() + CHECK_EVERY;
            }
            self.ways = ways::keep(self.ways).await;
            match self.renew(look).await {
                Ok(()) => self.reach_servers().await,
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

    /// Installs the rules again if they should be others, or are not as they were made.
    async fn renew(&mut self, look: Look) -> Result<(), Error> {
        let wanted = self.sources.rules(&self.instance);
        if look == Look::Wanted && wanted == self.rules {
            return Ok(());
        }
        let found = nft::table(intercept::TABLE).await?;
        let is_own = found.as_ref().is_some_and(|text| text.contains(&self.instance));
        let is_whole = !self.is_comparable
            || found.as_ref().is_some_and(|text| size(text) == size(&self.rules.to_string()));
        let family = intercept::chain(&family(&self.sources.data_dir));
        if !is_own && look != Look::Alone && found.as_ref().is_some_and(|text| text.contains(&family)) {
            // Just before it gets the traffic, and then this process ends intercepting; or it never gets it.
            if !std::mem::replace(&mut self.has_heir, true) {
                return Ok(());
            }
        } else if wanted == self.rules && is_own && is_whole {
            return Ok(());
        }
        self.has_heir = false;
        match &found {
            None => {
                tracing::warn!("somebody has removed the rules for interception; they are installed again");
                ways::open().await;
            }
            Some(_) if !is_own => {
                tracing::warn!(
                    "somebody has put others in the place of the rules for interception; they are installed again"
                );
            }
            Some(_) if !is_whole => {
                tracing::warn!("somebody has changed the rules for interception; they are installed again");
            }
            Some(_) => {}
        }
        nft::apply(&wanted.install()).await?;
        if wanted.names != self.rules.names {
            // Other servers are asked by now: what leads to these is made anew.
            ways::close_to_servers().await;
        }
        self.rules = wanted;
        Ok(())
    }

    async fn replace_guard(&mut self) {
        tokio::time::sleep(GUARD_PAUSE).await;
        match Guard::post(&self.instance, self.sources.options.mode) {
            Ok(guard) => self.guard = guard,
            Err(error) => tracing::error!(%error, "nobody stands by to remove the rules for interception"),
        }
    }
}
