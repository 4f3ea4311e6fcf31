//! Who may speak for a node: the key that signs its records, and control's word that the key is the node's.
//!
//! The word is a pass: an intermediate certificate's key signs "this node has this key until then"
//! (`model::snapshot::GossipPass`). Whoever hears a record checks its signature by the key, the pass by the certificate, and
//! the certificate by the roots; the last two once for each pass, not for each record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
};
use data_encoding::BASE64;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::logic::gossip::catalog::Verdict;
use crate::logic::gossip::wire::{Signed, Statement, encode, signing_message};
use crate::model::name::NodeName;
use crate::model::snapshot::GossipPass;

/// Length of an Ed25519 public key, bytes.
pub const KEY_BYTES: usize = 32;
/// Most intermediate certificates known at once: a few control planes, twice while they rotate.
pub const ISSUERS_MAX: usize = 16;
const ISSUER_BYTES_MAX: usize = 4096;
/// Most passes remembered as genuine; beyond it they are checked anew.
const PASSES_MAX: usize = 20_000;
const SIGNATURE_BYTES: usize = 64;
/// By how much clocks may differ.
const SKEW_MS: u64 = 10 * 60 * 1000;

/// Why a gossip key or pass could not be made or read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gave no randomness.
    #[error("no gossip key could be made: the system gave no randomness")]
    Random,
    /// The stored bytes are not an Ed25519 key in PKCS#8: make a new one and renew.
    #[error("the stored gossip key is damaged")]
    Damaged,
    /// The pass is not what it should be: renew it.
    #[error("the gossip pass is unusable: {0}")]
    Pass(&'static str),
}

/// The key pair with which a node signs what it says of itself.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// Makes a new key pair.
    pub fn generate() -> Result<Self, Error> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| Error::Random)
    }

    /// Reads a key pair kept by [`Self::to_pkcs8`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        Ed25519KeyPair::from_pkcs8(der).map(Self).map_err(|_| Error::Damaged)
    }

    /// Returns the key pair as PKCS#8 (DER), to be kept secret.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, Error> {
        self.0.to_pkcs8v1().map(|document| document.as_ref().to_vec()).map_err(|_| Error::Damaged)
    }

    /// Returns the public key.
    pub fn public_key(&self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }

    /// Returns the public key as the API carries it: base64.
    pub fn public_key_base64(&self) -> String {
        BASE64.encode(&self.public_key())
    }

    /// Returns the signature of `message`, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for Signer {
    /// Shows the public key only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public_key_base64()).finish()
    }
}

/// Returns what control signs to say that `key` is the gossip key of `node` until `not_after_ms` (Unix milliseconds).
pub fn pass_message(node: &NodeName, key: &[u8; KEY_BYTES], not_after_ms: u64) -> Vec<u8> {
    let mut message = b"mesh gossip pass v1\0".to_vec();
    message.extend_from_slice(node.as_str().as_bytes());
    message.push(0);
    message.extend_from_slice(key);
    message.extend_from_slice(&not_after_ms.to_be_bytes());
    message
}

/// A node's right to speak: its key, and control's word on it in binary.
#[derive(Debug)]
pub struct Credential {
    signer: Signer,
    not_after_ms: u64,
    signature: Vec<u8>,
    issuer: Vec<u8>,
}

impl Credential {
    /// Joins a key with its pass.
    ///
    /// # Errors
    /// When the pass is damaged, or of another node or key.
    pub fn new(signer: Signer, node: &NodeName, pass: &GossipPass) -> Result<Self, Error> {
        let (signature, issuer) = Self::parse(&signer, node, pass)?;
        Ok(Self { signer, not_after_ms: pass.not_after_ms, signature, issuer })
    }

    /// Takes a newer pass for the same key. On an error the old one stays.
    pub fn renew(&mut self, node: &NodeName, pass: &GossipPass) -> Result<(), Error> {
        let (signature, issuer) = Self::parse(&self.signer, node, pass)?;
        (self.not_after_ms, self.signature, self.issuer) = (pass.not_after_ms, signature, issuer);
        Ok(())
    }

    fn parse(signer: &Signer, node: &NodeName, pass: &GossipPass) -> Result<(Vec<u8>, Vec<u8>), Error> {
        if pass.node != *node {
            return Err(Error::Pass("it is for another node"));
        }
        if pass.key != signer.public_key_base64() {
            return Err(Error::Pass("it is for another key"));
        }
        let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let signature = decode(&pass.signature).filter(|signature| signature.len() == SIGNATURE_BYTES);
        let signature = signature.ok_or(Error::Pass("its signature is damaged"))?;
        let issuer = decode(&pass.issuer).ok_or(Error::Pass("its issuer is damaged"))?;
        Ok((signature, issuer))
    }

    /// Returns the certificate (DER) behind the pass.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Signs what the node says.
    pub fn sign(&self, statement: &Statement) -> Signed {
        let body = encode(statement);
        let signature = self.signer.sign(&signing_message(&body));
        Signed {
            body,
            key: self.signer.public_key(),
            not_after_ms: self.not_after_ms,
            issuer: issuer_id(&self.issuer),
            pass: self.signature.clone(),
            signature,
        }
    }
}

