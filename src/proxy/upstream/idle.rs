//! Idle connections of one worker to local services that speak HTTP/1.
//!
//! They are thrown away before the server is likely to close them (most servers wait 5 s or more): a request sent into a
//! closing connection is the commonest cause of failures in proxies (Linkerd's default of 3 s has the same reason).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Idle connections to one address at most: what so many calls at a time leave behind, in less than half a MiB. More are
/// made anew, which on one host costs little.
pub const IDLE_MAX: usize = 256;
/// A connection that was not used for so long is closed.
pub const IDLE_TIME: Duration = Duration::from_secs(4);

/// The idle connections of one worker.
pub struct Idle<C> {
    by_addr: RefCell<HashMap<SocketAddr, Vec<Resting<C>>, foldhash::fast::RandomState>>,
}

/// A connection and when it was last used.
type Resting<C> = (C, Instant);

impl<C> Idle<C> {
    /// Makes one without connections.
    pub fn new() -> Self {
        Self { by_addr: RefCell::default() }
    }

    /// Takes the connection that was used last and that `works`; `None` when a new one has to be made.
    pub fn take(&self, addr: SocketAddr, now: Instant, works: impl Fn(&C) -> bool) -> Option<C> {
        let mut by_addr = self.by_addr.borrow_mut();
        let idle = by_addr.get_mut(&addr)?;
        while let Some((connection, since)) = idle.pop() {
            if now.saturating_duration_since(since) >= IDLE_TIME {
                // Those below are older still.
                idle.clear();
                return None;
            }
            if works(&connection) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; with too many, it is closed.
    pub fn put(&self, addr: SocketAddr, now: Instant, connection: C) {
        let mut by_addr = self.by_addr.borrow_mut();
        let idle = by_addr.entry(addr).or_default();
        if idle.len() < IDLE_MAX {
            idle.push((connection, now));
        }
    }

    /// Closes what was not used for [`IDLE_TIME`].
    pub fn sweep(&self, now: Instant) {
        self.by_addr.borrow_mut().retain(|_, idle| {
            idle.retain(|(_, since)| now.saturating_duration_since(*since) < IDLE_TIME);
            !idle.is_empty()
        });
    }
}

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Self::new()
    }
}
