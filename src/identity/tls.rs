//! Handshakes: between proxies (both ends proven), and with control planes. TLS 1.3 only; the only file that builds TLS
//! configurations. They are built once for each wallet, and session caches live and die with them.
//!
//! A resumed session skips the verifiers, so every handshake, full or resumed, ends with asking the judge about the
//! certificate again: expiry, bans and the bundle count as of now.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use data_encoding::HEXLOWER;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::target::Target;
use crate::identity::verifier::{
    ClientVerifier, Distrust, Judge, Lateness, Meet, Peer, PinVerifier, ServerVerifier,
};
use crate::identity::wallet::Wallet;
use crate::model::identity::{SpiffeId, Subject};
use crate::model::name::{NodeName, ServiceName};
use crate::net::clock;

/// A handshake that takes longer is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Sessions remembered by a server; each takes about a kilobyte.
const SERVER_SESSIONS_MAX: usize = 4_096;
/// Servers whose sessions a client remembers.
const CLIENT_SESSIONS_MAX: usize = 1_024;
const ALPN_HTTP: &[u8] = b"mesh-h2/1";
const ALPN_TCP: &[u8] = b"mesh-tcp/1";

/// What a connection between proxies carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// Many HTTP exchanges, multiplexed: `mesh-h2/1`.
    Http,
    /// The bytes of one TCP connection: `mesh-tcp/1`.
    Tcp,
}

impl Alpn {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Http => ALPN_HTTP,
            Self::Tcp => ALPN_TCP,
        }
    }
}

/// Why there is no connection. Nothing was sent on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handshake failed: the other end refused us, is not trusted, or speaks something else.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[from] std::io::Error),
    /// It took too long.
    #[error("the TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    /// The other end is not trusted, found out after the handshake.
    #[error("the other end is not trusted: {0}")]
    Distrust(#[from] Distrust),
    /// This process cannot prove to be what it should speak as.
    #[error("this node holds no certificate for {0}")]
    NoIdentity(Subject),
    /// The other end asked for no service, or for nothing that is carried here.
    #[error("the other end asked for nothing that is carried here")]
    NoTarget,
    /// The configuration was refused by the TLS library.
    #[error("the TLS library refused: {0}")]
    Library(#[from] rustls::Error),
}

/// An accepted connection from another proxy.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub stream: server::TlsStream<TcpStream>,
    /// Who called.
    pub peer: Peer,
    /// The service that was asked for.
    pub target: ServiceName,
    /// The port of the instance that was asked for.
    pub port: u16,
    /// What is carried.
    pub alpn: Alpn,
}

/// A connection to another proxy.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub stream: client::TlsStream<TcpStream>,
    /// Who answered.
    pub peer: Peer,
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
    /// End of the certificate's validity, Unix milliseconds: what the connection may do ends with it.
    pub not_after_ms: u64,
    /// Whether the certificate has expired: it may renew, and nothing else.
    pub expired: bool,
}

/// Returns the cryptography of the mesh: TLS 1.3 suites, AES-128-GCM first, and hybrid post-quantum key exchange first.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

/// Something built out of a wallet, and built again when the wallet was replaced.
struct PerWallet<T> {
    wallet: watch::Receiver<Arc<Wallet>>,
    built: ArcSwapOption<(Arc<Wallet>, T)>,
}

impl<T> PerWallet<T> {
    fn new(wallet: watch::Receiver<Arc<Wallet>>) -> Self {
        Self { wallet, built: ArcSwapOption::empty() }
    }

    fn get(
        &self,
        build: impl FnOnce(&Arc<Wallet>) -> Result<T, Error>,
    ) -> Result<Arc<(Arc<Wallet>, T)>, Error> {
        let wallet = self.wallet.borrow().clone();
        if let Some(built) = self.built.load_full().filter(|built| Arc::ptr_eq(&built.0, &wallet)) {
            return Ok(built);
        }
        let built = Arc::new((wallet.clone(), build(&wallet)?));
        self.built.store(Some(built.clone()));
        Ok(built)
    }
}

