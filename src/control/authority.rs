//! The certificate authority: a root that stays cold, an intermediate that signs, and leaves that last a day.
//!
//! The root (P-256, ten years) has its key in a file of its own, `root/root.key`, apart from the store; it is read only
//! to sign an intermediate. The intermediate (one year, renewed at half its life) is a row of the store. A root brought
//! along signs the first intermediate; its key is not kept, so that it must be brought again for the next one.
//!
//! Leaves are X.509-SVIDs (SPIFFE X509-SVID §§2–5): one URI SAN, cA=false, digitalSignature, server and client
//! authentication. Of a signing request only the public key is taken, once its signature proves possession. The common
//! name is the node's: what bans are about.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::{BASE64, HEXLOWER};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::control::root::{
    self, Brought, ROOT_CERT_FILE, ROOT_DIR, ROOT_KEY_FILE, read_certificate_file, read_key_file, read_root,
    write_file,
};
use crate::gossip::bans::bans_message;
use crate::gossip::pass::pass_message;
use crate::identity::certificate::{Certificate, fingerprint, pem, sha256};
use crate::model::identity::{BACKDATE_MS, SpiffeId, Subject, TrustDomain};
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::snapshot::{BanList, GossipPass};
use crate::net::disk::{self, Db};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const ROOT_MS: u64 = 3653 * DAY_MS;
const INTERMEDIATE_MS: u64 = 365 * DAY_MS;
const LEAF_MS: u64 = DAY_MS;
const INTERMEDIATE_ROW: &[u8] = b"authority/intermediate";
const SERVING_KEY_ROW: &[u8] = b"authority/serving-key";
const SERIAL_BYTES: usize = 16;

/// Why the authority cannot start or sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rows it keeps in the store.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The files of its root.
    #[error(transparent)]
    Root(#[from] root::Error),
    /// A row that is not what it should be, or does not fit its counterpart.
    #[error("the row {row} of the store {reason}")]
    Row {
        /// Which row.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A root brought along to a mesh that has one.
    #[error(
        "this mesh has a root already, another one: --root-cert and --root-key are for the first start, in an empty --data-dir"
    )]
    OtherRoot,
    /// The intermediate must be renewed, and the root's key is elsewhere.
    #[error("the intermediate certificate must be renewed: start once with --root-cert and --root-key")]
    RootElsewhere,
    /// The signing request is not one. Nothing was signed.
    #[error("the signing request for {subject} is not valid: {reason}")]
    Request {
        /// For whom it was.
        subject: Subject,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing was signed.
    #[error("cannot sign: {0}")]
    Signing(String),
}

/// A certificate to sign.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The node that will hold it.
    pub node: &'a NodeName,
    /// Whose it is.
    pub subject: &'a Subject,
    /// Host names and IP addresses it is also good for; only control's own has any.
    pub hosts: &'a [String],
    /// Now, Unix milliseconds.
    pub now_ms: u64,
}

/// A signed certificate. Its serial number must be recorded before it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Leaf, then intermediate: DER.
    pub chain: Vec<Vec<u8>>,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// End of its validity, Unix milliseconds.
    pub not_after_ms: u64,
}

/// The public key of a signing request whose signature was checked.
#[derive(Debug, Clone)]
pub struct Proven {
    key: rcgen::PublicKey,
}

/// What signs.
struct Intermediate {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    /// The same key, for signatures of fixed form.
    fixed: EcdsaKeyPair,
    not_before_ms: u64,
    not_after_ms: u64,
}

/// The row of an intermediate.
#[derive(Serialize, Deserialize)]
struct IntermediateRow {
    certificate: String,
    key: String,
    not_before_ms: u64,
    not_after_ms: u64,
}

/// The authority of one mesh.
pub struct Authority {
    trust_domain: TrustDomain,
    root: Vec<u8>,
    root_not_after_ms: u64,
    root_key: PathBuf,
    intermediate: ArcSwap<Intermediate>,
    serving: KeyPair,
    db: Arc<Db>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// Returns when a certificate of ours was issued whose validity begins at `not_before_ms`, Unix milliseconds.
pub fn issued_ms(not_before_ms: u64) -> u64 {
    not_before_ms.saturating_add(BACKDATE_MS)
}

/// Checks a signing request: its own signature, and that its key is of a kind we sign.
pub fn prove(subject: &Subject, csr: &[u8]) -> Result<Proven, Error> {
    let refused = |reason: String| Error::Request { subject: subject.clone(), reason };
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(|error| refused(error.to_string()))?;
    let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    if kinds.iter().all(|kind| request.public_key.algorithm() != *kind) {
        return Err(refused("its key is none of P-256, P-384 and Ed25519".to_owned()));
    }
    Ok(Proven { key: request.public_key })
}

impl Proven {
    /// Returns the key's fingerprint.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key.subject_public_key_info())
    }
}

