//! Passive avoidance of one endpoint that refuses or resets: a circuit breaker (Nygard, *Release It!*, 2007) that opens on
//! the first broken connection, because the next endpoint is free to try.
//!
//! Closed: calls go through. A failure opens it for a back-off of 1 s that doubles up to 60 s (Linkerd's penalties). When
//! that is over it is half-open: one call is let through as a probe; its success closes, its failure opens for longer.

use std::time::Duration;

use crate::logic::resilience::backoff::Backoff;

/// For how long an endpoint is avoided: 1 s at first, 60 s at most.
pub const PENALTY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_mins(1) };
/// After so long a probe that was never heard of again is given up, so that it cannot block the next.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// What is remembered of an endpoint's failures. Instants are nanoseconds since any fixed origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Avoidance {
    /// It works, as far as is known.
    #[default]
    Closed,
    /// It failed: not called before `until_ns`.
    Open {
        /// Failures in a row.
        failures: u32,
        /// When it may be probed.
        until_ns: u64,
        /// Whether it was for its answers: then calls that were under way already do not end it.
        ejected: bool,
    },
    /// One call is under way to find out.
    HalfOpen {
        /// Failures in a row before it.
        failures: u32,
        /// When the probe is given up.
        until_ns: u64,
    },
}

/// Whether a call may go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// It may.
    Yes,
    /// It may, and its outcome decides about the calls after it.
    Probe,
    /// It should go elsewhere; when there is no elsewhere, it may go all the same.
    No,
}

impl Avoidance {
    /// Returns whether picking should pass the endpoint over. Once the back-off is over it does not: the next call that
    /// picks it becomes the probe.
    pub fn avoided(self, now_ns: u64) -> bool {
        match self {
            Self::Closed => false,
            Self::Open { until_ns, .. } | Self::HalfOpen { until_ns, .. } => now_ns < until_ns,
        }
    }

    /// Asks to send a call to the endpoint that was picked. At most one call is a probe at any time.
    pub fn admit(&mut self, now_ns: u64) -> Admit {
        match *self {
            Self::Closed => Admit::Yes,
            Self::Open { until_ns, .. } | Self::HalfOpen { until_ns, .. } if now_ns < until_ns => Admit::No,
            Self::Open { failures, .. } | Self::HalfOpen { failures, .. } => {
                *self = Self::HalfOpen { failures, until_ns: after(now_ns, PROBE_PATIENCE) };
                Admit::Probe
            }
        }
    }

    /// Records that a call to the endpoint came to an answer: it works, unless its answers are what it is avoided for.
    pub fn succeeded(&mut self) {
        if !matches!(self, Self::Open { ejected: true, .. }) {
            *self = Self::Closed;
        }
    }

    /// Records that the endpoint refused, reset or did not answer; `draw` spreads the back-off.
    ///
    /// Failures of calls that began before it was opened do not lengthen the back-off.
    pub fn failed(&mut self, now_ns: u64, draw: u64) {
        let failures = match *self {
            Self::Closed => 1,
            Self::Open { until_ns, .. } if now_ns < until_ns => return,
            Self::Open { failures, .. } | Self::HalfOpen { failures, .. } => failures.saturating_add(1),
        };
        let until_ns = after(now_ns, PENALTY.delay(failures, draw));
        *self = Self::Open { failures, until_ns, ejected: false };
    }

    /// Ejects the endpoint for its answers (`outlier`), the `count`-th time lately. One that is
    /// avoided already stays so for as long as it was.
    pub fn eject(&mut self, now_ns: u64, count: u32, penalty: Backoff, draw: u64) {
        if matches!(self, Self::Open { .. }) && self.avoided(now_ns) {
            return;
        }
        let until_ns = after(now_ns, penalty.delay(count, draw));
        *self = Self::Open { failures: count, until_ns, ejected: true };
    }
}

fn after(now_ns: u64, wait: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}
