//! An SVID: a certificate chain and the key that belongs to it, checked when it is put together.

use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::identity::certificate::{Certificate, Unreadable};
use crate::identity::key::Key;
use crate::model::identity::SpiffeId;
use crate::model::name::NodeName;

/// Why a chain and a key make no SVID. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no certificate in the chain.
    #[error("the certificate chain is empty")]
    Empty,
    /// The leaf cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The leaf has not exactly one URI name, or not one of a mesh.
    #[error("the certificate names no identity of a mesh")]
    Identity,
    /// The leaf names no node.
    #[error("the certificate names no node")]
    Node,
    /// The certificate is for another key.
    #[error("the certificate is not for this key")]
    Key,
}

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Svid {
    /// Whose it is.
    pub id: SpiffeId,
    /// The node it was issued to.
    pub node: NodeName,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Beginning of validity, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of validity, Unix milliseconds.
    pub not_after_ms: u64,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<Key>,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl Svid {
    /// Puts a chain (leaf, then intermediates: DER) and its key together.
    ///
    /// # Errors
    /// When they do not belong together or the leaf is no SVID. That the chain leads to a bundle is for those to check
    /// who are shown it; see [`crate::identity::verifier`].
    pub fn new(chain: Vec<Vec<u8>>, key: Arc<Key>) -> Result<Self, Error> {
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let certificate = Certificate::parse(chain.first().ok_or(Error::Empty)?)?;
        let [uri] = certificate.leaf.uris.as_slice() else { return Err(Error::Identity) };
        let id = uri.parse().map_err(|_| Error::Identity)?;
        let name = certificate.leaf.common_name.as_deref().and_then(|name| name.parse().ok());
        if certificate.public != key.public() {
            return Err(Error::Key);
        }
        let certified = CertifiedKey::new(chain.clone(), key.signer());
        Ok(Self {
            id,
            node: name.ok_or(Error::Node)?,
            serial: certificate.serial,
            not_before_ms: certificate.leaf.not_before_ms,
            not_after_ms: certificate.leaf.not_after_ms,
            chain,
            key,
            certified: Arc::new(certified),
        })
    }

    /// Returns the chain: leaf, then intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the key.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Returns chain and key as the TLS library takes them.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}