impl Authority {
    /// Opens the authority below `data_dir`, or makes it: root, intermediate and serving key. Blocks.
    pub fn open(
        data_dir: &Path,
        db: &Arc<Db>,
        trust_domain: &TrustDomain,
        brought: Option<&Brought>,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let dir = data_dir.join(ROOT_DIR);
        let what = || dir.join(ROOT_CERT_FILE).display().to_string();
        let root = match (read_root(&dir)?, brought) {
            (Some(root), None) => root,
            (None, None) if db.get(INTERMEDIATE_ROW)?.is_some() => {
                let reason = "is missing, though the mesh was founded with one: put it back".to_owned();
                return Err(root::Error::Material { what: what(), reason }.into());
            }
            (None, None) => make_root(&dir, trust_domain, now_ms)?,
            (Some(root), Some(brought)) if root == read_certificate_file(&brought.certificate)? => root,
            (Some(_), Some(_)) => return Err(Error::OtherRoot),
            (None, Some(brought)) => {
                let root = read_certificate_file(&brought.certificate)?;
                read_key_file(&brought.key, &root)?;
                write_file(&dir, ROOT_CERT_FILE, pem(&root).as_bytes(), 0o644)?;
                root
            }
        };
        let root_not_after_ms = Certificate::parse(&root)
            .map_err(|error| root::Error::Material { what: what(), reason: error.to_string() })?
            .leaf
            .not_after_ms;
        let key_file = brought.map_or_else(|| dir.join(ROOT_KEY_FILE), |brought| brought.key.clone());
        let intermediate = match db.get(INTERMEDIATE_ROW)? {
            Some(row) => load_intermediate(&row, &root)?,
            None if !key_file.exists() => return Err(Error::RootElsewhere),
            None => make_intermediate(db, trust_domain, &root, &key_file, now_ms)?,
        };
        let serving = if let Some(row) = db.get(SERVING_KEY_ROW)? {
            key_pair(&row).map_err(|reason| row_error(SERVING_KEY_ROW, reason))?
        } else {
            let key = generate()?;
            db.put(SERVING_KEY_ROW, key.serialized_der())?;
            key
        };
        let authority = Self {
            trust_domain: trust_domain.clone(),
            root,
            root_not_after_ms,
            root_key: key_file,
            intermediate: ArcSwap::from_pointee(intermediate),
            serving,
            db: Arc::clone(db),
        };
        authority.renew_intermediate(now_ms).or_else(|error| authority.outlive(error, now_ms))?;
        Ok(authority)
    }

    /// A renewal that fails is fatal only once the old intermediate no longer serves.
    fn outlive(&self, error: Error, now_ms: u64) -> Result<bool, Error> {
        if self.intermediate_not_after_ms() < now_ms + LEAF_MS {
            return Err(error);
        }
        tracing::warn!(%error, "cannot renew the intermediate certificate yet");
        Ok(false)
    }

    /// Makes a new intermediate when half the life of the current one has passed; returns whether it did. Blocks.
    pub fn renew_intermediate(&self, now_ms: u64) -> Result<bool, Error> {
        let current = self.intermediate.load();
        if now_ms < current.not_before_ms + (current.not_after_ms - current.not_before_ms) / 2 {
            return Ok(false);
        }
        if !self.root_key.exists() {
            return Err(Error::RootElsewhere);
        }
        let next = make_intermediate(&self.db, &self.trust_domain, &self.root, &self.root_key, now_ms)?;
        self.intermediate.store(Arc::new(next));
        tracing::info!("intermediate certificate renewed");
        Ok(true)
    }

    /// Returns the root certificates to trust: DER.
    pub fn bundle(&self) -> Vec<Vec<u8>> {
        vec![self.root.clone()]
    }

