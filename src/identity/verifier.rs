//! Who is at the other end: certificate chains against the bundle, leaves against `logic::pki::trust`.
//!
//! The verifiers below are asked by the TLS library in full handshakes only. A resumed session skips them, so
//! `identity::tls` asks the [`Judge`] again after every handshake; chains that were verified lately are remembered by
//! the hash of the leaf, which makes asking twice cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::identity::certificate::{Certificate, Unreadable, sha256};
use crate::identity::svid::Svid;
use crate::identity::wallet::Wallet;
use crate::logic::pki::trust::{self, Bearer, Flaw, Leaf};
use crate::model::identity::{SpiffeId, Subject, TrustDomain};
use crate::model::name::NodeName;
use crate::net::clock;

/// Verified chains that are remembered.
const KNOWN_MAX: usize = 1_024;
/// After so long a remembered chain is verified again.
const KNOWN_FOR_MS: u64 = 600_000;

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
    /// End of the certificate's validity, Unix milliseconds: the connection must not outlive it.
    pub not_after_ms: u64,
    /// SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key: [u8; 32],
}

/// Judges certificates by one wallet.
pub(crate) struct Judge {
    roots: Vec<TrustAnchor<'static>>,
    trust_domain: Option<TrustDomain>,
    banned: BTreeSet<NodeName>,
    known: Mutex<BTreeMap<[u8; 32], Known>>,
}

#[derive(Clone)]
struct Known {
    leaf: Leaf,
    key: [u8; 32],
    verified_ms: u64,
}

/// Whether time may have run out on a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// Expired certificates are refused.
    Refused,
    /// They are judged as of their last moment: for renewals after long downtime.
    Allowed,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

fn anchors(bundle: &[CertificateDer<'_>]) -> Vec<TrustAnchor<'static>> {
    let read = |root| anchor_from_trusted_cert(root).ok().map(|anchor: TrustAnchor<'_>| anchor.to_owned());
    bundle.iter().filter_map(read).collect()
}

impl Judge {
    /// Makes the judge of a wallet. Roots that cannot be read are trusted by nobody.
    pub(crate) fn new(wallet: &Wallet) -> Self {
        Self {
            roots: anchors(&wallet.bundle),
            trust_domain: Some(wallet.trust_domain.clone()),
            banned: wallet.banned.clone(),
            known: Mutex::default(),
        }
    }

    /// Makes a judge that trusts one root and any trust domain: for a node that has not joined yet.
    pub(crate) fn pinned(root: &CertificateDer<'_>) -> Self {
        Self {
            roots: anchors(std::slice::from_ref(root)),
            trust_domain: None,
            banned: BTreeSet::new(),
            known: Mutex::default(),
        }
    }

    /// Judges the chain (leaf first) that the other end showed.
    ///
    /// # Errors
    /// The first reason not to trust it.
    pub(crate) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        now_ms: u64,
        lateness: Lateness,
    ) -> Result<Peer, Distrust> {
        let (first, intermediates) = chain.split_first().ok_or(Distrust::Nothing)?;
        let hash = sha256(first);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let known = match known {
            Some(known) if now_ms.abs_diff(known.verified_ms) < KNOWN_FOR_MS => known,
            Some(_) | None => {
                let verified = self.verify(first, intermediates, now_ms, lateness)?;
                self.remember(hash, verified.clone());
                verified
            }
        };
        let at_ms = judged_at(&known.leaf, now_ms, lateness);
        let Bearer { id, node } = trust::judge(&known.leaf, self.trust_domain.as_ref(), &self.banned, at_ms)?;
        Ok(Peer { id, node, not_after_ms: known.leaf.not_after_ms, key: known.key })
    }

    /// Verifies the chain of signatures up to a root.
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
        entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.roots,
                intermediates,
                time,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(broken)?;
        Ok(Known { key: sha256(&certificate.public), leaf: certificate.leaf, verified_ms: now_ms })
    }

    fn remember(&self, hash: [u8; 32], known: Known) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
    Judge::new(wallet).judge(svid.chain(), now_ms, Lateness::Refused).map(drop)
}

fn judged_at(leaf: &Leaf, now_ms: u64, lateness: Lateness) -> u64 {
    match lateness {
        Lateness::Refused => now_ms,
        Lateness::Allowed => now_ms.min(leaf.not_after_ms),
    }
}

/// Returns why the TLS library should refuse; the alert it sends tells the other end little, and is meant to.
fn refuse(distrust: &Distrust) -> rustls::Error {
    tracing::debug!(%distrust, "certificate refused");
    match distrust {
        Distrust::Nothing => rustls::Error::NoCertificatesPresented,
        Distrust::Unreadable(_) => CertificateError::BadEncoding.into(),
        Distrust::Flaw(Flaw::Expired) => CertificateError::Expired.into(),
        Distrust::Flaw(Flaw::Early) => CertificateError::NotValidYet.into(),
        Distrust::Flaw(Flaw::Banned(_)) => CertificateError::Revoked.into(),
        Distrust::Chain(_) => CertificateError::UnknownIssuer.into(),
        Distrust::Flaw(_) | Distrust::Somebody { .. } => {
            CertificateError::ApplicationVerificationFailure.into()
        }
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
        let peer =
            self.judge.judge(&chain, clock::wall_ms(), Lateness::Refused).map_err(|error| refuse(&error))?;
        self.meet.check(&peer, server_name).map_err(|error| refuse(&error))?;
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
            return Err(refuse(&Distrust::Chain("its root is not the one that the token pins".to_owned())));
        };
        let chain = chain_of(end_entity, intermediates);
        let peer = Judge::pinned(root).judge(&chain, clock::wall_ms(), Lateness::Refused);
        peer.and_then(|peer| Meet::Control.check(&peer, server_name)).map_err(|error| refuse(&error))?;
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
        self.judge.judge(&chain, clock::wall_ms(), self.lateness).map_err(|error| refuse(&error))?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