/// Runs a handshake within its deadline.
async fn in_time<T>(handshake: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    Ok(timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| Error::Timeout)??)
}

// --- between proxies ------------------------------------------------------------------------------------------------

/// Accepts connections from other proxies.
pub struct Acceptor {
    side: PerWallet<ServerSide>,
    reuse: bool,
}

struct ServerSide {
    config: Arc<ServerConfig>,
    judge: Arc<Judge>,
}

/// Shows the SVID of the service that is asked for.
#[derive(Debug)]
struct ByServerName(Arc<Wallet>);

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let target = Target::parse(hello.server_name()?)?;
        self.0.svid(&Subject::Service(target.service)).map(|svid| svid.certified())
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("reuse", &self.reuse).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Makes an acceptor for whatever the wallet holds. Without `reuse` every connection is a full handshake.
    pub fn new(wallet: watch::Receiver<Arc<Wallet>>, reuse: bool) -> Self {
        Self { side: PerWallet::new(wallet), reuse }
    }

    fn build(&self, wallet: &Arc<Wallet>) -> Result<ServerSide, Error> {
        let provider = provider();
        let judge = Arc::new(Judge::new(wallet));
        let verifier = ClientVerifier {
            judge: judge.clone(),
            mandatory: true,
            lateness: Lateness::Refused,
            provider: provider.clone(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(ByServerName(wallet.clone())));
        config.alpn_protocols = vec![ALPN_HTTP.to_vec(), ALPN_TCP.to_vec()];
        if self.reuse {
            config.session_storage = ServerSessionMemoryCache::new(SERVER_SESSIONS_MAX);
            config.send_tls13_tickets = 1;
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(ServerSide { config: Arc::new(config), judge })
    }

    /// Shakes hands with whoever connected.
    ///
    /// # Errors
    /// When the handshake fails or the other end is not trusted: the connection is closed.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, Error> {
        let built = self.side.get(|wallet| self.build(wallet))?;
        let side = &built.1;
        let stream = in_time(TlsAcceptor::from(side.config.clone()).accept(stream)).await?;
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        let peer = side.judge.judge(chain, clock::wall_ms(), Lateness::Refused)?;
        let target = connection.server_name().and_then(Target::parse).ok_or(Error::NoTarget)?;
        let alpn = match connection.alpn_protocol() {
            Some(ALPN_HTTP) => Alpn::Http,
            Some(ALPN_TCP) => Alpn::Tcp,
            Some(_) | None => return Err(Error::NoTarget),
        };
        Ok(Accepted { peer, target: target.service, port: target.port, alpn, stream })
    }
}

/// Connects to other proxies.
pub struct Connector {
    side: PerWallet<ClientSide>,
    reuse: bool,
}

struct ClientSide {
    judge: Arc<Judge>,
    configs: Mutex<BTreeMap<(Subject, Alpn), Arc<ClientConfig>>>,
}

/// Shows one SVID, whoever asks.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("reuse", &self.reuse).finish_non_exhaustive()
    }
}

impl Connector {
    /// Makes a connector that speaks as whatever the wallet holds. Without `reuse` no session is resumed.
    pub fn new(wallet: watch::Receiver<Arc<Wallet>>, reuse: bool) -> Self {
        Self { side: PerWallet::new(wallet), reuse }
    }

    /// Speaking as `source`, shakes hands over `stream` with the proxy of an instance of `target` on `port`.
    ///
    /// # Errors
    /// When `source` is not held here, the handshake fails, or the other end is not that service.
    pub async fn connect(
        &self,
        source: &Subject,
        target: &ServiceName,
        port: u16,
        alpn: Alpn,
        stream: TcpStream,
    ) -> Result<Connected, Error> {
        let build = |wallet: &Arc<Wallet>| {
            Ok(ClientSide { judge: Arc::new(Judge::new(wallet)), configs: Mutex::default() })
        };
        let built = self.side.get(build)?;
        let (wallet, side) = (&built.0, &built.1);
        let config = self.config(wallet, side, source, alpn)?;
        let name = Target { service: target.clone(), port }.to_server_name().ok_or(Error::NoTarget)?;
        let stream = in_time(TlsConnector::from(config).connect(name.clone(), stream)).await?;
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        let peer = side.judge.judge(chain, clock::wall_ms(), Lateness::Refused)?;
        Meet::Service.check(&peer, &name)?;
        if connection.alpn_protocol() != Some(alpn.bytes()) {
            return Err(Error::NoTarget);
        }
        Ok(Connected { stream, peer })
    }

