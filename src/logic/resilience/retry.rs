//! May this attempt be followed by another, and after how long.
//!
//! Two different things are called a retry. An endpoint that cannot be reached, or has not looked at the request, is
//! replaced by another at once and for free: the service has not worked for it. A request that the service has seen, or may
//! have, is repeated only where the method or the policy allows it, and out of a budget.
//!
//! Retries do not multiply along a chain of calls: the number of the attempt travels with the request ([`ATTEMPT`]), so
//! that whoever handles a retry has that many retries fewer; and who has already done all it could says so in its answer
//! ([`NO_RETRY`]), so that nobody above repeats the whole of it (the "overloaded; don't retry" of Google's SRE book, ch. 21).

use std::sync::Arc;
use std::time::Duration;

use crate::logic::resilience::backoff::Backoff;
use crate::logic::resilience::budget::{BudgetRules, RetryBudget};
use crate::logic::resilience::outcome::Outcome;

/// Request header field: the number of this attempt, from 1. Applications hand it on as they do trace headers.
pub const ATTEMPT: &str = "mesh-attempt";
/// Response header field, any value: the failure is not to be retried by callers.
pub const NO_RETRY: &str = "mesh-no-retry";
/// Attempts at one request at most, whatever the reasons, unless a route asks for more.
pub const ATTEMPTS_MAX: u32 = 5;
const GATEWAY_TIMEOUT: u16 = 504;
/// The status that is retried by default.
pub const UNAVAILABLE: u16 = 503;
/// Bytes of a body that are kept for another attempt: 64 KiB, Linkerd's and Pingora's.
pub const REPLAY_BYTES_MAX: usize = 64 * 1_024;

/// When requests are retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRules {
    /// Retries of one request that the service has seen, or may have.
    pub attempts: u32,
    /// Which answers are retried.
    pub codes: Codes,
    /// Codes of gRPC that are retried, a bit for each.
    pub grpc_codes: u32,
    /// Before a retry, unless another endpoint takes over from one that could not be reached.
    pub backoff: Backoff,
    /// What all retries together may come to.
    pub budget: BudgetRules,
}

/// Status codes that are retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codes {
    /// These, for idempotent methods (RFC 9110 §9.2.2). Sorted.
    Idempotent(Arc<[u16]>),
    /// Those that a policy or route lists, whatever the method: who lists a code says that it is safe. Sorted.
    Listed(Arc<[u16]>),
}

impl Default for Codes {
    /// 503 for idempotent methods: the one status that says "not now" of the service rather than something of the request.
    /// Not 502 and 504: a proxy of the mesh gives those only after trying itself.
    fn default() -> Self {
        Self::Idempotent(Arc::new([UNAVAILABLE]))
    }
}

impl Default for RetryRules {
    /// Two retries (Istio's default; three endpoints in a row that fail are no accident of one endpoint), after 25 ms that
    /// double up to 250 ms (Envoy's). No code of gRPC: its calls are POST, of which nobody knows whether they may be
    /// repeated.
    fn default() -> Self {
        Self {
            attempts: 2,
            codes: Codes::default(),
            grpc_codes: 0,
            backoff: Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(250) },
            budget: BudgetRules::default(),
        }
    }
}

/// What a route says of retries before the policy of the service (GEP-1731).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteRetry {
    /// Retries of one request.
    pub attempts: Option<u32>,
    /// Status codes that are retried, sorted.
    pub codes: Option<Arc<[u16]>>,
    /// Before a retry.
    pub backoff: Option<Backoff>,
}

impl RouteRetry {
    /// Returns the rules of a service with what the route says in their place.
    pub fn over(&self, own: &RetryRules) -> RetryRules {
        RetryRules {
            attempts: self.attempts.unwrap_or(own.attempts),
            codes: self.codes.clone().map_or_else(|| own.codes.clone(), Codes::Listed),
            grpc_codes: own.grpc_codes,
            backoff: self.backoff.unwrap_or(own.backoff),
            budget: own.budget,
        }
    }
}

/// An attempt that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Retries among them that the budget paid for.
    pub retries: u32,
    /// Whether the method may be repeated (RFC 9110 §9.2.2).
    pub idempotent: bool,
    /// Whether all of the request is still there to be sent again.
    pub replayable: bool,
    /// The number that the request came with ([`attempt_number`]).
    pub carried: u32,
    /// Whether the answer asked not to be retried ([`NO_RETRY`]).
    pub refused: bool,
    /// What the answer asks to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// What is left of the request's time; `None` without a limit.
    pub left: Option<Duration>,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt, after a wait; at an endpoint that was not tried, if there is one.
    Again(Duration),
    /// What came of it is what the caller gets.
    Stop(Stop),
}

