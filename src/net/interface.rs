//! What this host is called, and under which address others reach it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::model::name::NodeName;

/// A documentation address (RFC 5737): nothing is sent, the kernel only chooses the way there.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Returns the address under which other hosts reach a socket that listens on `listen`.
///
/// That is the address itself unless it is unspecified; then that of the interface towards the world, else of any
/// interface, else the loopback address.
pub fn outward(listen: IpAddr) -> IpAddr {
    if !listen.is_unspecified() {
        return listen;
    }
    let chosen = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(ELSEWHERE)?;
        socket.local_addr()
    });
    let chosen = chosen.ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    chosen
        .or_else(|| fs::read_to_string("/proc/net/fib_trie").ok().and_then(|text| local_address(&text)))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Returns the local address that packets towards `target` leave with; `None` without a way there. Sends nothing.
pub fn towards(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

/// Returns whether an address is one of this host's.
pub fn is_own(addr: IpAddr) -> bool {
    addr.is_loopback() || UdpSocket::bind((addr, 0)).is_ok()
}

/// Returns the first local address that is not a loopback one in the kernel's table of routes (proc(5)): a line with an
/// address, then a line that says `/32 host LOCAL`.
fn local_address(trie: &str) -> Option<IpAddr> {
    let lines: Vec<_> = trie.lines().map(str::trim).collect();
    lines.windows(2).find_map(|pair| {
        let [address, kind] = pair else { return None };
        let address: Ipv4Addr = address.strip_prefix("|-- ")?.parse().ok()?;
        (kind.ends_with("host LOCAL") && !address.is_loopback()).then_some(IpAddr::V4(address))
    })
}

/// Returns the host's name as a node name, in lower case and with `-` for what node names cannot hold; `None` when
/// nothing is left of it.
pub fn host_name() -> Option<NodeName> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().map(allowed).collect();
    let labels: Vec<_> =
        name.split('.').map(|label| label.trim_matches('-')).filter(|label| !label.is_empty()).collect();
    labels.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::net::interface::local_address;

    #[test]
    fn the_table_of_routes_gives_a_local_address_that_is_not_loopback() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 127.0.0.1\n        \
                    /32 host LOCAL\n     |-- 10.0.0.7\n        /32 host LOCAL\n";

        assert_eq!(local_address(trie), Some([10, 0, 0, 7].into()));
        assert_eq!(local_address("Main:\n"), None);
    }
}
