//! The key of an SVID: made here, kept here, never sent anywhere. Only requests signed by it leave.

use std::fmt;

use rcgen::PublicKeyData as _;
use zeroize::Zeroizing;

/// Why a key could not be made or used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cryptographic library refused.
    #[error("the key cannot be made or read: {0}")]
    Key(#[from] rcgen::Error),
}

/// An ECDSA P-256 key pair.
pub struct Key {
    pair: rcgen::KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
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
        Ok(Self::of(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads a key kept by [`Self::pkcs8`].
    ///
    /// # Errors
    /// When the bytes are not such a key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(der);
        Ok(Self::of(rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    fn of(pair: rcgen::KeyPair) -> Self {
        let pkcs8 = Zeroizing::new(pair.serialize_der());
        Self { pair, pkcs8 }
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
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        Ok(parameters.serialize_request(&self.pair)?.der().to_vec())
    }

    /// Returns the public key, SubjectPublicKeyInfo (DER).
    pub fn public(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// Returns the SHA-256 of the public key, hexadecimal.
    pub fn fingerprint(&self) -> String {
        crate::identity::certificate::fingerprint(&self.public())
    }
}
