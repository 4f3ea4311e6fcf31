//! Idle HTTP/1 connections of one worker to local services.
//!
//! A connection is put back only once hyper says that it can take another request, and is thrown away before the server is
//! likely to (most servers wait 5 s or more): a request sent into a closing connection is the commonest cause of failures
//! in proxies (Linkerd's default of 3 s has the same reason).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use crate::net::{clock, task};

/// Idle connections to one address at most.
pub const IDLE_MAX: usize = 256;
/// A connection that was not used for so long is closed.
pub const IDLE_TIME: Duration = Duration::from_secs(4);

/// The idle connections of one worker.
pub struct Idle<B> {
    by_addr: RefCell<HashMap<SocketAddr, Vec<Resting<B>>>>,
}

/// A connection and when it was last used.
type Resting<B> = (SendRequest<B>, Instant);

/// A connection in use; goes back to the others with [`Lease::finish`], is closed when dropped.
pub struct Lease<B> {
    /// What sends on it.
    pub sender: SendRequest<B>,
    addr: SocketAddr,
    home: Weak<Idle<B>>,
    /// Whether it carried something before.
    pub reused: bool,
}

impl<B: 'static> Idle<B> {
    /// Makes one without connections.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { by_addr: RefCell::default() })
    }

    /// Takes the connection that was used last; `None` when a new one has to be made.
    pub fn take(self: &Rc<Self>, addr: SocketAddr) -> Option<Lease<B>> {
        let mut by_addr = self.by_addr.borrow_mut();
        let idle = by_addr.get_mut(&addr)?;
        let now = clock::now();
        while let Some((sender, since)) = idle.pop() {
            if now.saturating_duration_since(since) >= IDLE_TIME {
                // Those below are older still.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(Lease { sender, addr, home: Rc::downgrade(self), reused: true });
            }
        }
        None
    }

    /// Takes a new connection into use.
    pub fn adopt(self: &Rc<Self>, addr: SocketAddr, sender: SendRequest<B>) -> Lease<B> {
        Lease { sender, addr, home: Rc::downgrade(self), reused: false }
    }

    /// Closes what was not used for [`IDLE_TIME`].
    pub fn sweep(&self, now: Instant) {
        self.by_addr.borrow_mut().retain(|_, idle| {
            idle.retain(|(sender, since)| {
                !sender.is_closed() && now.saturating_duration_since(*since) < IDLE_TIME
            });
            !idle.is_empty()
        });
    }

    fn put(&self, addr: SocketAddr, sender: SendRequest<B>) {
        let mut by_addr = self.by_addr.borrow_mut();
        let idle = by_addr.entry(addr).or_default();
        if idle.len() < IDLE_MAX {
            idle.push((sender, clock::now()));
        }
    }
}

impl<B: 'static> Lease<B> {
    /// Gives the connection back, the response having ended as it should.
    pub fn finish(mut self) {
        let Some(home) = self.home.upgrade() else { return };
        if self.sender.is_ready() {
            home.put(self.addr, self.sender);
        } else if !self.sender.is_closed() {
            task::spawn_local("idle", async move {
                if self.sender.ready().await.is_ok() {
                    home.put(self.addr, self.sender);
                }
            });
        }
    }
}
