//! Capped exponential back-off with jitter from a draw.
//!
//! "Equal jitter" of Brooker, "Exponential Backoff And Jitter" (2015): half of the delay is certain, half is drawn. Full
//! jitter spreads better, but may come back at once, which is wrong for an endpoint that just refused.

use std::time::Duration;

/// The shape of a series of delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first delay; the others double it.
    pub base: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

impl Backoff {
    /// Returns the delay after the `failures`-th failure in a row (from 1): between half of and all of
    /// `min(cap, base × 2^(failures − 1))`, by `draw`, uniform over all of `u64`.
    pub fn delay(self, failures: u32, draw: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.cap);
        let half = whole / 2;
        let drawn = (half.as_nanos() * u128::from(draw)) >> 64;
        half + Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}