/// Why there is no other attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// This is an answer, or one that may not be asked for twice.
    Final,
    /// There were enough (`URX`).
    Attempts,
    /// All retries to the service together are enough (`URX`).
    Budget,
    /// The request is not there any more: its body was too long to keep.
    Body,
    /// Somebody else in the chain of calls retries, or has.
    Chain,
    /// There is no time left, or the service asks for longer than a retry waits.
    Time,
}

impl Stop {
    /// Returns whether the answer should say [`NO_RETRY`]: everything that was worth trying has been tried here.
    pub fn is_exhausted(self) -> bool {
        matches!(self, Self::Attempts | Self::Budget | Self::Chain)
    }
}

/// A budget, as [`decide`] asks it.
#[derive(Debug)]
pub struct Purse<'a> {
    /// The worker's own, for this service.
    pub budget: &'a mut RetryBudget,
    /// Workers of the proxy.
    pub workers: u32,
    /// Nanoseconds since any fixed origin.
    pub now_ns: u64,
}

/// Decides what follows an attempt, and takes a retry that costs something out of the budget. `draw` spreads the wait.
pub fn decide(rules: &RetryRules, attempt: &Attempt, purse: Purse<'_>, draw: u64) -> Verdict {
    match judge(rules, attempt, draw) {
        Verdict::Again(_) if attempt.outcome.is_charged() && !purse.withdraw(&rules.budget) => {
            Verdict::Stop(Stop::Budget)
        }
        verdict @ (Verdict::Again(_) | Verdict::Stop(_)) => verdict,
    }
}

fn judge(rules: &RetryRules, attempt: &Attempt, draw: u64) -> Verdict {
    let allowed = match attempt.outcome {
        Outcome::Unsent => true,
        Outcome::Unseen => rules.attempts > 0,
        Outcome::Broken => rules.attempts > 0 && attempt.idempotent,
        // What takes too long is what others answer with 504.
        Outcome::Late => {
            rules.attempts > 0 && (attempt.idempotent || rules.codes.has(GATEWAY_TIMEOUT, false))
        }
        Outcome::Status(status) => rules.attempts > 0 && rules.codes.has(status, attempt.idempotent),
        Outcome::Grpc(code) => rules.attempts > 0 && rules.grpc_codes >> code.min(31) & 1 == 1,
    };
    let stop = |reason| Verdict::Stop(reason);
    if !allowed {
        return stop(Stop::Final);
    }
    if attempt.attempts >= ATTEMPTS_MAX.max(rules.attempts.saturating_add(1)) {
        return stop(Stop::Attempts);
    }
    if !attempt.replayable {
        return stop(Stop::Body);
    }
    if !attempt.outcome.is_charged() {
        return Verdict::Again(Duration::ZERO);
    }
    if attempt.refused {
        return stop(Stop::Chain);
    }
    let inherited = attempt.carried.saturating_sub(1);
    if attempt.retries.saturating_add(inherited) >= rules.attempts {
        return stop(if attempt.retries < rules.attempts { Stop::Chain } else { Stop::Attempts });
    }
    let wait = rules.backoff.delay(attempt.retries + 1, draw);
    let asked = attempt.retry_after.unwrap_or(Duration::ZERO);
    let wait = wait.max(asked);
    if asked > rules.backoff.cap || attempt.left.is_some_and(|left| left <= wait) {
        return stop(Stop::Time);
    }
    Verdict::Again(wait)
}

/// Reads the number of an attempt from what [`ATTEMPT`] says: 1 for a request without it, or with anything else in it.
pub fn attempt_number(value: Option<&[u8]>) -> u32 {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).filter(|number| *number > 0).unwrap_or(1)
}

impl Codes {
    fn has(&self, status: u16, idempotent: bool) -> bool {
        match self {
            Self::Idempotent(codes) => idempotent && codes.binary_search(&status).is_ok(),
            Self::Listed(codes) => codes.binary_search(&status).is_ok(),
        }
    }
}

impl Outcome {
    /// Returns whether a retry after it makes work for the service a second time.
    pub fn is_charged(self) -> bool {
        !matches!(self, Self::Unsent | Self::Unseen)
    }
}

impl Purse<'_> {
    fn withdraw(self, rules: &BudgetRules) -> bool {
        self.budget.withdraw(rules, self.workers, self.now_ns)
    }
}
