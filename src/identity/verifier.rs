//! Who is at the other end: certificate chains against the bundle, leaves against `logic::pki::trust`.
//!
//! The verifiers below are asked by the TLS library in full handshakes only. A resumed session skips them, so
//! `identity::tls` asks the [`Judge`] again after every handshake; chains that were verified lately are remembered by
//! the hash of the leaf, which makes asking twice cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::identity::certificate::{Certificate, Unreadable, sha256};
use crate::identity::svid::Svid;
use crate::identity::wallet::Wallet;
use crate::logic::pki::trust::{self, Bearer, Flaw, Leaf};
use crate::model::identity::{SpiffeId, Subject, TrustDomain};
use crate::model::name::NodeName;
use crate::net::clock;

/// Most verified leaves that are remembered; beyond it they are verified anew.
const KNOWN_MAX: usize = 4_096;

/// Where the time of day comes from: Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Returns the clock of this process.
pub(crate) fn wall_clock() -> Clock {
    Arc::new(clock::wall_ms)
}

/// Why the other end is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It showed no certificate.
    #[error("no certificate was presented")]
    Nothing,
    /// Its leaf cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Its leaf is no valid SVID here.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// Its chain does not lead to a root that is trusted.
    #[error("the certificate does not come from this mesh: {0}")]
    Chain(String),
    /// It shows no root with the key that the join token pins.
    #[error("this is not the control plane that made the join token: its root has another key")]
    Unpinned,
    /// It is somebody else.
    #[error("expected {expected}, found {found}")]
    Somebody {
        /// Who was called.
        expected: String,
        /// Who answered.
        found: SpiffeId,
    },
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub id: SpiffeId,
    /// The node the certificate was issued to.
    pub node: NodeName,
    /// Beginning of validity of the certificate, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of validity of the certificate, or of one above it, Unix milliseconds: the connection must not outlive it.
    pub not_after_ms: u64,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub key: [u8; 32],
}

/// Judges certificates by one wallet.
pub(crate) struct Judge {
    roots: Vec<Root>,
    anchors: Vec<TrustAnchor<'static>>,
    trust_domain: Option<TrustDomain>,
    banned: BTreeSet<NodeName>,
    known: RwLock<BTreeMap<[u8; 32], Arc<Known>>>,
    clock: Clock,
}

/// The time of a root; the anchor made of it has none. At the same place as that anchor.
#[derive(Debug, Clone, Copy)]
struct Root {
    not_before_ms: u64,
    not_after_ms: u64,
}

/// A leaf whose chain was verified.
struct Known {
    leaf: Leaf,
    key: [u8; 32],
    /// When the first of the certificates above it ends, Unix milliseconds.
    until_ms: u64,
}