/// Checks records: knows the roots and the intermediates below them.
#[derive(Debug, Default)]
pub struct Checker {
    roots: Vec<Vec<u8>>,
    issuers: BTreeMap<[u8; 16], Issuer>,
    genuine: BTreeSet<[u8; 32]>,
    banned: BTreeSet<NodeName>,
}

#[derive(Debug)]
struct Issuer {
    der: Vec<u8>,
    /// The public key, an uncompressed point on P-256.
    key: Vec<u8>,
}

impl Checker {
    /// Trusts `roots` (DER) and whatever certificates they signed.
    pub fn new(roots: Vec<Vec<u8>>) -> Self {
        Self { roots, ..Self::default() }
    }

    /// Replaces the roots. Intermediates are kept if the new roots vouch for them.
    pub fn trust(&mut self, roots: Vec<Vec<u8>>, now_ms: u64) {
        self.roots = roots;
        self.genuine.clear();
        for issuer in std::mem::take(&mut self.issuers).into_values() {
            self.admit(&issuer.der, now_ms);
        }
    }

    /// Believes nothing that these nodes say of themselves, until told otherwise.
    pub fn ban(&mut self, banned: BTreeSet<NodeName>) {
        self.banned = banned;
    }

    /// Returns the nodes that are not believed.
    pub fn banned(&self) -> &BTreeSet<NodeName> {
        &self.banned
    }

    /// Returns the public key of an intermediate certificate (DER) if a root signed it and it is valid.
    pub fn issuer_key(&self, der: &[u8], now_ms: u64) -> Option<Vec<u8>> {
        let fits = der.len() <= ISSUER_BYTES_MAX;
        self.roots.iter().filter(|_| fits).find_map(|root| signed_by(der, root, now_ms))
    }

    /// Returns the intermediates known (DER).
    pub fn issuers(&self) -> Vec<Vec<u8>> {
        self.issuers.values().map(|issuer| issuer.der.clone()).collect()
    }

    /// Takes an intermediate certificate (DER) if a root signed it and it is valid. Returns whether it is known then.
    pub fn admit(&mut self, der: &[u8], now_ms: u64) -> bool {
        let id = issuer_id(der);
        if self.issuers.contains_key(&id) {
            return true;
        }
        if self.issuers.len() >= ISSUERS_MAX {
            return false;
        }
        let Some(key) = self.issuer_key(der, now_ms) else { return false };
        self.issuers.insert(id, Issuer { der: der.to_vec(), key });
        true
    }

    /// Returns whether `signed` was said by `node`. `now_ms` is the time of day.
    pub fn check(&mut self, signed: &Signed, node: &NodeName, now_ms: u64) -> Verdict {
        if self.banned.contains(node) {
            return Verdict::Forged;
        }
        let message = pass_message(node, &signed.key, signed.not_after_ms);
        let mut all = message.clone();
        all.extend_from_slice(&signed.issuer);
        all.extend_from_slice(&signed.pass);
        let mut seen = [0; 32];
        seen.copy_from_slice(digest(&SHA256, &all).as_ref());
        if !self.genuine.contains(&seen) {
            let Some(issuer) = self.issuers.get(&signed.issuer) else { return Verdict::UnknownIssuer };
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &issuer.key);
            if signed.not_after_ms.saturating_add(SKEW_MS) < now_ms
                || key.verify(&message, &signed.pass).is_err()
            {
                return Verdict::Forged;
            }
            if self.genuine.len() >= PASSES_MAX {
                self.genuine.clear();
            }
            self.genuine.insert(seen);
        }
        let key = UnparsedPublicKey::new(&ED25519, &signed.key);
        match key.verify(&signing_message(&signed.body), &signed.signature) {
            Ok(()) => Verdict::Genuine,
            Err(_) => Verdict::Forged,
        }
    }
}

/// Returns the name of a certificate in records: the first half of its SHA-256.
fn issuer_id(der: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(digest(&SHA256, der).as_ref().split_at(16).0);
    id
}

/// Returns the public key of the certificate `der` if it may sign, is valid, and `root` signed it (or is it).
fn signed_by(der: &[u8], root: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let (_, root) = X509Certificate::from_der(root).ok()?;
    let may_sign = certificate.basic_constraints().ok()?.is_some_and(|constraints| constraints.value.ca);
    let validity = certificate.validity();
    let at = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let valid = validity.not_before.timestamp() <= at(now_ms.saturating_add(SKEW_MS))
        && at(now_ms.saturating_sub(SKEW_MS)) <= validity.not_after.timestamp();
    let named = certificate.issuer().as_raw() == root.subject().as_raw();
    let ours = rest.is_empty() && may_sign && valid && named;
    let vouched = ours && certificate.verify_signature(Some(root.public_key())).is_ok();
    vouched.then(|| certificate.public_key().subject_public_key.data.to_vec())
}
