//! A service as its host sees it: where it listens, what it speaks, and how its neighbours' ports lead to it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::name::ServiceName;

/// Why a `--service` or `--upstream` could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form of a local service.
    #[error(
        "'{0}' is not a service: expected NAME[.NAMESPACE]=[ADDRESS:]PORT[/PROTOCOL][@OWNER], such as web=8080 or api=127.0.0.1:9000/grpc@www-data"
    )]
    Local(String),
    /// Not an owner of processes.
    #[error("'{0}' is not an owner: expected a user's name or number, unit:NAME or cgroup:/PATH")]
    Owner(String),
    /// Not of the form of an upstream.
    #[error("'{0}' is not an upstream: expected NAME[.NAMESPACE]=ADDRESS:PORT, such as db=127.0.0.1:5432")]
    Upstream(String),
    /// An unknown protocol.
    #[error("'{0}' is not a protocol: expected http, h2c, grpc or tcp (without one it is detected)")]
    Protocol(String),
    /// The name in it is not one.
    #[error(transparent)]
    Name(#[from] crate::model::name::Error),
}

/// What a service speaks on its port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Found out from the first bytes, never waiting for them: the caller's protocol is spoken to the service.
    #[default]
    Detect,
    /// HTTP/1.1 (and 1.0).
    Http,
    /// HTTP/2 without TLS, with prior knowledge.
    H2c,
    /// gRPC, which is HTTP/2 with its own status.
    Grpc,
    /// Opaque bytes.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detect => "detect",
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "detect" => Ok(Self::Detect),
            "http" => Ok(Self::Http),
            "h2c" => Ok(Self::H2c),
            "grpc" => Ok(Self::Grpc),
            "tcp" => Ok(Self::Tcp),
            _ => Err(Error::Protocol(text.to_owned())),
        }
    }
}

/// Whose calls leave with a service's identity: `USER`, `unit:NAME` or `cgroup:/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Processes of a user, by name or number.
    User(String),
    /// Processes of a unit of systemd: `web.service`.
    Unit(String),
    /// Processes in a control group or below it; the path begins with `/`, which is the root of all groups.
    Cgroup(String),
}

impl FromStr for Owner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Owner(text.to_owned());
        let plain = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.@\\$".contains(c);
            !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
        };
        let owner = match text.split_once(':') {
            Some(("unit", name)) if plain(name) => {
                // As systemctl has it: a unit without a kind is a service.
                Self::Unit(if name.contains('.') { name.to_owned() } else { format!("{name}.service") })
            }
            Some(("cgroup", path)) if path.starts_with('/') && !path.split('/').any(|part| part == "..") => {
                Self::Cgroup(path.trim_end_matches('/').to_owned())
            }
            Some(("user", name)) if plain(name) => Self::User(name.to_owned()),
            None if plain(text) => Self::User(text.to_owned()),
            Some(_) | None => return Err(wrong()),
        };
        Ok(owner)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => f.write_str(name),
            Self::Unit(name) => write!(f, "unit:{name}"),
            Self::Cgroup(path) => write!(f, "cgroup:{}", if path.is_empty() { "/" } else { path }),
        }
    }
}

/// A service that runs on this host: `NAME[.NS]=[ADDR:]PORT[/PROTO][@OWNER]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalService {
    /// What it is called in the mesh.
    pub name: ServiceName,
    /// Where it listens; 127.0.0.1 when no address is given.
    pub addr: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whose calls leave with its identity; `None` for nobody in particular.
    pub owner: Option<Owner>,
}

impl FromStr for LocalService {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Local(text.to_owned());
        let (name, target) = text.split_once('=').ok_or_else(wrong)?;
        let (target, owner) = match target.split_once('@') {
            Some((target, owner)) => (target, Some(owner.parse()?)),
            None => (target, None),
        };
        let (target, protocol) = match target.rsplit_once('/') {
            Some((target, protocol)) => (target, protocol.parse()?),
            None => (target, Protocol::Detect),
        };
        let addr = match target.parse::<u16>() {
            Ok(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            Err(_) => target.parse().map_err(|_| wrong())?,
        };
        if addr.port() == 0 {
            return Err(wrong());
        }
        Ok(Self { name: name.parse()?, addr, protocol, owner })
    }
}

impl fmt::Display for LocalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.addr)?;
        if self.protocol != Protocol::Detect {
            write!(f, "/{}", self.protocol)?;
        }
        self.owner.as_ref().map_or(Ok(()), |owner| write!(f, "@{owner}"))
    }
}

impl TryFrom<String> for LocalService {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<LocalService> for String {
    fn from(service: LocalService) -> Self {
        service.to_string()
    }
}

/// A local port that leads to one service of the mesh: `NAME[.NS]=ADDR:PORT`. Port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamPort {
    /// The service it leads to.
    pub name: ServiceName,
    /// Where this host listens for it.
    pub listen: SocketAddr,
}

impl FromStr for UpstreamPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Upstream(text.to_owned());
        let (name, listen) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self { name: name.parse()?, listen: listen.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for UpstreamPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.listen)
    }
}

impl TryFrom<String> for UpstreamPort {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<UpstreamPort> for String {
    fn from(port: UpstreamPort) -> Self {
        port.to_string()
    }
}
