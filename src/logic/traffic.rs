//! What a `TrafficPolicy` says, as the numbers that the data path reads, with the defaults of all that it does not say.
//!
//! A default and its reason stand at the rule that it belongs to: this file only translates.

use std::time::Duration;

use crate::logic::balance::balancer::{Algorithm, BalanceRules, HashKey};
use crate::logic::balance::session::{Carrier, SessionRules};
use crate::logic::balance::slow_start::SlowStart;
use crate::logic::duration;
use crate::logic::resilience::backoff::Backoff;
use crate::logic::resilience::budget::BudgetRules;
use crate::logic::resilience::concurrency::ConcurrencyRules;
use crate::logic::resilience::fault::{Abort, Chance, FaultRules};
use crate::logic::resilience::limits::LimitRules;
use crate::logic::resilience::outlier::OutlierRules;
use crate::logic::resilience::rate::{Rate, RateRules};
use crate::logic::resilience::retry::{Codes, RetryRules, UNAVAILABLE};
use crate::logic::resilience::timeouts::TimeoutRules;
use crate::model::traffic_policy as model;

/// Everything about calls to one service that is not its routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficRules {
    /// Which endpoint takes a call. Read by callers.
    pub balance: BalanceRules,
    /// How clients stay with their endpoint; `None` when they do not. Read by callers.
    pub session: Option<SessionRules>,
    /// How the share of a new endpoint grows; `None` when it is whole at once. Read by callers.
    pub slow_start: Option<SlowStart>,
    /// Limits of time. Read by callers.
    pub timeouts: TimeoutRules,
    /// When requests are retried. Read by callers.
    pub retry: RetryRules,
    /// What one caller's proxy may have under way. Read by callers.
    pub limits: LimitRules,
    /// When endpoints are ejected. Read by callers.
    pub outlier: OutlierRules,
    /// What one instance serves at a time; `None` for all that comes. Read by the called node.
    pub concurrency: Option<ConcurrencyRules>,
    /// How often one instance is called; `None` for as often as it is. Read by the called node.
    pub rate: Option<RateRules>,
    /// Faults on purpose; `None` for none. Read by callers.
    pub fault: Option<FaultRules>,
}

impl TrafficRules {
    /// Translates a policy. It is taken for valid: what cannot be read counts as not said.
    pub fn new(spec: &model::TrafficPolicySpec) -> Self {
        Self {
            balance: spec.load_balancing.as_deref().map(balance).unwrap_or_default(),
            session: spec.session_affinity.as_ref().map(session),
            slow_start: spec.slow_start.as_ref().and_then(slow_start),
            timeouts: spec.timeouts.as_deref().map(timeouts).unwrap_or_default(),
            retry: spec.retry.as_deref().map(retry).unwrap_or_default(),
            limits: spec.circuit_breaking.as_ref().map(limits).unwrap_or_default(),
            outlier: spec.outlier_detection.as_deref().map(outlier).unwrap_or_default(),
            concurrency: spec.concurrency.as_ref().and_then(concurrency),
            rate: spec.rate_limit.as_ref().map(rates),
            fault: spec.fault_injection.as_deref().map(faults),
        }
    }
}

fn time(text: Option<&String>) -> Option<Duration> {
    text.and_then(|text| duration::parse(text))
}

fn balance(spec: &model::LoadBalancing) -> BalanceRules {
    let own = BalanceRules::default();
    let algorithm = match spec.policy {
        model::BalancingPolicy::PeakEwma => Algorithm::PeakEwma,
        model::BalancingPolicy::LeastRequest => Algorithm::LeastRequest,
        model::BalancingPolicy::RoundRobin => Algorithm::RoundRobin,
        model::BalancingPolicy::Random => Algorithm::Random,
        model::BalancingPolicy::ConsistentHash => {
            let spec = spec.consistent_hash.clone().unwrap_or_default();
            let key = match (spec.header, spec.cookie) {
                (Some(name), _) => HashKey::Header(name.to_ascii_lowercase().into()),
                (None, Some(name)) => HashKey::Cookie(name.into()),
                (None, None) => HashKey::Source,
            };
            Algorithm::ConsistentHash { key, max_load_percent: spec.max_load_percent }
        }
    };
    let said = spec.locality.clone().unwrap_or_default();
    let zones = match said.mode {
        Some(model::LocalityMode::Prefer) => true,
        Some(model::LocalityMode::Ignore) => false,
        None => !matches!(algorithm, Algorithm::ConsistentHash { .. }),
    };
    let overprovisioning_percent = said.overprovisioning_percent.unwrap_or(own.overprovisioning_percent);
    BalanceRules { algorithm, zones, overprovisioning_percent }
}

fn session(spec: &model::SessionAffinity) -> SessionRules {
    let name = spec.session_name.as_deref().unwrap_or(SessionRules::NAME);
    let (carrier, name) = match spec.kind {
        model::SessionKind::Cookie => (Carrier::Cookie, name.into()),
        model::SessionKind::Header => (Carrier::Header, name.to_ascii_lowercase().into()),
    };
    SessionRules {
        carrier,
        name,
        absolute: time(spec.absolute_timeout.as_ref()),
        idle: None,
        permanent: false,
    }
}

fn slow_start(spec: &model::SlowStart) -> Option<SlowStart> {
    let min_percent = spec.min_weight_percent.unwrap_or(SlowStart::MIN_PERCENT);
    Some(SlowStart { window: duration::parse(&spec.window)?, min_percent })
}

