//! The growing share of an endpoint that is new: what is cold (caches, compilers, connection pools) is not given its full
//! load at once.
//!
//! Envoy's slow start with an aggression of 1, a straight line. It is off by default, as there: peak EWMA itself gives less
//! to what answers slowly.

use std::time::Duration;

use crate::logic::balance::pick::WHOLE;

/// How the share grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// After so long it is whole.
    pub window: Duration,
    /// What it is at first, percent: 10 by default (Envoy's), enough to warm up and to be measured.
    pub min_percent: u32,
}

impl SlowStart {
    /// Envoy's `min_weight_percent`.
    pub const MIN_PERCENT: u32 = 10;

    /// Returns the share of an endpoint that is there for `age`: 1 up to [`WHOLE`]
    /// ([`crate::logic::balance::pick::Pool::share`]).
    pub fn share(&self, age: Duration) -> u32 {
        if age >= self.window {
            return WHOLE;
        }
        let grown = age.as_nanos() * u128::from(WHOLE) / self.window.as_nanos().max(1);
        let least = (WHOLE * self.min_percent.min(100) / 100).max(1);
        u32::try_from(grown).unwrap_or(WHOLE).clamp(least, WHOLE)
    }
}
