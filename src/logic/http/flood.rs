//! Frames of HTTP/2 that cost their receiver something and carry nothing: counted, so that a flood of them is known for one
//! (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316, CVE-2025-8671). Memory is bounded without that, work is not.
//! Clients are held to it, and services too: what an honest one says, pings and windows, is for what it was sent.

use std::time::{Duration, Instant};

/// How many frames that carry nothing a peer may send in a second. Cancelled calls and the window updates and pings of a
/// busy client come to some hundreds.
pub const FREE_PER_SECOND: u64 = 2_000;
/// A peer may send one such frame more for so many bytes that were sent to it: it grants windows for what it reads.
const BYTES_PER_FRAME: u64 = 32;
/// How many frames can be earned by that at most, so that nobody saves them up for a flood. It is what an honest peer may
/// owe at once: the buffers of a connection hold some 6 MiB, and it grants two windows, of the connection and of the stream,
/// for each 4 KiB that it reads (Go) or for each frame that a small message came in.
pub const EARNED_MAX: u64 = 10_000;

/// The frames of one peer, as far as they have come.
#[derive(Debug)]
pub struct Meter {
    /// Frames without content that may still come.
    left: u64,
    /// Bytes sent to the peer that have not earned it a frame yet.
    sent: u64,
    since: Instant,
}

impl Meter {
    /// Makes the meter of a peer that has sent nothing.
    pub fn new(now: Instant) -> Self {
        Self { left: FREE_PER_SECOND, sent: 0, since: now }
    }

    /// Takes notice of a frame that carries nothing; tells whether it is one too many.
    #[must_use]
    pub fn received(&mut self, now: Instant) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return false;
        }
        if now.saturating_duration_since(self.since) < Duration::from_secs(1) {
            return true;
        }
        self.since = now;
        self.left = FREE_PER_SECOND;
        false
    }

    /// Takes notice of bytes sent to the peer.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        let earned = self.sent / BYTES_PER_FRAME;
        self.sent %= BYTES_PER_FRAME;
        self.left = (self.left + earned).min(self.left.max(EARNED_MAX));
    }
}
