//! Who is speaking: the trust domain of a mesh and the SPIFFE IDs inside it.
//!
//! Follows SPIFFE-ID §2 (a path of `[a-zA-Z0-9.-_]` segments, no query, fragment, port, user, percent or dot segments),
//! and is narrower: only the four shapes below exist in a mesh, so anything else is not an identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::name::{NodeName, ServiceName, is_label};

/// The validity of certificates begins so much before they are issued, milliseconds: for hosts whose clock is behind.
pub const BACKDATE_MS: u64 = 10 * 60 * 1000;

const TRUST_DOMAIN_BYTES_MAX: usize = 255;
const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a trust domain.
    #[error("'{0}' is not a trust domain: 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// Not a SPIFFE ID of a mesh.
    #[error(
        "'{0}' is not an identity of a mesh: expected spiffe://DOMAIN/ns/NAMESPACE/svc/SERVICE, …/node/NODE, …/control/NODE or …/operator/NAME"
    )]
    SpiffeId(String),
    /// Not the short form of an identity.
    #[error("'{0}' is not an identity: expected SERVICE.NAMESPACE, node/NODE, control/NODE or operator/NAME")]
    Subject(String),
}

/// The trust domain of one mesh: the authority part of its SPIFFE IDs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if (1..=TRUST_DOMAIN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Error::TrustDomain(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.as_ref().to_owned()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who an identity names inside its trust domain. Written `web.default`, `node/host-1`, `control/host-1`, `operator/ann`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// A service, wherever it runs.
    Service(ServiceName),
    /// A machine's proxy, speaking for itself.
    Node(NodeName),
    /// A control plane process.
    Control(NodeName),
    /// A person or script that administers the mesh.
    Operator(NodeName),
}

impl Subject {
    /// Returns the service it names, if it names one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(name) => Some(name),
            Self::Node(_) | Self::Control(_) | Self::Operator(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Control(name) => write!(f, "control/{name}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subject {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Subject(text.to_owned());
        match text.split_once('/') {
            None => text.parse().map(Self::Service).map_err(|_| wrong()),
            Some((kind, name)) => {
                let name = name.parse().map_err(|_| wrong())?;
                match kind {
                    "node" => Ok(Self::Node(name)),
                    "control" => Ok(Self::Control(name)),
                    "operator" => Ok(Self::Operator(name)),
                    _ => Err(wrong()),
                }
            }
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// A full identity: a subject in a trust domain, written as a SPIFFE ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    /// The mesh it belongs to.
    pub trust_domain: TrustDomain,
    /// Who it is there.
    pub subject: Subject,
}

impl SpiffeId {
    /// Puts a subject into a trust domain.
    pub fn new(trust_domain: TrustDomain, subject: Subject) -> Self {
        Self { trust_domain, subject }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Service(name) => {
                write!(f, "spiffe://{}/ns/{}/svc/{}", self.trust_domain, name.namespace(), name.name())
            }
            other @ (Subject::Node(_) | Subject::Control(_) | Subject::Operator(_)) => {
                write!(f, "spiffe://{}/{other}", self.trust_domain)
            }
        }
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    /// Parses the one spelling we write. The standard lets scheme and trust domain vary in case; we issue lower case
    /// and accept nothing else, so that two spellings never name one identity.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::SpiffeId(text.to_owned());
        let rest = text.strip_prefix("spiffe://").ok_or_else(wrong)?;
        let (domain, path) = rest.split_once('/').ok_or_else(wrong)?;
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(wrong());
        }
        let trust_domain = domain.parse().map_err(|_| wrong())?;
        let mut segments = path.split('/');
        let subject =
            match (segments.next(), segments.next(), segments.next(), segments.next(), segments.next()) {
                (Some("ns"), Some(namespace), Some("svc"), Some(name), None) if is_label(namespace) => {
                    Subject::Service(ServiceName::new(name, namespace).map_err(|_| wrong())?)
                }
                (Some("node" | "control" | "operator"), Some(_), None, None, None) => {
                    path.parse().map_err(|_| wrong())?
                }
                _ => return Err(wrong()),
            };
        Ok(Self { trust_domain, subject })
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}
