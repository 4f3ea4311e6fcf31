//! Handshakes: between proxies (both ends proven), and with control planes. TLS 1.3 only; the only file that builds TLS
//! configurations. They are made once for each wallet. Sessions and tickets live as long as roots and bans stay the same;
//! with control planes there are none.
//!
//! A resumed session skips the verifiers, so every handshake, full or resumed, ends with asking the judge about the
//! certificate again: expiry, bans and the bundle count as of now.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwapOption;
use data_encoding::HEXLOWER;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::handshake::{HANDSHAKE_TIMEOUT, Time, complete, provider, shake, tickets};
use crate::identity::secret::Overheard;
use crate::identity::stream::TlsStream;
use crate::identity::svid::Svid;
use crate::identity::target::Target;
use crate::identity::verifier::{
    ClientVerifier, Clock, Distrust, Judge, Lateness, Meet, Peer, PinVerifier, ServerVerifier, refused,
    wall_clock,
};
use crate::identity::wallet::Wallet;
use crate::logic::pki::trust::Flaw;
use crate::model::identity::{SpiffeId, Subject};
use crate::model::name::{NodeName, ServiceName};
use crate::net::clock;

/// One ticket for each handshake: a resumed one brings the next.
const TICKETS_PER_HANDSHAKE: usize = 1;
/// Sessions that a client remembers for each of its identities and each address.
const CLIENT_SESSIONS_MAX: usize = 64;
/// Addresses that each identity remembers sessions of; beyond it they are all forgotten.
const CLIENT_ADDRESSES_MAX: usize = 1_024;
/// The protocol between proxies (ALPN): many HTTP exchanges and TCP connections over one connection.
const LINK: &[u8] = b"mesh-link/1";

/// Why there is no connection. Nothing was sent on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handshake failed: the other end refused us, or speaks something else.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    /// It took too long.
    #[error("the TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    /// The other end is not trusted.
    #[error("the other end is not trusted: {0}")]
    Distrust(#[from] Distrust),
    /// This process cannot prove to be what it should speak as.
    #[error("this node holds no certificate for {0}")]
    NoIdentity(Subject),
    /// What this process should speak as has expired: it is being renewed.
    #[error("this node's certificate for {0} has expired")]
    Expired(Subject),
    /// The other end asked for no service, or for nothing that is carried here.
    #[error("the other end asked for nothing that is carried here")]
    NoTarget,
    /// The configuration was refused by the TLS library.
    #[error("the TLS library refused: {0}")]
    Library(#[from] rustls::Error),
}

impl Error {
    /// Whether the other end showed who it is and is not whom we meant: asking again will not help. That a certificate is
    /// not valid now may be the fault of either clock.
    pub fn is_distrust(&self) -> bool {
        match self {
            Self::Distrust(reason) => !matches!(reason, Distrust::Flaw(Flaw::Early | Flaw::Expired)),
            Self::Handshake(error) => {
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
                matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
            }
            Self::Timeout | Self::NoIdentity(_) | Self::Expired(_) | Self::NoTarget | Self::Library(_) => {
                false
            }
        }
    }
}

/// An accepted connection from another proxy.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub stream: TlsStream,
    /// Who called.
    pub peer: Peer,
    /// The service that was asked for.
    pub target: ServiceName,
    /// The port of the instance that was asked for.
    pub port: u16,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A connection to another proxy.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub stream: TlsStream,
    /// Who answered.
    pub peer: Peer,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A connection to a control plane's API, seen from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPeer {
    /// Its identity.
    pub id: SpiffeId,
    /// The node the certificate was issued to.
    pub node: NodeName,
    /// SHA-256 of its public key, hexadecimal.
    pub key: String,
    /// Beginning of the certificate's validity, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of the certificate's validity, Unix milliseconds: what the connection may do ends with it.
    pub not_after_ms: u64,
    /// Whether the certificate has expired, or is not valid yet: it may renew, and nothing else.
    pub expired: bool,
}

