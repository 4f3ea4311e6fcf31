//! What becomes of a connection when the certificate of its peer ends.
//!
//! A connection is as good as the certificate that it began with: nothing new begins on it once that is over, so that the peer
//! comes back with its next one. What is under way, which may be a connection of days, goes on as long as control vouches for
//! the peer's node: a node that renews is vouched for anew, by a word that travels with all that it says of itself. One that
//! does not renew, because it was removed or its clock is wrong or ours is, loses what it has after a grace.
//!
//! What is over is decided by the time of day, as everywhere, and that may be set or jump. The grace is counted by a clock that
//! does not: when the time of day jumps ahead, everybody has all of the grace to renew and to be heard of; when it jumps back
//! before that is over, all is as it was.

use std::time::{Duration, Instant};

/// How long a peer that is not vouched for keeps what is under way: a renewal takes seconds, also for a host that was suspended
/// past the end of its certificates, and so does the word of it.
pub const GRACE: Duration = Duration::from_mins(1);

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The certificate is good.
    Sound,
    /// It is over: nothing new may begin.
    Closing,
    /// It is over, and the peer has not renewed in time: what is under way must end.
    Over,
}

/// Since when the peer of a connection is without a word for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lapse {
    since: Option<Instant>,
}

impl Lapse {
    /// Judges a connection that began with a certificate that ends at `not_after_ms`, to a node for which control vouches until
    /// `vouched_ms`, if it is known to do so at all: both in Unix milliseconds, as is `now_ms`.
    pub fn look(
        &mut self,
        (not_after_ms, vouched_ms): (u64, Option<u64>),
        now_ms: u64,
        now: Instant,
    ) -> Standing {
        if now_ms <= not_after_ms {
            self.since = None;
            return Standing::Sound;
        }
        if vouched_ms.is_some_and(|vouched_ms| now_ms <= vouched_ms) {
            self.since = None;
            return Standing::Closing;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= GRACE { Standing::Over } else { Standing::Closing }
    }
}