/// Whether time may have run out on a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// Certificates that have expired, or are not valid yet, are refused.
    Refused,
    /// They are judged as of the nearest moment of their life: for renewals after long downtime, and after clocks that were
    /// ahead have been set back.
    Allowed,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Judge {
    /// Makes the judge of a wallet. Roots that cannot be read are trusted by nobody.
    pub(crate) fn new(wallet: &Wallet, clock: Clock) -> Self {
        Self {
            trust_domain: Some(wallet.trust_domain.clone()),
            banned: wallet.banned.clone(),
            ..Self::of(&wallet.bundle, clock)
        }
    }

    /// Makes a judge that trusts one root and any trust domain: for a node that has not joined yet.
    pub(crate) fn pinned(root: &CertificateDer<'_>, clock: Clock) -> Self {
        Self::of(std::slice::from_ref(root), clock)
    }

    fn of(bundle: &[CertificateDer<'_>], clock: Clock) -> Self {
        let (mut roots, mut anchors) = (Vec::new(), Vec::new());
        for der in bundle {
            if let (Ok(root), Ok(anchor)) = (Certificate::parse(der), anchor_from_trusted_cert(der)) {
                let Leaf { not_before_ms, not_after_ms, .. } = root.leaf;
                roots.push(Root { not_before_ms, not_after_ms });
                anchors.push(anchor.to_owned());
            }
        }
        let (trust_domain, banned, known) = (None, BTreeSet::new(), RwLock::default());
        Self { roots, anchors, trust_domain, banned, known, clock }
    }

    /// Judges the chain (leaf first) that the other end showed.
    ///
    /// # Errors
    /// The first reason not to trust it.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>], lateness: Lateness) -> Result<Peer, Distrust> {
        let (first, intermediates) = chain.split_first().ok_or(Distrust::Nothing)?;
        let now_ms = (self.clock)();
        let hash = sha256(first);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let known = if let Some(known) = known {
            known
        } else {
            let verified = Arc::new(self.verify(first, intermediates, now_ms, lateness)?);
            self.remember(hash, Arc::clone(&verified));
            verified
        };
        let at_ms = judged_at(&known.leaf, now_ms, lateness);
        let Bearer { id, node } = trust::judge(&known.leaf, self.trust_domain.as_ref(), &self.banned, at_ms)?;
        if at_ms > known.until_ms {
            return Err(Distrust::Chain("a certificate above it has expired".to_owned()));
        }
        let not_after_ms = known.leaf.not_after_ms.min(known.until_ms);
        Ok(Peer { id, node, not_before_ms: known.leaf.not_before_ms, not_after_ms, key: known.key })
    }

    /// Verifies the chain of signatures up to a root.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a new error of the library is one more broken chain")]
    fn verify(
        &self,
        first: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now_ms: u64,
        lateness: Lateness,
    ) -> Result<Known, Distrust> {
        let certificate = Certificate::parse(first)?;
        let at_ms = judged_at(&certificate.leaf, now_ms, lateness);
        let broken = |error: webpki::Error| match error {
            webpki::Error::CertExpired { .. } => Distrust::Flaw(Flaw::Expired),
            webpki::Error::CertNotValidYet { .. } => Distrust::Flaw(Flaw::Early),
            other => Distrust::Chain(other.to_string()),
        };
        let entity = EndEntityCert::try_from(first).map_err(broken)?;
        let time = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
        // Leaves are for both ends or for any use (`trust::judge`), so one usage stands for both.
        let usage = KeyUsage::client_auth();
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let path = entity
            .verify_for_usage(algorithms, &self.anchors, intermediates, time, usage, None, None)
            .map_err(broken)?;
        let place = self.anchors.iter().position(|anchor| anchor == path.anchor());
        let root = place.and_then(|place| self.roots.get(place));
        let root = root.ok_or_else(|| Distrust::Chain("none of its roots signed it".to_owned()))?;
        if at_ms < root.not_before_ms {
            return Err(Flaw::Early.into());
        }
        if at_ms > root.not_after_ms {
            return Err(Flaw::Expired.into());
        }
        let mut until_ms = root.not_after_ms;
        for intermediate in path.intermediate_certificates() {
            until_ms = until_ms.min(Certificate::parse(&intermediate.der())?.leaf.not_after_ms);
        }
        Ok(Known { key: sha256(&certificate.public), leaf: certificate.leaf, until_ms })
    }

    fn remember(&self, hash: [u8; 32], known: Arc<Known>) {
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.insert(hash, known);
    }
}

/// Decides whether our own peers, who trust what we trust, would accept an SVID now.
///
/// # Errors
/// The first reason why not.
pub fn prove(svid: &Svid, wallet: &Wallet, now_ms: u64) -> Result<(), Distrust> {
    Judge::new(wallet, Arc::new(move || now_ms)).judge(svid.chain(), Lateness::Refused).map(drop)
}

fn judged_at(leaf: &Leaf, now_ms: u64, lateness: Lateness) -> u64 {
    match lateness {
        Lateness::Refused => now_ms,
        Lateness::Allowed => now_ms.max(leaf.not_before_ms).min(leaf.not_after_ms),
    }
}

