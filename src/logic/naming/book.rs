//! The virtual address of each service: one that nobody has, so that a connection to it can be told for what it is.
//!
//! An address is a hash of the name, cut to a range. Every host thus finds the same one without having asked anybody, with
//! the control plane down too, and whatever else comes or goes. Of IPv6 addresses (64 bits) no two ever meet. Of IPv4
//! addresses (27 bits) two of 1,000 services meet with a probability of 0.4 %; then whoever this host has known first
//! keeps the address, and the other takes its next candidate. So an address never changes its meaning under a
//! connection, which counts for more than that two hosts agree about that one service: an address is only ever used on
//! the host that gave it. At a start the names are taken in order. Names are remembered when their service goes, so that
//! their addresses are not given to others that a client would take for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::logic::balance::hash;
use crate::model::name::ServiceName;

/// The range of IPv4 addresses, `240.0.0.0/5`: reserved (RFC 1112 §4) and routed by nobody, but sent by every Linux.
pub const RANGE_V4: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 0);
/// Bits of [`RANGE_V4`] that all its addresses share.
pub const PREFIX_V4: u32 = 5;
/// The range of IPv6 addresses, `fd6d:6573:6800::/64`: of unique local ones (RFC 4193), under a prefix that says "mesh".
pub const RANGE_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6573, 0x6800, 0, 0, 0, 0, 0);
/// Bits of [`RANGE_V6`] that all its addresses share.
pub const PREFIX_V6: u32 = 64;

/// Names that are remembered; with more, those whose service is gone are forgotten.
pub const NAMES_MAX: usize = 65_536;
/// Candidates that a name has: that all are taken does not happen.
const ATTEMPTS_MAX: u32 = 1_000;
/// The first addresses of either range are no service's.
const KEPT_FREE: u32 = 256;

/// The addresses that stand for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Virtual {
    /// In [`RANGE_V4`].
    pub v4: Ipv4Addr,
    /// In [`RANGE_V6`].
    pub v6: Ipv6Addr,
}

/// Which addresses stand for which services on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressBook {
    names: BTreeMap<ServiceName, Virtual>,
    v4: BTreeMap<Ipv4Addr, ServiceName>,
    v6: BTreeMap<Ipv6Addr, ServiceName>,
}

/// Returns whether an address lies in a range of virtual ones.
pub fn is_virtual(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.to_bits() >> (32 - PREFIX_V4) == RANGE_V4.to_bits() >> (32 - PREFIX_V4),
        IpAddr::V6(addr) => addr.to_bits() >> (128 - PREFIX_V6) == RANGE_V6.to_bits() >> (128 - PREFIX_V6),
    }
}

/// Returns the addresses that a service takes at its n-th attempt, the first being 0.
fn candidate(name: &ServiceName, attempt: u32) -> Virtual {
    let seed = if attempt == 0 { name.to_string() } else { format!("{name}#{attempt}") };
    let number = hash::hash(seed.as_bytes());
    let v4 = (number >> (64 - (32 - PREFIX_V4))) as u32;
    Virtual {
        v4: Ipv4Addr::from_bits(RANGE_V4.to_bits() | v4),
        v6: Ipv6Addr::from_bits(RANGE_V6.to_bits() | u128::from(number)),
    }
}

impl AddressBook {
    /// Gives an address to each name that has none. `known` are all services that there are.
    pub fn enter<'n>(&mut self, known: impl IntoIterator<Item = &'n ServiceName>) {
        let known: BTreeSet<&ServiceName> = known.into_iter().collect();
        let new: Vec<_> = known.iter().filter(|name| !self.names.contains_key(**name)).copied().collect();
        if self.names.len() + new.len() > NAMES_MAX {
            self.names.retain(|name, _| known.contains(name));
            self.v4.retain(|_, name| known.contains(name));
            self.v6.retain(|_, name| known.contains(name));
        }
        for name in new {
            self.give(name);
        }
    }

    fn give(&mut self, name: &ServiceName) {
        let free = |address: &Virtual| {
            address.v4.to_bits() - RANGE_V4.to_bits() >= KEPT_FREE
                && !self.v4.contains_key(&address.v4)
                && address.v6.to_bits() - RANGE_V6.to_bits() >= u128::from(KEPT_FREE)
                && !self.v6.contains_key(&address.v6)
        };
        let Some(address) = (0..ATTEMPTS_MAX).map(|attempt| candidate(name, attempt)).find(free) else {
            return;
        };
        self.names.insert(name.clone(), address);
        self.v4.insert(address.v4, name.clone());
        self.v6.insert(address.v6, name.clone());
    }

    /// Returns the addresses of a service; `None` for one that was never known.
    pub fn address(&self, name: &ServiceName) -> Option<Virtual> {
        self.names.get(name).copied()
    }

    /// Returns the service that an address stands for.
    pub fn service(&self, addr: IpAddr) -> Option<&ServiceName> {
        match addr.to_canonical() {
            IpAddr::V4(addr) => self.v4.get(&addr),
            IpAddr::V6(addr) => self.v6.get(&addr),
        }
    }

    /// Returns every name with its addresses, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = (&ServiceName, Virtual)> {
        self.names.iter().map(|(name, address)| (name, *address))
    }
}