fn timeouts(spec: &model::TrafficTimeouts) -> TimeoutRules {
    let own =
        TimeoutRules::default().with_route(time(spec.request.as_ref()), time(spec.backend_request.as_ref()));
    let connect = time(spec.connect.as_ref()).unwrap_or(own.connect);
    let limit = |text: Option<&String>| time(text).map(|idle| Some(idle).filter(|idle| !idle.is_zero()));
    let idle = limit(spec.idle.as_ref());
    let idle_stream = limit(spec.stream_idle.as_ref()).or(idle).unwrap_or(own.idle_stream);
    TimeoutRules { connect, idle: idle.unwrap_or(own.idle), idle_stream, ..own }
}

fn retry(spec: &model::TrafficRetry) -> RetryRules {
    let own = RetryRules::default();
    let codes = {
        let mut codes = spec.codes.clone().unwrap_or_else(|| vec![UNAVAILABLE]);
        codes.sort_unstable();
        match spec.methods {
            Some(model::RetryMethods::Any) => Codes::Listed(codes.into()),
            None if spec.codes.is_some() => Codes::Listed(codes.into()),
            Some(model::RetryMethods::Idempotent) | None => Codes::Idempotent(codes.into()),
        }
    };
    let grpc = spec.grpc_codes.iter().flatten();
    let base = time(spec.backoff.as_ref());
    let cap = time(spec.max_backoff.as_ref());
    let base = base.unwrap_or_else(|| own.backoff.base.min(cap.unwrap_or(Duration::MAX)));
    let cap = cap.unwrap_or(base * 10);
    RetryRules {
        attempts: spec.attempts.unwrap_or(own.attempts),
        codes,
        grpc_codes: grpc.fold(own.grpc_codes, |bits, code| bits | 1 << *code as u32),
        backoff: Backoff { base, cap },
        budget: spec.budget.as_ref().map_or(own.budget, |budget| BudgetRules {
            percent: budget.percent.unwrap_or(own.budget.percent),
            interval: time(budget.interval.as_ref()).unwrap_or(own.budget.interval),
            min_per_second: budget.min_retries_per_second.unwrap_or(own.budget.min_per_second),
        }),
    }
}

fn limits(spec: &model::CircuitBreaking) -> LimitRules {
    let own = LimitRules::default();
    LimitRules {
        connections_max: spec.max_connections.unwrap_or(own.connections_max),
        pending_max: spec.max_pending_requests.unwrap_or(own.pending_max),
        requests_max: spec.max_requests.unwrap_or(own.requests_max),
    }
}

fn outlier(spec: &model::OutlierDetection) -> OutlierRules {
    let own = OutlierRules::default();
    let rate = spec.success_rate.clone().unwrap_or_default();
    let (base, cap) = (time(spec.base_ejection_time.as_ref()), time(spec.max_ejection_time.as_ref()));
    // The one that is said moves the other: a first time is never longer than the longest.
    let ejection = match (base, cap) {
        (None, None) => own.ejection,
        (Some(base), None) => Backoff { base, cap: own.ejection.cap.max(base) },
        (None, Some(cap)) => Backoff { base: own.ejection.base.min(cap), cap },
        (Some(base), Some(cap)) => Backoff { base, cap },
    };
    OutlierRules {
        gateway_errors: spec.consecutive_gateway_errors.unwrap_or(own.gateway_errors),
        server_errors: spec.consecutive_5xx_errors.unwrap_or(own.server_errors),
        interval: time(spec.interval.as_ref()).unwrap_or(own.interval),
        ejection,
        max_percent: spec.max_ejection_percent.unwrap_or(own.max_percent),
        min_health_percent: spec.min_health_percent.unwrap_or(own.min_health_percent),
        volume: rate.request_volume.unwrap_or(own.volume),
        hosts: rate.minimum_hosts.unwrap_or(own.hosts),
    }
}

fn concurrency(spec: &model::Concurrency) -> Option<ConcurrencyRules> {
    match (&spec.limit, &spec.adaptive) {
        (Some(limit), _) => Some(ConcurrencyRules::Fixed(*limit)),
        (None, Some(adaptive)) => {
            // The one that is said moves the other.
            let (min, max) = (adaptive.min, adaptive.max);
            Some(ConcurrencyRules::Adaptive {
                min: min.unwrap_or_else(|| ConcurrencyRules::MIN.min(max.unwrap_or(u32::MAX))),
                max: max.unwrap_or_else(|| ConcurrencyRules::MAX.max(min.unwrap_or(0))),
            })
        }
        (None, None) => None,
    }
}

fn rates(spec: &model::RateLimit) -> RateRules {
    let rate = |rate: &model::Rate| {
        let interval = time(rate.interval.as_ref()).unwrap_or(Duration::from_secs(1));
        Rate::new(rate.requests, interval, rate.burst.unwrap_or(rate.requests))
    };
    RateRules { total: spec.total.as_ref().map(rate), per_source: spec.per_source.as_ref().map(rate) }
}

fn faults(spec: &model::FaultInjection) -> FaultRules {
    let chance = |percent: Option<u32>, fraction: Option<model::Fraction>| match (percent, fraction) {
        (None, Some(model::Fraction { numerator, denominator })) => Chance { numerator, denominator },
        (percent, _) => Chance { numerator: percent.unwrap_or(0), denominator: 100 },
    };
    FaultRules {
        delay: spec.delay.as_ref().and_then(|delay| {
            Some((chance(delay.percent, delay.fraction), duration::parse(&delay.duration)?))
        }),
        abort: spec.abort.as_ref().map(|abort| {
            let answer = Abort {
                status: abort.http_status.unwrap_or(503),
                grpc_status: abort.grpc_status.unwrap_or(model::GrpcCode::Unavailable) as u8,
            };
            (chance(abort.percent, abort.fraction), answer)
        }),
    }
}
