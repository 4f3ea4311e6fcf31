//! The hash that all proxies of a mesh agree on: FNV-1a (Fowler, Noll, Vo 1991), its bits mixed by the finaliser of
//! `SplitMix64` because FNV alone leaves keys that differ in their last byte close together.

use std::net::IpAddr;

use crate::logic::balance::pick::Draw;
use crate::model::endpoint::Endpoint;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Returns the hash of some bytes: the same on every machine and in every version.
pub fn hash(bytes: &[u8]) -> u64 {
    mix(fnv(OFFSET, bytes))
}

/// Returns the hash that an endpoint is known by within its service.
pub fn endpoint(endpoint: &Endpoint) -> u64 {
    let node = fnv(OFFSET, endpoint.node.as_str().as_bytes());
    mix(fnv(fnv(node, b"\0"), &endpoint.port.to_be_bytes()))
}

/// Returns the hash of an address, the same for both ways to write one of IPv4.
pub fn address(addr: IpAddr) -> u64 {
    match addr.to_canonical() {
        IpAddr::V4(addr) => hash(&addr.octets()),
        IpAddr::V6(addr) => hash(&addr.octets()),
    }
}

/// Returns a number in which every bit depends on every bit of `number`.
pub fn mix(number: u64) -> u64 {
    Draw(number).number()
}

fn fnv(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(PRIME))
}
