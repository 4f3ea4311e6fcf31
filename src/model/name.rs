//! The names people type: services, nodes and zones. Parsed once, valid ever after, cheap to clone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The namespace of a name that states none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The top-level domain under which services are addressed; no namespace may be called so.
pub const MESH_DOMAIN: &str = "mesh";
const LABEL_BYTES_MAX: usize = 63;
const NODE_BYTES_MAX: usize = 253;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A label has the wrong characters or length.
    #[error(
        "'{0}' is not a valid name: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
    )]
    Label(String),
    /// More parts than a service name has.
    #[error("'{0}' is not a service name: expected NAME, NAME.NAMESPACE, NAME.mesh or NAME.NAMESPACE.mesh")]
    Service(String),
    /// A node name has the wrong characters or length.
    #[error("'{0}' is not a valid node name: labels of a-z, 0-9 and '-' joined by dots, 253 bytes at most")]
    Node(String),
}

/// Returns whether `text` is a DNS label in lower case (RFC 1123 §2.1): what namespaces and object names are made of.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=LABEL_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
        && bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b))
}

/// The name of a service: `name.namespace`. Ordered by name, then namespace.
///
/// `web`, `web.default`, `web.mesh` and `web.default.mesh` all parse to the same value; it is written `web.default`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    name: Arc<str>,
    namespace: Arc<str>,
}

impl ServiceName {
    /// Builds a name from its two labels.
    ///
    /// # Errors
    /// When either is not a label, or the namespace is the mesh's own domain.
    pub fn new(name: &str, namespace: &str) -> Result<Self, Error> {
        for label in [name, namespace] {
            if !is_label(label) {
                return Err(Error::Label(label.to_owned()));
            }
        }
        if namespace == MESH_DOMAIN {
            return Err(Error::Service(format!("{name}.{namespace}")));
        }
        Ok(Self { name: name.into(), namespace: namespace.into() })
    }

    /// Returns the first label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the host by which it is usually called: `web.mesh`, with the namespace where that is not the default one.
    pub fn host(&self) -> String {
        if self.namespace() == DEFAULT_NAMESPACE {
            format!("{}.{MESH_DOMAIN}", self.name)
        } else {
            format!("{self}.{MESH_DOMAIN}")
        }
    }

    /// Parses the host of a request: any form of the name, in any case, with an optional port and final dot.
    ///
    /// Returns `None` for whatever is not a service name, such as an IP address or a public host name.
    pub fn from_host(host: &str) -> Option<Self> {
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.bytes().any(|b| b.is_ascii_uppercase()) {
            return host.to_ascii_lowercase().parse().ok();
        }
        if host.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        host.parse().ok()
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('.');
        let fields = (parts.next(), parts.next(), parts.next(), parts.next());
        match fields {
            (Some(name), None | Some(MESH_DOMAIN), None, None) => Self::new(name, DEFAULT_NAMESPACE),
            (Some(name), Some(namespace), None | Some(MESH_DOMAIN), None) => Self::new(name, namespace),
            _ => Err(Error::Service(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.to_string()
    }
}

/// Makes a newtype over a checked, shared string.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:expr, $error:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                if $check(text) { Ok(Self(text.into())) } else { Err($error(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// The name of a machine running mesh: one or more labels joined by dots, like a host name in lower case.
    NodeName,
    |text: &str| text.len() <= NODE_BYTES_MAX && text.split('.').all(is_label),
    Error::Node
);

checked_text!(
    /// The name of a failure domain, such as a data centre or rack.
    ZoneName,
    is_label,
    Error::Label
);
