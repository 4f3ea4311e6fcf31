//! Host names to addresses. A static glibc cannot load the host's resolver modules, so this asks `/etc/hosts` and the
//! name servers of `/etc/resolv.conf` itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tokio::time::timeout;

/// A name that takes longer is given up.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Splits `host:port`, `[v6]:port` too; `None` when it is neither.
pub fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some((host, port.parse().ok()?))
}

/// Returns the addresses of `host:port`, at least one.
///
/// # Errors
/// When the name is not one, is unknown, or nobody answers in time.
pub async fn addresses(text: &str) -> io::Result<Vec<SocketAddr>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("'{text}' is not HOST:PORT"));
    let (host, port) = split(text).ok_or_else(wrong)?;
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let unknown = |reason: String| io::Error::new(io::ErrorKind::NotFound, format!("{host}: {reason}"));
    let resolver = TokioResolver::builder_tokio().map_err(|error| unknown(error.to_string()))?.build();
    let resolver = resolver.map_err(|error| unknown(error.to_string()))?;
    let found = timeout(RESOLVE_TIMEOUT, resolver.lookup_ip(host)).await;
    let found = found.map_err(|_| unknown("no name server answered in time".to_owned()))?;
    let found = found.map_err(|error| unknown(error.to_string()))?;
    let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
    if addresses.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(addresses) }
}
