//! Whether the peer is still there, from what was heard of it and when.
//!
//! Nothing is sent while bytes come in. After a silence a PING is; whoever does not send a byte for a while after it is
//! gone. How long a PING took is the round trip.

use std::time::{Duration, Instant};

use crate::logic::link::frame::Violation;

/// The silence after which a link with streams is asked.
pub const PING_EVERY: Duration = Duration::from_secs(3);
/// The silence after which a link without streams is asked by the side that dialled.
pub const PING_IDLE: Duration = Duration::from_secs(10);
/// The silence after which a link without streams is asked by the other side: seldom reached, as the first asks before.
pub const PING_IDLE_ACCEPTED: Duration = Duration::from_secs(30);
/// How long after a PING no byte may come before the peer is given up.
pub const PING_PATIENCE: Duration = Duration::from_secs(4);

/// A look that is late by this means that this process stood still, which says nothing of the peer.
const LATE: Duration = Duration::from_secs(2);
/// A round trip is measured anew when it is this old and matters.
const ROUND_TRIP_AGE_MAX: Duration = Duration::from_secs(1);

/// What to do at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing, until then.
    Wait(Instant),
    /// Send a PING.
    Ask,
    /// The peer is gone.
    Dead,
}

/// The signs of life of one peer.
#[derive(Debug)]
pub struct Pulse {
    heard: Instant,
    asked: Option<Instant>,
    due: Instant,
    number: u64,
    round_trip: Option<Duration>,
    measured: Instant,
}

impl Pulse {
    /// Makes the pulse of a peer that was heard `now`.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, asked: None, due: now, number: 0, round_trip: None, measured: now }
    }

    /// Tells that the peer gave a sign of life.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Returns the number for a PING that is sent `now`; None when one is on its way already.
    pub fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.asked.is_some() {
            return None;
        }
        self.number += 1;
        self.asked = Some(now);
        Some(self.number)
    }

    /// Takes the number of a PONG.
    pub fn answer(&mut self, number: u64, now: Instant) -> Result<(), Violation> {
        let asked = self.asked.take_if(|_| number == self.number).ok_or(Violation::Unasked)?;
        let sample = now.saturating_duration_since(asked);
        // Downwards at once, upwards slowly: what is above the least is mostly waiting in line.
        self.round_trip = Some(match self.round_trip {
            Some(old) => sample.min(old + sample.saturating_sub(old) / 8),
            None => sample,
        });
        self.measured = now;
        Ok(())
    }

    /// Returns how long a byte takes there and back; None before the first answer.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Tells whether the round trip should be measured anew.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.asked.is_none() && now.saturating_duration_since(self.measured) >= ROUND_TRIP_AGE_MAX
    }

    /// Looks at the peer, which may be silent for `silence` before it is asked. To be called at the time that the last look
    /// said, or earlier.
    pub fn look(&mut self, now: Instant, silence: Duration) -> Beat {
        if now.saturating_duration_since(self.due) > LATE && self.due > self.heard {
            self.heard = now;
        }
        let beat = match self.asked {
            Some(asked) => {
                let until = asked.max(self.heard) + PING_PATIENCE;
                if now >= until { Beat::Dead } else { Beat::Wait(until) }
            }
            None if now >= self.heard + silence => Beat::Ask,
            None => Beat::Wait(self.heard + silence),
        };
        self.due = match beat {
            Beat::Wait(until) => until,
            Beat::Ask | Beat::Dead => now + PING_PATIENCE,
        };
        beat
    }
}
