//! What the name server of a host says: everything below `mesh.`, the way back from virtual addresses, and nothing else.
//!
//! Answers follow RFC 1034 §4.3.2 with negative answers of RFC 2308 and RFC 8020: a name that exists, or has names below
//! it, is never denied. `ANY` is answered with addresses alone (RFC 8482).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::logic::compile::Policy;
use crate::logic::naming::book::{AddressBook, Virtual, is_virtual};
use crate::model::name::{MESH_DOMAIN, ServiceName};

/// How long answers may be kept, in seconds: short, as clients that keep them longer are few and services move rarely.
pub const TTL_S: u32 = 5;
/// Most ports that are said of one service.
const PORTS_MAX: usize = 8;
/// The domains of reverse names.
const REVERSE_V4: &str = ".in-addr.arpa";
const REVERSE_V6: &str = ".ip6.arpa";

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports.
    Srv,
    /// The name of an address.
    Ptr,
    /// Who is responsible.
    Soa,
    /// Which name server.
    Ns,
    /// Whatever there is.
    Any,
    /// Something that names here do not have.
    Other,
}

/// One record of an answer, about the name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A port on a name.
    Srv {
        /// The port.
        port: u16,
        /// The name, without a final dot.
        target: String,
    },
    /// A name, without a final dot.
    Ptr(String),
    /// The zone's own.
    Soa,
    /// The zone's name server.
    Ns,
}

/// What there is to say about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Not ours: somebody else has to be asked.
    Elsewhere,
    /// These records.
    Records(Vec<Datum>),
    /// The name exists, and has nothing of the kind; `zone` is the zone that says so.
    Nothing {
        /// Without a final dot.
        zone: String,
    },
    /// The name does not exist; `zone` is the zone that says so.
    Unknown {
        /// Without a final dot.
        zone: String,
    },
}

/// Where the names of services lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// To the virtual address of each, as connections to those are intercepted.
    Virtual {
        /// Whether this host has a way to IPv6 addresses: without one, clients would only lose time.
        v6: bool,
    },
    /// To the outbound listener, where the name in a request says which service is meant.
    Listener(SocketAddr),
}

/// All names that there are, at one state of the policy. Immutable.
#[derive(Debug, Clone)]
pub struct Zone {
    serial: u32,
    lead: Lead,
    book: Arc<AddressBook>,
    /// The services with the ports of their instances.
    services: BTreeMap<ServiceName, BTreeSet<u16>>,
    namespaces: BTreeSet<String>,
}

impl Zone {
    /// Makes the zone of a policy. `book` has an address for each of its services.
    pub fn new(policy: &Policy, book: Arc<AddressBook>, lead: Lead) -> Self {
        let services: BTreeMap<_, _> = policy
            .services()
            .map(|(name, service)| {
                let ports = service.endpoints.iter().map(|endpoint| endpoint.port);
                (name.clone(), ports.take(PORTS_MAX).collect())
            })
            .collect();
        let namespaces = services.keys().map(|name: &ServiceName| name.namespace().to_owned()).collect();
        Self { serial: policy.revision as u32, lead, book, services, namespaces }
    }

    /// Returns the number that its own record has: the revision of the policy.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Returns which service is meant by a connection to an address; `None` when it stands for none that there is.
    pub fn service(&self, addr: IpAddr) -> Option<&ServiceName> {
        self.book.service(addr).filter(|name| self.services.contains_key(*name))
    }

    /// Returns the addresses that stand for a service.
    pub fn address(&self, name: &ServiceName) -> Option<Virtual> {
        self.book.address(name)
    }

    /// Answers a question about `name`: in lower case, without a final dot.
    pub fn answer(&self, name: &str, kind: Kind) -> Answer {
        if let Some((addr, zone)) = reversed(name) {
            return self.reverse(addr, zone, kind);
        }
        if name == MESH_DOMAIN {
            return match kind {
                Kind::Soa => Answer::Records(vec![Datum::Soa]),
                Kind::Ns | Kind::Any => Answer::Records(vec![Datum::Ns]),
                Kind::A | Kind::Aaaa | Kind::Srv | Kind::Ptr | Kind::Other => nothing(),
            };
        }
        let Some(inner) = name.strip_suffix(MESH_DOMAIN).and_then(|rest| rest.strip_suffix('.')) else {
            return Answer::Elsewhere;
        };
        // RFC 2782: what a service is reached by stands before its name, each part behind an underscore.
        let place = if kind == Kind::Srv { unprefixed(inner) } else { inner };
        let service = place.parse::<ServiceName>().ok().filter(|name| self.services.contains_key(name));
        match service {
            Some(service) => self.forward(&service, kind),
            None if self.namespaces.contains(inner) => nothing(),
            None => Answer::Unknown { zone: MESH_DOMAIN.to_owned() },
        }
    }