/// Something made from a wallet, and made again when the wallet was replaced.
struct PerWallet<T> {
    wallet: watch::Receiver<Arc<Wallet>>,
    clock: Clock,
    newest: ArcSwapOption<Made<T>>,
    /// Held while one is made, so that it is made once.
    making: Mutex<()>,
}

/// What was made from one wallet.
struct Made<T> {
    wallet: Arc<Wallet>,
    judge: Arc<Judge>,
    what: T,
}

impl<T> PerWallet<T> {
    fn new(wallet: watch::Receiver<Arc<Wallet>>, clock: Clock) -> Self {
        Self { wallet, clock, newest: ArcSwapOption::empty(), making: Mutex::new(()) }
    }

    /// Returns the one for the wallet of this moment. `make` is given the one before as well, with its judge, unless
    /// roots or bans have changed since: then whatever was remembered about others is void.
    fn get(
        &self,
        make: impl FnOnce(&Arc<Wallet>, &Arc<Judge>, Option<&T>) -> Result<T, Error>,
    ) -> Result<Arc<Made<T>>, Error> {
        let is_newest = |made: &Arc<Made<T>>| Arc::ptr_eq(&made.wallet, &self.wallet.borrow());
        if let Some(made) = self.newest.load_full().filter(is_newest) {
            return Ok(made);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.newest.load_full();
        if let Some(made) = old.clone().filter(is_newest) {
            return Ok(made);
        }
        let wallet = self.wallet.borrow().clone();
        let kept = old.as_deref().filter(|old| old.wallet.trusts_like(&wallet));
        let judge = match kept {
            Some(made) => made.judge.clone(),
            None => Arc::new(Judge::new(&wallet, self.clock.clone())),
        };
        let what = make(&wallet, &judge, kept.map(|made| &made.what))?;
        let made = Arc::new(Made { wallet, judge, what });
        self.newest.store(Some(made.clone()));
        Ok(made)
    }
}

/// Runs a handshake within its deadline; says which certificate was refused, and why, where that ended it.
async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    complete(handshake).await.ok_or(Error::Timeout)?.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.and_then(refused).map_or_else(|| Error::Handshake(error), Error::Distrust)
    })
}

// --- between proxies ------------------------------------------------------------------------------------------------

/// One end of the connections between proxies, for whatever the wallet holds.
pub struct End<T> {
    side: PerWallet<T>,
    reuse: bool,
}

/// Accepts connections from other proxies.
pub type Acceptor = End<Arc<ServerConfig>>;

/// Connects to other proxies.
pub type Connector = End<Sources>;

impl<T> fmt::Debug for End<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("reuse", &self.reuse).finish_non_exhaustive()
    }
}

impl<T> End<T> {
    /// Makes an end that speaks as whatever the wallet holds. Without `reuse` every connection is a full handshake.
    pub fn new(wallet: watch::Receiver<Arc<Wallet>>, reuse: bool) -> Self {
        Self::with_clock(wallet, reuse, wall_clock())
    }

    /// As [`Self::new`], by another clock than this host's.
    pub fn with_clock(wallet: watch::Receiver<Arc<Wallet>>, reuse: bool, clock: Clock) -> Self {
        Self { side: PerWallet::new(wallet, clock), reuse }
    }
}

/// Shows the SVID of the service that is asked for, and remembers which that was: rustls does not tell of a connection that
/// we read and write ourselves.
#[derive(Debug)]
struct ByServerName {
    wallet: Arc<Wallet>,
    target: OnceLock<Target>,
}

impl ByServerName {
    fn new(wallet: &Arc<Wallet>) -> Arc<Self> {
        Arc::new(Self { wallet: wallet.clone(), target: OnceLock::new() })
    }
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = Target::parse(hello.server_name()?)?;
        let target = self.target.get_or_init(|| asked);
        self.wallet.svid(&Subject::Service(target.service.clone())).map(|svid| svid.certified())
    }
}

