//! Who may speak for a node: the key that signs its records, and control's word that the key is the node's.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE64;

use crate::model::name::NodeName;

/// Length of an Ed25519 public key, bytes.
pub const KEY_BYTES: usize = 32;

/// Why a gossip key could not be made or read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gave no randomness.
    #[error("no gossip key could be made: the system gave no randomness")]
    Random,
    /// The stored bytes are not an Ed25519 key in PKCS#8: make a new one and renew.
    #[error("the stored gossip key is damaged")]
    Damaged,
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