    fn forward(&self, service: &ServiceName, kind: Kind) -> Answer {
        let (v4, v6) = match self.lead {
            Lead::Listener(addr) => match reachable(addr.ip()) {
                IpAddr::V4(addr) => (Some(addr), None),
                IpAddr::V6(addr) => (None, Some(addr)),
            },
            Lead::Virtual { v6 } => {
                let address = self.book.address(service);
                (address.map(|address| address.v4), address.map(|address| address.v6).filter(|_| v6))
            }
        };
        let (v4, v6) = (v4.map(Datum::A), v6.map(Datum::Aaaa));
        let records: Vec<_> = match kind {
            Kind::A => v4.into_iter().collect(),
            Kind::Aaaa => v6.into_iter().collect(),
            Kind::Any => v4.into_iter().chain(v6).collect(),
            Kind::Srv => self.ports(service),
            Kind::Ptr | Kind::Soa | Kind::Ns | Kind::Other => Vec::new(),
        };
        if records.is_empty() { nothing() } else { Answer::Records(records) }
    }

    fn ports(&self, service: &ServiceName) -> Vec<Datum> {
        let datum = |port| Datum::Srv { port, target: format!("{service}.{MESH_DOMAIN}") };
        match self.lead {
            Lead::Listener(addr) => vec![datum(addr.port())],
            Lead::Virtual { .. } => {
                self.services.get(service).into_iter().flatten().copied().map(datum).collect()
            }
        }
    }

    fn reverse(&self, addr: IpAddr, zone: String, kind: Kind) -> Answer {
        match (self.service(addr), kind) {
            (Some(service), Kind::Ptr | Kind::Any) => {
                Answer::Records(vec![Datum::Ptr(format!("{service}.{MESH_DOMAIN}"))])
            }
            (Some(_), Kind::A | Kind::Aaaa | Kind::Srv | Kind::Soa | Kind::Ns | Kind::Other) => {
                Answer::Nothing { zone }
            }
            (None, _) => Answer::Unknown { zone },
        }
    }
}

fn nothing() -> Answer {
    Answer::Nothing { zone: MESH_DOMAIN.to_owned() }
}

/// Returns the address at which a client of this host reaches a listener.
fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(addr) if addr.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(addr) if addr.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => listen,
    }
}

/// Takes `_http._tcp.` off a name.
fn unprefixed(name: &str) -> &str {
    let rest = |name: &'_ str| -> Option<usize> {
        let (first, _) = name.strip_prefix('_')?.split_once('.')?;
        Some(first.len() + 2)
    };
    let Some(first) = rest(name) else { return name };
    match rest(&name[first..]) {
        Some(second) => &name[first + second..],
        None => name,
    }
}

/// Returns the virtual address that a reverse name is about, and the zone it lies in: the octet or the /40 that the range
/// begins with. `None` for every other name.
fn reversed(name: &str) -> Option<(IpAddr, String)> {
    if let Some(labels) = name.strip_suffix(REVERSE_V4) {
        let octets = labels.split('.').map(|label| label.parse::<u8>().ok()).collect::<Option<Vec<_>>>()?;
        let [d, c, b, a] = octets.try_into().ok()?;
        let addr = IpAddr::from([a, b, c, d]);
        return is_virtual(addr).then(|| (addr, format!("{a}{REVERSE_V4}")));
    }
    let labels: Vec<_> = name.strip_suffix(REVERSE_V6)?.split('.').collect();
    let nibble = |label: &&str| (label.len() == 1).then(|| u8::from_str_radix(label, 16).ok()).flatten();
    let nibbles = labels.iter().rev().map(nibble).collect::<Option<Vec<_>>>()?;
    let bits = (nibbles.len() == 32)
        .then(|| nibbles.iter().fold(0_u128, |bits, nibble| bits << 4 | u128::from(*nibble)))?;
    let addr = IpAddr::V6(Ipv6Addr::from_bits(bits));
    let zone = labels.get(labels.len() - 10..)?.join(".");
    is_virtual(addr).then(|| (addr, format!("{zone}{REVERSE_V6}")))
}