impl Acceptor {
    /// Other roots or bans make the tickets given so far useless; a renewed SVID does not.
    fn make(
        &self,
        wallet: &Arc<Wallet>,
        judge: &Arc<Judge>,
        kept: Option<&Arc<ServerConfig>>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let provider = provider();
        let verifier = ClientVerifier {
            judge: judge.clone(),
            mandatory: true,
            lateness: Lateness::Refused,
            provider: provider.clone(),
        };
        let time = Arc::new(Time(self.side.clock.clone()));
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(ByServerName::new(wallet));
        config.enable_secret_extraction = true;
        config.alpn_protocols = vec![LINK.to_vec()];
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if self.reuse {
            config.ticketer = match kept {
                Some(config) => config.ticketer.clone(),
                None => tickets(shortest_life_ms(wallet))?,
            };
            config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        }
        Ok(Arc::new(config))
    }

    fn side(&self) -> Result<Arc<Made<Arc<ServerConfig>>>, Error> {
        self.side.get(|wallet, judge, kept| self.make(wallet, judge, kept))
    }

    /// Shakes hands with whoever connected.
    ///
    /// # Errors
    /// When the handshake fails or the other end is not trusted: the connection is closed.
    pub async fn accept(&self, mut stream: TcpStream) -> Result<Accepted, Error> {
        let side = self.side()?;
        let asked = ByServerName::new(&side.wallet);
        let mut config = side.what.as_ref().clone();
        config.cert_resolver = asked.clone();
        let overheard = Arc::<Overheard>::default();
        config.key_log = overheard.clone();
        let mut connection = UnbufferedServerConnection::new(Arc::new(config))?;
        let arrived = in_time(shake(&mut stream, &mut connection)).await?;
        let chain = connection.peer_certificates().unwrap_or_default();
        // By the wallet of this moment: it may have changed since the handshake began, and a resumed session asked nobody.
        let peer = self.side()?.judge.judge(chain, Lateness::Refused)?;
        let target = asked.target.get().cloned().ok_or(Error::NoTarget)?;
        if connection.alpn_protocol() != Some(LINK) {
            return Err(Error::NoTarget);
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let stream = TlsStream::server(stream, connection, (arrived, &overheard))?;
        Ok(Accepted { peer, target: target.service, port: target.port, resumed, stream })
    }
}

/// Returns the life of the shortest certificate held, ms.
fn shortest_life_ms(wallet: &Wallet) -> u64 {
    let lives = wallet.svids.values().map(|svid| svid.not_after_ms.saturating_sub(svid.not_before_ms));
    lives.min().unwrap_or_default()
}

/// The identities to speak as.
pub struct Sources(BTreeMap<Subject, Arc<Source>>);

/// An identity to speak as, with the sessions it remembers.
struct Source {
    svid: Arc<Svid>,
    /// Remembers no sessions.
    config: Arc<ClientConfig>,
    /// By address: instances of one service cannot open each other's tickets.
    with_sessions: RwLock<BTreeMap<SocketAddr, Arc<ClientConfig>>>,
}

impl Source {
    fn new(svid: &Arc<Svid>, judge: &Arc<Judge>, clock: &Clock) -> Result<Self, Error> {
        let mut config = client_config(svid, judge, Meet::Service, clock)?;
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        config.alpn_protocols = vec![LINK.to_vec()];
        Ok(Self { svid: svid.clone(), config: Arc::new(config), with_sessions: RwLock::default() })
    }

    /// Returns the configuration that remembers the sessions with an address.
    fn with_sessions(&self, address: SocketAddr) -> Arc<ClientConfig> {
        let known = self.with_sessions.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        known.unwrap_or_else(|| {
            let mut all = self.with_sessions.write().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= CLIENT_ADDRESSES_MAX {
                all.clear();
            }
            let make = || {
                let mut config = self.config.as_ref().clone();
                config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS_MAX);
                Arc::new(config)
            };
            all.entry(address).or_insert_with(make).clone()
        })
    }
}

