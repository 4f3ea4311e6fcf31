//! How much one instance serves at a time, and the shedding of what is above.
//!
//! The adaptive limit is `Gradient2` of Netflix's concurrency-limits: while the instance is as fast as it usually is the
//! limit grows by a small queue, when it becomes slower the limit shrinks in proportion. It needs no number from the user
//! and no experiment (Envoy's gradient controller lets the load fall every minute to measure the idle latency).

/// How many requests one instance serves at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyRules {
    /// So many.
    Fixed(u32),
    /// As many as it serves without becoming slower, within bounds.
    Adaptive {
        /// Never fewer: 10 by default, because below a handful latency says nothing about load.
        min: u32,
        /// Never more: 1,000 by default, far above what one process of most runtimes works on at once.
        max: u32,
    },
}

impl ConcurrencyRules {
    /// The default of `min`.
    pub const MIN: u32 = 10;
    /// The default of `max`.
    pub const MAX: u32 = 1_000;
}

/// What the limit starts with: Netflix's `initialLimit`.
const INITIAL: f64 = 20.0;
/// Requests that may queue while the limit is in balance: Netflix's `queueSize`.
const QUEUE: f64 = 4.0;
/// How much slower than usual is still usual: Netflix's `rttTolerance`.
const TOLERANCE: f64 = 1.5;
/// The weight of each new limit: Netflix's `smoothing`.
const SMOOTHING: f64 = 0.2;
/// Samples over which "usual" is averaged: Netflix's `longWindow`.
const LONG_SAMPLES: f64 = 600.0;

/// The limit of one instance and what it follows from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concurrency {
    limit: f64,
    /// The usual latency, nanoseconds; 0 before the first sample.
    usual_ns: f64,
    samples: f64,
}

impl Concurrency {
    /// Makes the limit of an instance that served nothing yet.
    pub fn new(rules: ConcurrencyRules) -> Self {
        let limit = match rules {
            ConcurrencyRules::Fixed(limit) => f64::from(limit),
            ConcurrencyRules::Adaptive { min, max } => INITIAL.clamp(f64::from(min), f64::from(max.max(min))),
        };
        Self { limit, usual_ns: 0.0, samples: 0.0 }
    }

    /// Returns whether one more request is let in where `under_way` are there already.
    pub fn admits(&self, under_way: u32) -> bool {
        f64::from(under_way) < self.limit.floor()
    }

    /// Returns how many are let in.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Records a response that began after `latency_ns`, with `under_way` requests there when it was let in. What ended
    /// without a response is not recorded: its time says nothing.
    pub fn record(&mut self, rules: ConcurrencyRules, latency_ns: u64, under_way: u32) {
        let ConcurrencyRules::Adaptive { min, max } = rules else { return };
        let latency = (latency_ns as f64).max(1.0);
        self.samples = (self.samples + 1.0).min(LONG_SAMPLES);
        self.usual_ns += (latency - self.usual_ns) / self.samples;
        if self.usual_ns > 2.0 * latency {
            // It was slow for long and is not any more: forget sooner.
            self.usual_ns *= 0.95;
        }
        // A limit that is not made use of cannot be judged.
        if f64::from(under_way) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * self.usual_ns / latency).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + QUEUE;
        let limit = self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING;
        self.limit = limit.clamp(f64::from(min), f64::from(max.max(min)));
    }
}
