//! The key of an SVID: made here, kept here, never sent anywhere. Only requests signed by it leave. Our copies are wiped
//! when dropped.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SignatureAlgorithm};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::identity::certificate;

/// Why a key could not be made or used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gave no randomness.
    #[error("no key can be made: the system gave no randomness")]
    Random,
    /// The bytes are not an ECDSA P-256 key in PKCS#8.
    #[error("the private key cannot be read: it is damaged, or of another kind than ECDSA P-256")]
    Damaged,
    /// No request could be signed.
    #[error("no signing request can be made: {0}")]
    Request(#[from] rcgen::Error),
}

/// An ECDSA P-256 key pair.
pub struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    signer: Arc<dyn SigningKey>,
}

impl fmt::Debug for Key {
    /// Shows the fingerprint only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.fingerprint()).finish()
    }
}

impl Key {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| Error::Random)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| Error::Damaged)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a key kept by [`Self::pkcs8`].
    ///
    /// # Errors
    /// When the bytes are not such a key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        let pair = pair.map_err(|_| Error::Damaged)?;
        let signer = any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)));
        let signer = signer.map_err(|_| Error::Damaged)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()), signer })
    }

    /// Reads a key from a PEM file's text: PKCS#8 (`BEGIN PRIVATE KEY`).
    ///
    /// # Errors
    /// When there is no such key in it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| Error::Damaged)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// Signs a text: ECDSA with SHA-256, ASN.1 (DER), as `openssl dgst -sha256 -verify` takes it.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), text).map_err(|_| Error::Random)?;
        Ok(signature.as_ref().to_vec())
    }

    /// Returns the private key, PKCS#8 (DER), to be kept secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Returns a signing request (PKCS#10, DER) for this key. It asks for nothing: who signs decides what to say.
    ///
    /// # Errors
    /// When signing fails.
    pub fn request(&self) -> Result<Vec<u8>, Error> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        Ok(parameters.serialize_request(&Requester(self))?.der().to_vec())
    }

    /// Returns the public key: `SubjectPublicKeyInfo`, DER.
    pub fn public(&self) -> Vec<u8> {
        Requester(self).subject_public_key_info()
    }

    /// Returns the SHA-256 of the public key, hexadecimal.
    pub fn fingerprint(&self) -> String {
        certificate::fingerprint(&self.public())
    }

    /// Returns the key as the TLS library takes it.
    pub(crate) fn signer(&self) -> Arc<dyn SigningKey> {
        self.signer.clone()
    }
}

/// Lends the key to the writer of signing requests, without another copy of its private part.
struct Requester<'a>(&'a Key);

impl PublicKeyData for Requester<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Requester<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.pair.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
