//! How a node says good-bye: directly, to a few members, more than once, as a packet may be lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many members hear it directly, and how often.
pub const MEMBERS: usize = 8;
const TIMES: u32 = 3;
const PERIOD: Duration = Duration::from_millis(100);

/// A good-bye being said.
#[derive(Debug)]
pub struct Farewell {
    to: Vec<SocketAddr>,
    payload: Vec<u8>,
    left: u32,
    next: Instant,
}

impl Farewell {
    /// Begins to say `payload` to members.
    pub fn new(to: Vec<SocketAddr>, payload: Vec<u8>, now: Instant) -> Self {
        Self { to, payload, left: TIMES, next: now }
    }

    /// Returns to whom it is said now, and what.
    pub fn say(&mut self, now: Instant) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> + '_ {
        let is_due = self.next <= now;
        let is_said = is_due && self.left > 0;
        if is_due {
            self.next = now + PERIOD;
            self.left = self.left.saturating_sub(1);
        }
        self.to.iter().filter(move |_| is_said).map(|to| (*to, self.payload.clone()))
    }

    /// Returns when to call [`Self::say`] next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Returns whether it has been said often enough to stop.
    pub fn is_over(&self) -> bool {
        self.left == 0 || self.to.is_empty()
    }
}
