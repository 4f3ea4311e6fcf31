//! What an object leaves unsaid, said: so that who reads a stored object sees what holds.
//!
//! Most defaults are those of the types themselves, filled in while a manifest is read. Here are the others, of traffic policies:
//! inside of the parts that a policy has, every number and time that has one default whatever the call. (What holds for some
//! calls only, such as `timeouts.idle` and `retry.codes`, stays unsaid, as saying it would make it hold for all.)

use crate::logic::duration;
use crate::logic::resilience::concurrency::ConcurrencyRules;
use crate::logic::traffic::TrafficRules;
use crate::model::resource::Resource;
use crate::model::traffic_policy::{OutlierDetection, RateLimit, TrafficPolicySpec, TrafficRetry};

/// Longest wait before a retry that a policy may name, seconds.
const BACKOFF_S_MAX: u64 = 60;
/// The span of a rate that names none.
const RATE_INTERVAL: &str = "1s";

/// Fills in the defaults of an object. What it means stays the same.
pub fn fill(resource: &mut Resource) {
    if let Resource::TrafficPolicy(policy) = resource {
        fill_policy(&mut policy.spec);
    }
}

fn fill_policy(spec: &mut TrafficPolicySpec) {
    let rules = TrafficRules::new(spec);
    if let (Some(start), Some(rules)) = (&mut spec.slow_start, &rules.slow_start) {
        start.min_weight_percent.get_or_insert(rules.min_percent);
    }
    if let Some(timeouts) = spec.timeouts.as_deref_mut() {
        timeouts.connect.get_or_insert_with(|| duration::write(rules.timeouts.connect));
    }
    if let Some(retry) = spec.retry.as_deref_mut() {
        fill_retry(retry, &rules);
    }
    if let Some(limits) = &mut spec.circuit_breaking {
        limits.max_connections.get_or_insert(rules.limits.connections_max);
        limits.max_pending_requests.get_or_insert(rules.limits.pending_max);
        limits.max_requests.get_or_insert(rules.limits.requests_max);
    }
    if let Some(outlier) = spec.outlier_detection.as_deref_mut() {
        fill_outlier(outlier, &rules);
    }
    let adaptive = spec.concurrency.as_mut().and_then(|concurrency| concurrency.adaptive.as_mut());
    if let (Some(adaptive), Some(ConcurrencyRules::Adaptive { min, max })) = (adaptive, rules.concurrency) {
        adaptive.min.get_or_insert(min);
        adaptive.max.get_or_insert(max);
    }
    if let Some(limit) = &mut spec.rate_limit {
        fill_rate(limit);
    }
}

fn fill_retry(retry: &mut TrafficRetry, rules: &TrafficRules) {
    let rules = &rules.retry;
    retry.attempts.get_or_insert(rules.attempts);
    retry.backoff.get_or_insert_with(|| duration::write(rules.backoff.base));
    if rules.backoff.cap.as_secs() < BACKOFF_S_MAX {
        retry.max_backoff.get_or_insert_with(|| duration::write(rules.backoff.cap));
    }
    if let Some(budget) = &mut retry.budget {
        budget.percent.get_or_insert(rules.budget.percent);
        budget.interval.get_or_insert_with(|| duration::write(rules.budget.interval));
        budget.min_retries_per_second.get_or_insert(rules.budget.min_per_second);
    }
}

fn fill_outlier(outlier: &mut OutlierDetection, rules: &TrafficRules) {
    let rules = &rules.outlier;
    outlier.consecutive_gateway_errors.get_or_insert(rules.gateway_errors);
    outlier.consecutive_5xx_errors.get_or_insert(rules.server_errors);
    outlier.interval.get_or_insert_with(|| duration::write(rules.interval));
    outlier.base_ejection_time.get_or_insert_with(|| duration::write(rules.ejection.base));
    outlier.max_ejection_time.get_or_insert_with(|| duration::write(rules.ejection.cap));
    outlier.max_ejection_percent.get_or_insert(rules.max_percent);
    outlier.min_health_percent.get_or_insert(rules.min_health_percent);
    if let Some(rate) = &mut outlier.success_rate {
        rate.request_volume.get_or_insert(rules.volume);
        rate.minimum_hosts.get_or_insert(rules.hosts);
    }
}

fn fill_rate(limit: &mut RateLimit) {
    for rate in [&mut limit.total, &mut limit.per_source].into_iter().flatten() {
        rate.interval.get_or_insert_with(|| RATE_INTERVAL.to_owned());
        rate.burst.get_or_insert(rate.requests);
    }
}
