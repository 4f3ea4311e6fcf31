//! When a certificate is renewed, how failures are retried, and when they become an alarm.
//!
//! Renewal is due at a drawn point between 50 % and 66 % of a certificate's life, so that nodes that joined together do not
//! come back together (as SPIRE's jittered half-life, `rotationutil`). Retries back off exponentially with equal jitter
//! (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015), capped at a share of the life, so that even a
//! short-lived certificate gets many tries.
//!
//! All of this goes by the time of day, which may be set, or jump when a machine that was suspended goes on. What was planned
//! by a clock that was wrong must not count once it is right.

/// Renewal is due between these shares of the life, in thousandths.
const DUE_FROM: u64 = 500;
const DUE_TO: u64 = 660;
/// From these shares on, failing to renew is a warning, and an error.
const LATE: u64 = 800;
const CRITICAL: u64 = 950;
/// The wait before the first retry; doubled after each failure.
const RETRY_FIRST_MS: u64 = 2_000;
/// The longest wait, and the share of the life that it does not exceed, in thousandths.
const RETRY_MOST_MS: u64 = 300_000;
const RETRY_SHARE: u64 = 20;
/// The shortest wait, however short the life.
const RETRY_LEAST_MS: u64 = 100;
/// More doublings change nothing.
const DOUBLINGS_MAX: u32 = 16;

/// The time in which a certificate is valid, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Beginning.
    pub not_before_ms: u64,
    /// End.
    pub not_after_ms: u64,
}

/// How a certificate stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// In its first four fifths: renewed by then, or being tried.
    Sound,
    /// Past 80 % of its life: somebody should look.
    Late,
    /// Past 95 %: calls will fail soon.
    Critical,
    /// Over: nobody accepts it any more, but control lets its holder renew.
    Expired,
}

impl Validity {
    fn life_ms(self) -> u64 {
        self.not_after_ms.saturating_sub(self.not_before_ms)
    }

    /// Returns the moment at which `share` thousandths of the life are over.
    fn at(self, share: u64) -> u64 {
        self.not_before_ms + scale(self.life_ms(), share, 1000)
    }

    /// Returns when to renew, Unix milliseconds: 50 % to 66 % into the life, spread by `draw`.
    pub fn renew_ms(self, draw: u64) -> u64 {
        let (from, to) = (self.at(DUE_FROM), self.at(DUE_TO));
        from + spread(to - from, draw)
    }

    /// Returns the longest wait after a failure, ms.
    fn retry_most_ms(self) -> u64 {
        scale(self.life_ms(), RETRY_SHARE, 1000).clamp(RETRY_LEAST_MS, RETRY_MOST_MS)
    }

    /// Returns when to ask for the next one at the latest, Unix milliseconds: whatever is planned for later was planned by a
    /// clock that was ahead. `failures` is how often it was asked for in vain.
    pub fn latest_ms(self, failures: u32, now_ms: u64) -> u64 {
        let retry = now_ms.saturating_add(self.retry_most_ms());
        match (now_ms < self.not_before_ms, failures) {
            // Issued while clocks were ahead: of no use now.
            (true, 0) => now_ms,
            (true, _) => retry,
            (false, _) => self.at(DUE_TO).max(retry),
        }
    }

    /// Returns how long to wait after the `failures`-th failure in a row (from 1), in ms: spread by `draw` over the upper
    /// half of what backing off asks for.
    pub fn retry_ms(self, failures: u32, draw: u64) -> u64 {
        let most = self.retry_most_ms();
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let wait = (RETRY_FIRST_MS << doublings).min(most);
        wait - wait / 2 + spread(wait / 2, draw)
    }

    /// Returns how it stands at `now_ms`.
    pub fn stage(self, now_ms: u64) -> Stage {
        if now_ms >= self.not_after_ms {
            Stage::Expired
        } else if now_ms >= self.at(CRITICAL) {
            Stage::Critical
        } else if now_ms >= self.at(LATE) {
            Stage::Late
        } else {
            Stage::Sound
        }
    }
}

/// Returns a value below `width`, in proportion to `draw`; 0 for no width.
fn spread(width: u64, draw: u64) -> u64 {
    ((u128::from(width) * u128::from(draw)) >> u64::BITS) as u64
}

/// Returns `value * share / whole` without overflow.
fn scale(value: u64, share: u64, whole: u64) -> u64 {
    (u128::from(value) * u128::from(share) / u128::from(whole)) as u64
}