    /// Returns the root certificate: DER.
    pub fn root(&self) -> Vec<u8> {
        self.root.clone()
    }

    /// Returns the certificate that signs: DER.
    pub fn intermediate(&self) -> Vec<u8> {
        self.intermediate.load().certificate.clone()
    }

    /// Returns whether the root's key is at hand.
    pub fn has_root_key(&self) -> bool {
        self.root_key.exists()
    }

    /// Returns the SHA-256 of the root's public key: what join tokens carry.
    pub fn pin(&self) -> [u8; 32] {
        Certificate::parse(&self.root).map_or([0; 32], |root| sha256(&root.public))
    }

    /// Returns the end of the root's validity, Unix milliseconds.
    pub fn root_not_after_ms(&self) -> u64 {
        self.root_not_after_ms
    }

    /// Returns the end of the intermediate's validity, Unix milliseconds.
    pub fn intermediate_not_after_ms(&self) -> u64 {
        self.intermediate.load().not_after_ms
    }

    /// Returns the key that control serves with, PKCS#8: the same over renewals and restarts, as installers pin it.
    pub fn serving_key(&self) -> Vec<u8> {
        self.serving.serialize_der()
    }

    /// Returns the SHA-256 of the serving key's `SubjectPublicKeyInfo`, in base64: what `curl --pinnedpubkey` takes.
    pub fn serving_pin(&self) -> String {
        BASE64.encode(&sha256(&self.serving.subject_public_key_info()))
    }

    /// Returns the fingerprint of the serving key.
    pub fn serving_fingerprint(&self) -> String {
        fingerprint(&self.serving.subject_public_key_info())
    }

    /// Signs control's own certificate, for the serving key.
    pub fn sign_serving(&self, wish: &Wish<'_>) -> Result<Leaf, Error> {
        self.sign_key(wish, &self.serving)
    }

    /// Signs a certificate for the key of a request. Whether the node may have it is the caller's business.
    pub fn sign(&self, wish: &Wish<'_>, proven: &Proven) -> Result<Leaf, Error> {
        self.sign_key(wish, &proven.key)
    }

    fn sign_key(&self, wish: &Wish<'_>, key: &impl PublicKeyData) -> Result<Leaf, Error> {
        let intermediate = self.intermediate.load();
        let id = SpiffeId::new(self.trust_domain.clone(), wish.subject.clone());
        let serial = draw_serial();
        let not_after_ms = (wish.now_ms + LEAF_MS).min(intermediate.not_after_ms);
        let mut params = params(wish.now_ms.saturating_sub(BACKDATE_MS), not_after_ms, wish.node.as_str());
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = vec![uri(&id.to_string())?];
        for host in wish.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(signing)?),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(key, &intermediate.issuer).map_err(signing)?;
        let chain = vec![certificate.der().to_vec(), intermediate.certificate.clone()];
        Ok(Leaf { chain, serial: HEXLOWER.encode(&serial), not_after_ms })
    }

    /// Signs the word that `node` speaks gossip with the Ed25519 key `key` (32 bytes); it lasts as long as a leaf.
    pub fn pass(&self, node: &NodeName, key: &[u8; 32], now_ms: u64) -> Result<GossipPass, Error> {
        let intermediate = self.intermediate.load();
        let not_after_ms = (now_ms + LEAF_MS).min(intermediate.not_after_ms);
        let signature = intermediate.sign(&pass_message(node, key, not_after_ms))?;
        let issuer = BASE64.encode(&intermediate.certificate);
        Ok(GossipPass { node: node.clone(), key: BASE64.encode(key), not_after_ms, signature, issuer })
    }

    /// Signs the list of the nodes that are banned as of a revision.
    pub fn bans(&self, revision: Revision, nodes: &[NodeName]) -> Result<BanList, Error> {
        let intermediate = self.intermediate.load();
        let signature = intermediate.sign(&bans_message(&self.trust_domain, revision, nodes))?;
        let issuer = BASE64.encode(&intermediate.certificate);
        Ok(BanList { revision, nodes: nodes.to_vec(), signature, issuer })
    }
}

impl Intermediate {
    /// Returns the signature of a message, of fixed form, in base64.
    fn sign(&self, message: &[u8]) -> Result<String, Error> {
        let signature = self.fixed.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|error| Error::Signing(error.to_string()))?;
        Ok(BASE64.encode(signature.as_ref()))
    }
}