impl Connector {
    /// Other roots or bans forget all sessions, a renewed SVID those of its identity.
    fn make(&self, wallet: &Wallet, judge: &Arc<Judge>, kept: Option<&Sources>) -> Result<Sources, Error> {
        let mut sources = BTreeMap::new();
        for (subject, svid) in &wallet.svids {
            let same = kept.and_then(|kept| kept.0.get(subject));
            let source = match same.filter(|source| Arc::ptr_eq(&source.svid, svid)) {
                Some(source) => source.clone(),
                None => Arc::new(Source::new(svid, judge, &self.side.clock)?),
            };
            sources.insert(subject.clone(), source);
        }
        Ok(Sources(sources))
    }

    fn side(&self) -> Result<Arc<Made<Sources>>, Error> {
        self.side.get(|wallet, judge, kept| self.make(wallet, judge, kept))
    }

    /// Speaking as `source`, shakes hands over `stream` with the proxy of an instance of `target` on `port`.
    ///
    /// A server that refuses our certificate says so after this has returned, with its first bytes (TLS 1.3).
    ///
    /// # Errors
    /// When `source` is not held here, the handshake fails, or the other end is not that service.
    pub async fn connect(
        &self,
        source: &Subject,
        target: &ServiceName,
        port: u16,
        mut stream: TcpStream,
    ) -> Result<Connected, Error> {
        let side = self.side()?;
        let own = side.what.0.get(source).ok_or_else(|| Error::NoIdentity(source.clone()))?;
        if (self.side.clock)() > own.svid.not_after_ms {
            return Err(Error::Expired(source.clone()));
        }
        let name = Target { service: target.clone(), port }.to_server_name().ok_or(Error::NoTarget)?;
        let (config, overheard) = match stream.peer_addr() {
            Ok(address) if self.reuse => (own.with_sessions(address), None),
            Ok(_) | Err(_) => {
                let overheard = Arc::<Overheard>::default();
                let mut config = own.config.as_ref().clone();
                config.key_log = overheard.clone();
                (Arc::new(config), Some(overheard))
            }
        };
        let mut connection = UnbufferedClientConnection::new(config, name.clone())?;
        let arrived = in_time(shake(&mut stream, &mut connection)).await?;
        let chain = connection.peer_certificates().unwrap_or_default();
        let peer = self.side()?.judge.judge(chain, Lateness::Refused)?;
        Meet::Service.check(&peer, &name)?;
        if connection.alpn_protocol() != Some(LINK) {
            return Err(Error::NoTarget);
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let stream = TlsStream::client(stream, connection, (arrived, overheard.as_deref()))?;
        Ok(Connected { stream, peer, resumed })
    }
}

fn client_config(
    svid: &Svid,
    judge: &Arc<Judge>,
    meet: Meet,
    clock: &Clock,
) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = ServerVerifier { judge: judge.clone(), meet, provider: provider.clone() };
    Ok(ClientConfig::builder_with_details(provider, Arc::new(Time(clock.clone())))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified()))))
}

// --- with control planes --------------------------------------------------------------------------------------------

/// Accepts connections to a control plane's API, from proxies, operators, and nodes that have no certificate yet.
pub struct ApiAcceptor {
    side: PerWallet<Arc<ServerConfig>>,
    serving: Subject,
}

impl fmt::Debug for ApiAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiAcceptor").field("serving", &self.serving).finish_non_exhaustive()
    }
}

/// Shows the control plane's SVID with the roots behind it, so that a joining node finds the one it pins.
#[derive(Debug)]
struct WithRoots(Arc<CertifiedKey>);

impl ResolvesServerCert for WithRoots {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ApiAcceptor {
    /// Makes an acceptor that shows the wallet's SVID for `serving`.
    pub fn new(wallet: watch::Receiver<Arc<Wallet>>, serving: Subject) -> Self {
        Self { side: PerWallet::new(wallet, wall_clock()), serving }
    }

