//! Flow control: how many bytes of DATA may be under way on one stream. The receiver grants them.
//!
//! A window begins small and doubles when it was what held the sender up: when the reader takes a whole window within four
//! round trips, as in yamux of libp2p; gRPC's BDP estimator has the same aim. What is granted beyond the first size comes out
//! of a budget that streams share, so that memory is bounded.
//!
//! What the windows of a link have grown to, the next stream is granted from its beginning ([`Habit`]): else each body of a
//! megabyte would wait for half a dozen credits, as if the link had never carried one.

use std::time::{Duration, Instant};

use crate::logic::link::frame::Violation;

/// The window of a new stream, in bytes: HTTP/2's, which most bodies fit into.
pub const WINDOW_INITIAL: u32 = 64 << 10;
/// The largest window that is ever granted, in bytes: a gigabit per second over 32 ms.
pub const WINDOW_MAX: u32 = 4 << 20;
/// How much the windows of streams that share a budget may grow beyond their first size, in bytes: eight of the largest.
pub const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// No peer may grant more than this, in bytes: whoever does counts wrong (RFC 9113 §6.9.1).
const SENDING_MAX: i64 = (1 << 31) - 1;
/// A window taken within so many round trips grows.
const ROUND_TRIPS: u32 = 4;
/// New streams take no more than one part in so many of what windows may still grow by: the rest is for those that need it.
const HABIT_SHARE: u64 = 4;
/// A stream that does not need what it was granted takes one part in so many from the habit.
const HABIT_DECAY: u32 = 8;

/// What may be sent on one stream.
#[derive(Debug)]
pub struct Sending {
    /// Below 0 when the receiver made less of what it had granted.
    left: i64,
}

impl Default for Sending {
    fn default() -> Self {
        Self::new(WINDOW_INITIAL)
    }
}

impl Sending {
    /// Makes the window of a stream that begins with so many bytes.
    pub fn new(bytes: u32) -> Self {
        Self { left: bytes.into() }
    }

    /// Returns how many bytes may be sent.
    pub fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(0)
    }

    /// Counts bytes that were sent: no more than are left.
    pub fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.left());
        self.left -= bytes as i64;
    }

    /// Adds what the receiver gave back.
    pub fn credit(&mut self, bytes: u32) -> Result<(), Violation> {
        if bytes == 0 {
            return Err(Violation::BadCredit);
        }
        self.shift(bytes.into())
    }

    /// Adds what the receiver grants every stream, or takes it away.
    pub fn shift(&mut self, bytes: i64) -> Result<(), Violation> {
        let left = self.left + bytes;
        if left > SENDING_MAX {
            return Err(Violation::BadCredit);
        }
        self.left = left;
        Ok(())
    }
}

/// What may be received on one stream.
#[derive(Debug)]
pub struct Receiving {
    /// The size of the window: what is left, what was taken, and what waits for the reader.
    size: u32,
    left: u32,
    taken: u32,
    since: Instant,
    /// Whether the sender was ever given something back: it had more to say than half of the window.
    is_used: bool,
}

impl Receiving {
    /// Makes the window of a stream opened `now`.
    pub fn new(now: Instant) -> Self {
        Self { size: WINDOW_INITIAL, left: WINDOW_INITIAL, taken: 0, since: now, is_used: false }
    }

    /// Counts bytes that arrived.
    pub fn received(&mut self, bytes: usize) -> Result<(), Violation> {
        let bytes = u32::try_from(bytes).map_err(|_| Violation::Overrun)?;
        self.left = self.left.checked_sub(bytes).ok_or(Violation::Overrun)?;
        Ok(())
    }

    /// Counts bytes that the reader took, and tells whether a credit is due: when half of the window was taken.
    pub fn taken(&mut self, bytes: usize) -> bool {
        self.taken = self.taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.taken >= self.size / 2
    }

    /// Gives back what was taken, and more when the window held the sender up; returns the credit to send. `budget` is what
    /// may still be granted beyond first sizes.
    pub fn credit(&mut self, now: Instant, round_trip: Option<Duration>, budget: &mut u64) -> u32 {
        let elapsed = now.saturating_duration_since(self.since);
        self.since = now;
        // Half of the window was taken, so half of the time.
        let is_short = round_trip.is_some_and(|trip| elapsed <= trip * ROUND_TRIPS / 2);
        let growth =
            if is_short && self.size < WINDOW_MAX { self.size.min(WINDOW_MAX - self.size) } else { 0 };
        let growth = if u64::from(growth) <= *budget { growth } else { 0 };
        *budget -= u64::from(growth);
        self.size += growth;
        let credit = self.taken + growth;
        self.taken = 0;
        self.left += credit;
        self.is_used = true;
        credit
    }

    /// Returns what the window has grown by, in bytes: what its end gives back to the budget.
    pub fn growth(&self) -> u64 {
        u64::from(self.size - WINDOW_INITIAL)
    }
}

/// What the windows of a link's streams lately grew to.
#[derive(Debug)]
pub struct Habit {
    size: u32,
}

impl Default for Habit {
    fn default() -> Self {
        Self { size: WINDOW_INITIAL }
    }
}

impl Habit {
    /// Grants a new stream what those before it came to need, out of `budget`. Returns the credit to send; 0 is none.
    pub fn begin(&self, window: &mut Receiving, budget: &mut u64) -> u32 {
        let growth = self.size.saturating_sub(window.size);
        if growth == 0 || u64::from(growth) > *budget / HABIT_SHARE {
            return 0;
        }
        *budget -= u64::from(growth);
        window.size += growth;
        window.left += growth;
        growth
    }

    /// Learns from a stream that has ended.
    pub fn learn(&mut self, window: &Receiving) {
        if window.is_used {
            self.size = self.size.max(window.size);
        } else {
            self.size = (self.size - self.size / HABIT_DECAY).max(WINDOW_INITIAL);
        }
    }
}