// --- making ---------------------------------------------------------------------------------------------------------

fn make_root(dir: &Path, trust_domain: &TrustDomain, now_ms: u64) -> Result<Vec<u8>, Error> {
    let key = generate()?;
    let mut params =
        params(now_ms.saturating_sub(BACKDATE_MS), now_ms + ROOT_MS, &format!("mesh root {trust_domain}"));
    params.serial_number = Some(SerialNumber::from_slice(&draw_serial()));
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(signing)?;
    // The key first: a certificate without its key would be taken for a root brought along.
    write_file(dir, ROOT_KEY_FILE, key.serialize_pem().as_bytes(), 0o600)?;
    write_file(dir, ROOT_CERT_FILE, certificate.pem().as_bytes(), 0o644)?;
    Ok(certificate.der().to_vec())
}

fn make_intermediate(
    db: &Db,
    trust_domain: &TrustDomain,
    root: &[u8],
    root_key: &Path,
    now_ms: u64,
) -> Result<Intermediate, Error> {
    let root_issuer = Issuer::from_ca_cert_der(&CertificateDer::from(root), read_key_file(root_key, root)?);
    let root_end_ms = Certificate::parse(root).map_or(u64::MAX, |root| root.leaf.not_after_ms);
    let key = generate()?;
    let not_before_ms = now_ms.saturating_sub(BACKDATE_MS);
    let not_after_ms = (now_ms + INTERMEDIATE_MS).min(root_end_ms);
    let serial = draw_serial();
    let name = format!("mesh intermediate {}", HEXLOWER.encode(&serial).get(..8).unwrap_or_default());
    let mut params = params(not_before_ms, not_after_ms, &name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.signed_by(&key, &root_issuer.map_err(signing)?).map_err(signing)?;
    let row = IntermediateRow {
        certificate: BASE64.encode(certificate.der()),
        key: BASE64.encode(key.serialized_der()),
        not_before_ms,
        not_after_ms,
    };
    let row = serde_json::to_vec(&row).map_err(|error| Error::Signing(error.to_string()))?;
    let intermediate = load_intermediate(&row, root)?;
    db.put(INTERMEDIATE_ROW, &row)?;
    Ok(intermediate)
}

fn load_intermediate(row: &[u8], root: &[u8]) -> Result<Intermediate, Error> {
    let wrong = |reason: String| row_error(INTERMEDIATE_ROW, reason);
    let row: IntermediateRow = serde_json::from_slice(row).map_err(|error| wrong(error.to_string()))?;
    let certificate = BASE64.decode(row.certificate.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let key = BASE64.decode(row.key.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let signed_by_root = || {
        let (_, root) = x509_parser::parse_x509_certificate(root).ok()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        leaf.verify_signature(Some(root.public_key())).ok()
    };
    if signed_by_root().is_none() {
        return Err(wrong(format!("was not signed by the root in {ROOT_DIR}/{ROOT_CERT_FILE}")));
    }
    let fixed = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key)
        .map_err(|error| wrong(error.to_string()))?;
    let pair = key_pair(&key).map_err(wrong)?;
    let issuer =
        Issuer::from_ca_cert_der(&CertificateDer::from(certificate.as_slice()), pair).map_err(signing)?;
    Ok(Intermediate {
        issuer,
        fixed,
        not_before_ms: row.not_before_ms,
        not_after_ms: row.not_after_ms,
        certificate,
    })
}

fn params(not_before_ms: u64, not_after_ms: u64, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before_ms / 1000);
    params.not_after = epoch + Duration::from_secs(not_after_ms / 1000);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(signing)
}

fn uri(text: &str) -> Result<SanType, Error> {
    Ok(SanType::URI(text.try_into().map_err(signing)?))
}

/// Draws a positive number of exactly 16 bytes.
fn draw_serial() -> [u8; SERIAL_BYTES] {
    let mut serial: [u8; SERIAL_BYTES] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn key_pair(pkcs8: &[u8]) -> Result<KeyPair, String> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn signing(error: rcgen::Error) -> Error {
    Error::Signing(error.to_string())
}

fn row_error(row: &[u8], reason: impl Into<String>) -> Error {
    Error::Row { row: String::from_utf8_lossy(row).into_owned(), reason: reason.into() }
}