    fn make(&self, wallet: &Wallet, judge: &Arc<Judge>) -> Result<Arc<ServerConfig>, Error> {
        let svid = wallet.svid(&self.serving).ok_or_else(|| Error::NoIdentity(self.serving.clone()))?;
        let certified = svid.certified();
        let chain: Vec<CertificateDer<'static>> =
            svid.chain().iter().chain(&wallet.bundle).cloned().collect();
        let shown = Arc::new(CertifiedKey::new(chain, certified.key.clone()));
        let provider = provider();
        let verifier = ClientVerifier {
            judge: judge.clone(),
            mandatory: false,
            lateness: Lateness::Allowed,
            provider: provider.clone(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(WithRoots(shown)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Shakes hands; returns who called, `None` for a caller without a certificate.
    ///
    /// # Errors
    /// When the handshake fails or the certificate shown is not of this mesh: the connection is closed.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<TcpStream>, Option<ApiPeer>), Error> {
        let side = self.side.get(|wallet, judge, _| self.make(wallet, judge))?;
        let stream = in_time(TlsAcceptor::from(side.what.clone()).accept(stream)).await?;
        let Some(chain) = stream.get_ref().1.peer_certificates().filter(|chain| !chain.is_empty()) else {
            return Ok((stream, None));
        };
        let peer = side.judge.judge(chain, Lateness::Allowed)?;
        let expired = !(peer.not_before_ms..=peer.not_after_ms).contains(&clock::wall_ms());
        let key = HEXLOWER.encode(&peer.key);
        let Peer { id, node, not_before_ms, not_after_ms, .. } = peer;
        Ok((stream, Some(ApiPeer { id, node, key, not_before_ms, not_after_ms, expired })))
    }
}

/// How a client of the API finds out that it talks to its control plane.
#[derive(Debug)]
pub struct ApiConnector {
    config: Arc<ClientConfig>,
}

impl ApiConnector {
    /// Speaks as `source`, and trusts the wallet's bundle. An expired SVID will do: the control plane lets it renew.
    ///
    /// # Errors
    /// When `source` is not held.
    pub fn of(wallet: &Wallet, source: &Subject) -> Result<Self, Error> {
        let svid = wallet.svid(source).ok_or_else(|| Error::NoIdentity(source.clone()))?;
        let clock = wall_clock();
        let judge = Arc::new(Judge::new(wallet, clock.clone()));
        Ok(Self::with(client_config(svid, &judge, Meet::Control, &clock)?))
    }

    /// Speaks as nobody, and trusts only the control plane of the mesh whose root has this key (SHA-256 of its
    /// SubjectPublicKeyInfo): for joining.
    ///
    /// # Errors
    /// Those of the TLS library.
    pub fn pinned(pin: [u8; 32]) -> Result<Self, Error> {
        Self::pinned_as_of(pin, Lateness::Refused)
    }

    /// As [`Self::pinned`], whenever the certificates are valid: to hear what time it is there. Nothing secret belongs on it.
    ///
    /// # Errors
    /// Those of the TLS library.
    pub fn pinned_at_any_time(pin: [u8; 32]) -> Result<Self, Error> {
        Self::pinned_as_of(pin, Lateness::Allowed)
    }

    fn pinned_as_of(pin: [u8; 32], lateness: Lateness) -> Result<Self, Error> {
        let provider = provider();
        let verifier = PinVerifier { pin, lateness, provider: provider.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self::with(config))
    }

    fn with(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config) }
    }

    /// Shakes hands with the control plane at `host` (a name or an IP address) over `stream`.
    ///
    /// # Errors
    /// When the handshake fails, or whoever answers is not the mesh's control plane.
    pub async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, Error> {
        // The name only has to be one: who answers is told by its identity.
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::NoTarget)?;
        in_time(TlsConnector::from(self.config.clone()).connect(name, stream)).await
    }
}
