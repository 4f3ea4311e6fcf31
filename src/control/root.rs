//! The root of the authority: a certificate and its key in a folder of their own, apart from the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::identity::certificate::{Certificate, sha256};
use crate::net::disk;

/// The folder of the root, in the data directory.
pub const ROOT_DIR: &str = "root";
pub(crate) const ROOT_KEY_FILE: &str = "root.key";
pub(crate) const ROOT_CERT_FILE: &str = "root.pem";

/// Why the root cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the root.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key or certificate that is not one, or does not fit its counterpart.
    #[error("{what}: {reason}")]
    Material {
        /// Which file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A root brought along, PEM.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Its certificate.
    pub certificate: PathBuf,
    /// Its key; read, used, and forgotten.
    pub key: PathBuf,
}

/// The files of the root, as a backup carries them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFiles {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM; `None` when the root was brought along.
    pub key: Option<String>,
}

impl std::fmt::Debug for RootFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootFiles").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl RootFiles {
    /// Reads them below a data directory. Blocks.
    pub fn read(data_dir: &Path) -> Result<Self, Error> {
        let read = |name| {
            let path = data_dir.join(ROOT_DIR).join(name);
            fs::read_to_string(&path).map_err(|source| Error::File { path, source })
        };
        let key = match read(ROOT_KEY_FILE) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            key => Some(key?),
        };
        Ok(Self { certificate: read(ROOT_CERT_FILE)?, key })
    }

    /// Writes them below a data directory. Blocks.
    pub fn write(&self, data_dir: &Path) -> Result<(), Error> {
        let dir = data_dir.join(ROOT_DIR);
        if let Some(key) = &self.key {
            write_file(&dir, ROOT_KEY_FILE, key.as_bytes(), 0o600)?;
        }
        write_file(&dir, ROOT_CERT_FILE, self.certificate.as_bytes(), 0o644)
    }

    /// Decides whether they are a root and its key.
    pub fn check(&self) -> Result<(), Error> {
        let certificate = read_certificate(self.certificate.as_bytes(), "the root certificate")?;
        match &self.key {
            Some(key) => read_key(key.as_bytes(), "the root's key", &certificate).map(drop),
            None => Ok(()),
        }
    }

    /// Returns the SHA-256 of the certificate, hexadecimal; empty when it is none.
    pub fn fingerprint(&self) -> String {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        der.map(|der| HEXLOWER.encode(&sha256(&der))).unwrap_or_default()
    }
}

/// Returns the root's certificate; `None` when there is no root yet.
pub(crate) fn read_root(dir: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = dir.join(ROOT_CERT_FILE);
    match fs::exists(&path) {
        Ok(true) => read_certificate_file(&path).map(Some),
        Ok(false) => Ok(None),
        Err(source) => Err(Error::File { path, source }),
    }
}

/// Reads a certificate, which must be an authority's.
pub(crate) fn read_certificate_file(path: &Path) -> Result<Vec<u8>, Error> {
    let text = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    read_certificate(&text, &path.display().to_string())
}

fn read_certificate(pem: &[u8], what: &str) -> Result<Vec<u8>, Error> {
    let wrong = |reason: &str| Error::Material { what: what.to_owned(), reason: reason.to_owned() };
    let der = CertificateDer::from_pem_slice(pem).map_err(|error| wrong(&error.to_string()))?;
    let certificate = Certificate::parse(&der).map_err(|error| wrong(&error.to_string()))?;
    if !certificate.leaf.is_ca {
        return Err(wrong("is not the certificate of an authority (cA is not set)"));
    }
    Ok(der.to_vec())
}

/// Reads a key and checks that it belongs to `certificate`.
pub(crate) fn read_key_file(path: &Path, certificate: &[u8]) -> Result<KeyPair, Error> {
    let text = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    read_key(&text, &path.display().to_string(), certificate)
}

fn read_key(pem: &[u8], what: &str, certificate: &[u8]) -> Result<KeyPair, Error> {
    let wrong = |reason: &str| Error::Material { what: what.to_owned(), reason: reason.to_owned() };
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(&error.to_string()))?;
    let key = KeyPair::try_from(&der).map_err(|error| wrong(&error.to_string()))?;
    if Certificate::parse(certificate).is_ok_and(|root| root.public == key.subject_public_key_info()) {
        Ok(key)
    } else {
        Err(wrong("is not the key of the root certificate"))
    }
}

/// Writes a file of the root, in a directory for its owner alone.
pub(crate) fn write_file(dir: &Path, name: &str, content: &[u8], mode: u32) -> Result<(), Error> {
    let path = dir.join(name);
    disk::make_dir(dir)
        .and_then(|()| disk::write_file(&path, content, mode))
        .map_err(|source| Error::File { path, source })
}
