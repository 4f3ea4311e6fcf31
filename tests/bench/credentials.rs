//! Certificates for the peers: an authority of this run, and one leaf that both proxies of a pair use.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// The name in the leaf.
pub(crate) const NAME: &str = "proxy.bench";

/// Files that are removed with it.
pub(crate) struct Credentials {
    folder: TempDir,
}

impl Credentials {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mesh-bench-").tempdir().unwrap();
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench authority");
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);

        let (key, params) =
            (KeyPair::generate().unwrap(), CertificateParams::new([NAME.to_owned()]).unwrap());
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();
        let credentials = Self { folder };
        fs::write(credentials.authority(), authority).unwrap();
        fs::write(credentials.leaf(), &leaf).unwrap();
        fs::write(credentials.key(), key.serialize_pem()).unwrap();
        fs::write(credentials.both(), leaf + &key.serialize_pem()).unwrap();
        credentials
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path().join("authority.pem")
    }

    /// The leaf's certificate.
    pub(crate) fn leaf(&self) -> PathBuf {
        self.path().join("leaf.pem")
    }

    /// The leaf's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.path().join("key.pem")
    }

    /// The leaf's certificate and key in one file.
    pub(crate) fn both(&self) -> PathBuf {
        self.path().join("both.pem")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}
