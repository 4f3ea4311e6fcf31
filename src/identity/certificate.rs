//! Reading certificates: what a leaf says, in the words of `logic::pki`, and fingerprints of public keys.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use crate::logic::pki::trust::{ExtendedKeyUsage, KeyUsage, Leaf};

/// A certificate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be read: {0}")]
pub struct Unreadable(String);

/// What is read out of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it says.
    pub leaf: Leaf,
    /// Its public key: `SubjectPublicKeyInfo`, DER.
    pub public: Vec<u8>,
    /// Its serial number, hexadecimal.
    pub serial: String,
}

/// Returns the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Returns the SHA-256 of a file, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn file_sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut chunk)?;
        match chunk.get(..read) {
            Some(part) if !part.is_empty() => hash.update(part),
            Some(_) | None => return Ok(HEXLOWER.encode(hash.finish().as_ref())),
        }
    }
}

/// Returns the SHA-256 of a `SubjectPublicKeyInfo`, hexadecimal: how keys are remembered and pinned.
pub fn fingerprint(public: &[u8]) -> String {
    HEXLOWER.encode(&sha256(public))
}

impl Certificate {
    /// Reads a certificate (DER).
    ///
    /// # Errors
    /// When it is not one, or something follows it.
    pub fn parse(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|error| Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(Unreadable("something follows it".to_owned()));
        }
        Ok(Self {
            leaf: leaf(&certificate),
            public: certificate.public_key().raw.to_vec(),
            serial: HEXLOWER.encode(certificate.raw_serial()),
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the many extensions and names, these decide")]
fn leaf(certificate: &X509Certificate<'_>) -> Leaf {
    let mut leaf = Leaf {
        uris: Vec::new(),
        common_name: None,
        is_ca: false,
        key_usage: None,
        extended_key_usage: None,
        not_before_ms: milliseconds(certificate.validity().not_before.timestamp()),
        not_after_ms: milliseconds(certificate.validity().not_after.timestamp()),
    };
    let mut names = certificate.subject().iter_common_name();
    if let (Some(name), None) = (names.next(), names.next()) {
        leaf.common_name = name.as_str().ok().map(str::to_owned);
    }
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                leaf.uris.extend(names.general_names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    // It may be a second URI, badly written: counted as one.
                    GeneralName::Invalid(tag, _) => Some(format!("an unreadable name ({tag})")),
                    _ => None,
                }));
            }
            ParsedExtension::BasicConstraints(constraints) => leaf.is_ca = constraints.ca,
            ParsedExtension::KeyUsage(usage) => {
                leaf.key_usage = Some(KeyUsage {
                    critical: extension.critical,
                    digital_signature: usage.digital_signature(),
                    key_cert_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                leaf.extended_key_usage =
                    Some(ExtendedKeyUsage { server_auth: usage.server_auth, client_auth: usage.client_auth });
            }
            _ => {}
        }
    }
    leaf
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// Returns a certificate (DER) as PEM.
pub fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
