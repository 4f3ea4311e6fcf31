//! The secrets that the keys of a connection come from (RFC 8446 §7), overheard from its handshake.
//!
//! rustls would keep them for us, together with the certificates of the peer and all that it may need for tickets: more
//! than anything else that a silent connection holds.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::{Error, KeyLog};
use zeroize::Zeroizing;

/// The longest secret, in bytes: one of SHA-384.
const SECRET_BYTES_MAX: usize = 48;
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 32;
/// What rustls calls the first secrets of data.
const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

/// As long as the hash is that it comes from.
#[derive(Clone)]
struct Bytes {
    bytes: Zeroizing<[u8; SECRET_BYTES_MAX]>,
    size: u8,
}

/// The secret of one direction.
pub(crate) struct Secret {
    algorithm: &'static aead::Algorithm,
    current: Bytes,
}

/// What a key is made from.
pub(crate) struct Material {
    pub(crate) algorithm: &'static aead::Algorithm,
    key: Zeroizing<[u8; KEY_BYTES_MAX]>,
    pub(crate) iv: [u8; NONCE_LEN],
}

/// The length of something that is derived.
#[derive(Debug, Clone, Copy)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Bytes {
    fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES_MAX]);
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, size: secret.len() as u8 })
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }

    /// HKDF-Expand-Label without a context (RFC 8446 §7.1).
    fn expand(&self, label: &[u8], out: &mut [u8]) -> Result<(), Error> {
        const PREFIX: &[u8] = b"tls13 ";
        let hash = if self.as_slice().len() == SECRET_BYTES_MAX { HKDF_SHA384 } else { HKDF_SHA256 };
        let length = (out.len() as u16).to_be_bytes();
        let label_size = [(PREFIX.len() + label.len()) as u8];
        let info: [&[u8]; 5] = [&length, &label_size, PREFIX, label, &[0]];
        let secret = Prk::new_less_safe(hash, self.as_slice());
        let filled = secret.expand(&info, Length(out.len())).and_then(|expanded| expanded.fill(out));
        filled.map_err(|_| Error::EncryptError)
    }
}

impl Secret {
    /// Goes on to the next secret, and returns what its key is made from (RFC 8446 §7.2, §7.3).
    ///
    /// # Errors
    /// When the cryptography fails.
    pub(crate) fn next(&mut self) -> Result<Material, Error> {
        let mut next = Bytes { bytes: Zeroizing::new([0; SECRET_BYTES_MAX]), size: self.current.size };
        self.current.expand(b"traffic upd", &mut next.bytes[..usize::from(self.current.size)])?;
        self.current = next;
        let mut made = Material {
            algorithm: self.algorithm,
            key: Zeroizing::new([0; KEY_BYTES_MAX]),
            iv: [0; NONCE_LEN],
        };
        self.current.expand(b"key", &mut made.key[..self.algorithm.key_len()])?;
        self.current.expand(b"iv", &mut made.iv)?;
        Ok(made)
    }
}

impl Material {
    /// Returns the key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key[..self.algorithm.key_len()]
    }
}

/// Listens to one handshake.
#[derive(Default)]
pub(crate) struct Overheard {
    client: Mutex<Option<Bytes>>,
    server: Mutex<Option<Bytes>>,
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overheard").finish_non_exhaustive()
    }
}

impl KeyLog for Overheard {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let of = if label == CLIENT { &self.client } else { &self.server };
        *of.lock().unwrap_or_else(PoisonError::into_inner) = Bytes::new(secret);
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER)
    }
}

impl Overheard {
    /// Returns the secrets of the client and of the server, for a connection that is sealed with `algorithm`.
    ///
    /// # Errors
    /// When the handshake has not ended.
    pub(crate) fn secrets(&self, algorithm: &'static aead::Algorithm) -> Result<(Secret, Secret), Error> {
        let take = |of: &Mutex<Option<Bytes>>| {
            let taken = of.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.map(|current| Secret { algorithm, current }).ok_or(Error::HandshakeNotComplete)
        };
        Ok((take(&self.client)?, take(&self.server)?))
    }
}
