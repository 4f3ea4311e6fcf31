//! Faults on purpose: a delay, an answer instead of the service's, or both, as one draw says.

use std::time::Duration;

/// A share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// At most the denominator.
    pub numerator: u32,
    /// 1 or more.
    pub denominator: u32,
}

/// Which faults are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRules {
    /// How often a request waits, and how long.
    pub delay: Option<(Chance, Duration)>,
    /// How often a request is answered without being sent, and how.
    pub abort: Option<(Chance, Abort)>,
}

/// An answer instead of the service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// For callers of HTTP.
    pub status: u16,
    /// For callers of gRPC.
    pub grpc_status: u8,
}

/// What is done to one request: the wait first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fault {
    /// It waits (`DI`).
    pub delay: Option<Duration>,
    /// It is answered (`FI`).
    pub abort: Option<Abort>,
}

impl FaultRules {
    /// Decides about one request, by a draw that is uniform over all of `u64`: delay and abort do not depend on each other.
    pub fn decide(&self, draw: u64) -> Fault {
        let delay = self.delay.filter(|(chance, _)| chance.hits(draw as u32));
        let abort = self.abort.filter(|(chance, _)| chance.hits((draw >> 32) as u32));
        Fault { delay: delay.map(|(_, wait)| wait), abort: abort.map(|(_, abort)| abort) }
    }
}

impl Chance {
    /// Decides about one request; `draw` is uniform over all of `u32`.
    pub fn hits(self, draw: u32) -> bool {
        u128::from(draw) * u128::from(self.denominator) < u128::from(self.numerator) << 32
    }
}