/// Returns why the TLS library should refuse: the alert that says it best where there is one, else the reason itself.
fn refuse(distrust: Distrust) -> rustls::Error {
    match distrust {
        Distrust::Nothing => rustls::Error::NoCertificatesPresented,
        Distrust::Flaw(Flaw::Expired) => CertificateError::Expired.into(),
        Distrust::Flaw(Flaw::Early) => CertificateError::NotValidYet.into(),
        Distrust::Chain(reason) => {
            tracing::debug!(reason, "certificate refused");
            CertificateError::UnknownIssuer.into()
        }
        other @ (Distrust::Unreadable(_)
        | Distrust::Flaw(_)
        | Distrust::Unpinned
        | Distrust::Somebody { .. }) => CertificateError::Other(OtherError(Arc::new(other))).into(),
    }
}

/// Returns why a certificate was refused; `None` for an error about something else.
#[expect(clippy::wildcard_enum_match_arm, reason = "most errors of the library are about something else")]
pub(crate) fn refused(error: &rustls::Error) -> Option<Distrust> {
    match error {
        rustls::Error::NoCertificatesPresented => Some(Distrust::Nothing),
        rustls::Error::InvalidCertificate(CertificateError::Expired) => Some(Flaw::Expired.into()),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet) => Some(Flaw::Early.into()),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some(Distrust::Chain("none of its roots signed it".to_owned()))
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref().cloned()
        }
        rustls::Error::InvalidCertificate(other) => Some(Distrust::Chain(other.to_string())),
        _ => None,
    }
}

/// Who a client wants to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meet {
    /// The service that the server name says.
    Service,
    /// A control plane, whatever the server name says.
    Control,
}

impl Meet {
    /// Returns the error of having met somebody else.
    pub(crate) fn check(self, peer: &Peer, name: &ServerName<'_>) -> Result<(), Distrust> {
        let somebody = |expected: String| Distrust::Somebody { expected, found: peer.id.clone() };
        match (self, &peer.id.subject) {
            (Self::Control, Subject::Control(_)) => Ok(()),
            (Self::Control, _) => Err(somebody("a control plane".to_owned())),
            (Self::Service, found) => match crate::identity::target::Target::from_server_name(name) {
                Some(target) if *found == Subject::Service(target.service.clone()) => Ok(()),
                Some(target) => Err(somebody(target.service.to_string())),
                None => Err(somebody("a service".to_owned())),
            },
        }
    }
}

/// Verifies servers for the TLS library.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) judge: Arc<Judge>,
    pub(crate) meet: Meet,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Verifies clients for the TLS library.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) judge: Arc<Judge>,
    pub(crate) mandatory: bool,
    pub(crate) lateness: Lateness,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Verifies the server that a joining node meets first: some certificate it shows must be the pinned root.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pub(crate) pin: [u8; 32],
    pub(crate) lateness: Lateness,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Joins leaf and intermediates again, as the judge reads them.
fn chain_of<'a>(first: &CertificateDer<'a>, rest: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(first).chain(rest).cloned().collect()
}

/// The part of both verifier traits that is the library's own business.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = chain_of(end_entity, intermediates);
        let peer = self.judge.judge(&chain, Lateness::Refused).map_err(refuse)?;
        self.meet.check(&peer, server_name).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = |der: &&CertificateDer<'_>| {
            Certificate::parse(der).is_ok_and(|certificate| sha256(&certificate.public) == self.pin)
        };
        let Some(root) = intermediates.iter().find(pinned) else {
            return Err(refuse(Distrust::Unpinned));
        };
        let chain = chain_of(end_entity, intermediates);
        let peer = Judge::pinned(root, wall_clock()).judge(&chain, self.lateness);
        peer.and_then(|peer| Meet::Control.check(&peer, server_name)).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain = chain_of(end_entity, intermediates);
        self.judge.judge(&chain, self.lateness).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