    fn config(
        &self,
        wallet: &Wallet,
        side: &ClientSide,
        source: &Subject,
        alpn: Alpn,
    ) -> Result<Arc<ClientConfig>, Error> {
        let mut configs = side.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&(source.clone(), alpn)) {
            return Ok(config.clone());
        }
        let mut config = client_config(wallet, &side.judge, source, Meet::Service)?;
        config.alpn_protocols = vec![alpn.bytes().to_vec()];
        config.resumption = if self.reuse {
            Resumption::in_memory_sessions(CLIENT_SESSIONS_MAX)
        } else {
            Resumption::disabled()
        };
        let config = Arc::new(config);
        configs.insert((source.clone(), alpn), config.clone());
        Ok(config)
    }
}

fn client_config(
    wallet: &Wallet,
    judge: &Arc<Judge>,
    source: &Subject,
    meet: Meet,
) -> Result<ClientConfig, Error> {
    let svid = wallet.svid(source).ok_or_else(|| Error::NoIdentity(source.clone()))?;
    let provider = provider();
    let verifier = ServerVerifier { judge: judge.clone(), meet, provider: provider.clone() };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Always(svid.certified()))))
}

// --- with control planes --------------------------------------------------------------------------------------------

/// Accepts connections to a control plane's API, from proxies, operators, and nodes that have no certificate yet.
pub struct ApiAcceptor {
    side: PerWallet<ServerSide>,
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
        Self { side: PerWallet::new(wallet), serving }
    }

    fn build(&self, wallet: &Arc<Wallet>) -> Result<ServerSide, Error> {
        let svid = wallet.svid(&self.serving).ok_or_else(|| Error::NoIdentity(self.serving.clone()))?;
        let certified = svid.certified();
        let chain: Vec<CertificateDer<'static>> =
            svid.chain().iter().chain(&wallet.bundle).cloned().collect();
        let shown = Arc::new(CertifiedKey::new(chain, certified.key.clone()));
        let provider = provider();
        let judge = Arc::new(Judge::new(wallet));
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
        Ok(ServerSide { config: Arc::new(config), judge })
    }

    /// Shakes hands; returns who called, `None` for a caller without a certificate.
    ///
    /// # Errors
    /// When the handshake fails or the certificate shown is not of this mesh: the connection is closed.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<TcpStream>, Option<ApiPeer>), Error> {
        let built = self.side.get(|wallet| self.build(wallet))?;
        let side = &built.1;
        let stream = in_time(TlsAcceptor::from(side.config.clone()).accept(stream)).await?;
        let Some(chain) = stream.get_ref().1.peer_certificates().filter(|chain| !chain.is_empty()) else {
            return Ok((stream, None));
        };
        let now_ms = clock::wall_ms();
        let peer = side.judge.judge(chain, now_ms, Lateness::Allowed)?;
        let expired = now_ms > peer.not_after_ms;
        let key = HEXLOWER.encode(&peer.key);
        let peer = ApiPeer { id: peer.id, node: peer.node, key, not_after_ms: peer.not_after_ms, expired };
        Ok((stream, Some(peer)))
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
        let config = client_config(wallet, &Arc::new(Judge::new(wallet)), source, Meet::Control)?;
        Ok(Self::with(config))
    }

    /// Speaks as nobody, and trusts only the control plane of the mesh whose root has this key (SHA-256 of its
    /// SubjectPublicKeyInfo): for joining.
    ///
    /// # Errors
    /// Those of the TLS library.
    pub fn pinned(pin: [u8; 32]) -> Result<Self, Error> {
        let provider = provider();
        let verifier = PinVerifier { pin, provider: provider.clone() };
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
