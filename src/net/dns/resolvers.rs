//! Whom a host asks for names: the servers in its `resolv.conf(5)`, read again whenever it changes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::net::{clock, interface};

/// Where hosts keep it.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Servers that are asked at most, as glibc has it.
const SERVERS_MAX: usize = 3;
/// How often a change is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The port of name servers.
pub const PORT: u16 = 53;

/// Where questions about other names go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstreams {
    /// To the servers that this file names.
    Host(PathBuf),
    /// To these.
    Fixed(Vec<SocketAddr>),
    /// Nowhere: they are refused.
    Nowhere,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::Host(RESOLV_CONF.into())
    }
}

/// Knows whom to ask.
#[derive(Debug)]
pub struct Resolvers {
    upstreams: Upstreams,
    /// This host's own name server, which must not ask itself.
    own: SocketAddr,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    looked: Option<Instant>,
    /// Inode, length and change of the file: whoever replaces it changes one of them.
    version: Option<(u64, u64, i64, i64)>,
    servers: Arc<[SocketAddr]>,
}

impl Resolvers {
    /// Makes what knows whom to ask, for a server that listens on `own`.
    pub fn new(upstreams: Upstreams, own: SocketAddr) -> Self {
        Self { upstreams, own, seen: Mutex::default() }
    }

    /// Returns the servers to ask, in order; none when nobody is to be asked.
    pub fn servers(&self) -> Arc<[SocketAddr]> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        if seen.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY) {
            self.look(&mut seen);
            seen.looked = Some(now);
        }
        seen.servers.clone()
    }

    fn look(&self, seen: &mut Seen) {
        match &self.upstreams {
            Upstreams::Nowhere => {}
            Upstreams::Fixed(servers) => seen.servers = self.others(servers.iter().copied()),
            Upstreams::Host(path) => {
                let version = version(path);
                if seen.looked.is_some() && seen.version == version {
                    return;
                }
                seen.version = version;
                let text = fs::read_to_string(path).unwrap_or_default();
                let servers = parse(&text).into_iter().map(|ip| SocketAddr::new(ip, PORT));
                seen.servers = self.others(servers);
                tracing::debug!(servers = ?seen.servers, "name servers of this host");
            }
        }
    }

    fn others(&self, servers: impl Iterator<Item = SocketAddr>) -> Arc<[SocketAddr]> {
        servers.filter(|server| !self.is_own(*server)).take(SERVERS_MAX).collect()
    }

    fn is_own(&self, server: SocketAddr) -> bool {
        let own = self.own.ip();
        server.port() == self.own.port()
            && (server.ip() == own || own.is_unspecified() && interface::is_own(server.ip()))
    }
}

fn version(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Returns the servers that a `resolv.conf` names; the host itself when it names none, as resolv.conf(5) says.
pub fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        words.next()?.parse().ok()
    };
    let servers: Vec<_> = text.lines().filter_map(server).take(SERVERS_MAX).collect();
    if servers.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { servers }
}

#[cfg(test)]
mod tests {
    use crate::net::dns::resolvers::parse;

    #[test]
    fn a_file_names_three_servers_at_most_and_the_host_itself_when_it_names_none() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2\n  nameserver\t::1 # x\nnameserver x\n\
                    nameserver 10.0.0.3\nnameserver 10.0.0.4\n";

        let servers: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2", "::1", "10.0.0.3"]);
        assert_eq!(parse("options edns0\n"), [std::net::IpAddr::from([127, 0, 0, 1])]);
    }
}
