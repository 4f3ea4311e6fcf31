//! Peak EWMA: an average of latency that believes bad news at once and good news slowly.
//!
//! After Finagle's `PeakEwma` as Linkerd uses it through tower (`tower::load::peak_ewma`): a sample above the estimate
//! replaces it, a lower one is averaged in with weight `1 − e^(−Δt/τ)`, and without samples the estimate decays towards
//! zero, so that an endpoint avoided for being slow is tried again. tower writes the decay back on every read; here
//! reading is pure, which gives the same values since `e^a · e^b = e^(a+b)`.
//!
//! Unlike there, nothing is assumed of an endpoint that was never called. Linkerd's assumption of 30 ms keeps a new one
//! idle for `τ · ln(30 / 2)`, 27 s, next to one that answers in 2 ms, unless calls overlap.

/// τ: after so long without a sample, an estimate has fallen to 1/e. 10 s, Linkerd's default. Nanoseconds.
pub const DECAY_NS: f64 = 10_000_000_000.0;

/// An estimate of latency at some instant. Two words, so that two atomics can hold it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ewma {
    /// The estimate at `at_ns`, nanoseconds; 0 when nothing is known.
    pub estimate_ns: f64,
    /// When the estimate was made, nanoseconds since any fixed origin.
    pub at_ns: u64,
}

impl Ewma {
    /// Makes the estimate of an endpoint that was never called: none.
    pub fn new(now_ns: u64) -> Self {
        Self { estimate_ns: 0.0, at_ns: now_ns }
    }

    /// Returns the estimate with one more sample in it. Time going backwards counts as no time at all.
    #[must_use]
    pub fn observe(self, sample_ns: u64, now_ns: u64) -> Self {
        let sample = sample_ns as f64;
        let keep = self.keep(now_ns);
        let average = self.estimate_ns * keep + sample * (1.0 - keep);
        Self { estimate_ns: average.max(sample), at_ns: now_ns.max(self.at_ns) }
    }

    /// Returns the latency to expect at `now_ns`, nanoseconds; 0 when nothing is known.
    pub fn project(self, now_ns: u64) -> f64 {
        self.estimate_ns * self.keep(now_ns)
    }

    /// The share of the estimate that is left of it, `0..=1`.
    fn keep(self, now_ns: u64) -> f64 {
        let age = now_ns.saturating_sub(self.at_ns) as f64;
        (-age / DECAY_NS).exp()
    }
}
