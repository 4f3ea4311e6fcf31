//! Can calls to a service be handled as its `TrafficPolicy` says.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use crate::logic::duration;
use crate::logic::resilience::retry;
use crate::logic::validate::problem::Problems;
use crate::model::name::is_label;
use crate::model::traffic_policy::{
    AdaptiveConcurrency, BalancingPolicy, Concurrency, FaultInjection, Fraction, LoadBalancing,
    OutlierDetection, Rate, RateLimit, RetryBudget, SessionAffinity, SessionKind, SlowStart, TargetRef,
    TrafficPolicySpec, TrafficRetry, TrafficTimeouts,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const YEAR: Duration = Duration::from_hours(8_760);
const COUNT_MAX: u32 = 1_000_000;
const CODES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 256;
const ATTEMPTS_MAX: u32 = retry::ATTEMPTS_MAX - 1;

/// Adds what is wrong in the body of a `TrafficPolicy`.
pub fn check(spec: &TrafficPolicySpec, problems: &mut Problems) {
    let mut found = Fields { problems };
    found.target(&spec.target_ref);
    if let Some(balancing) = &spec.load_balancing {
        found.balancing(balancing);
    }
    if let Some(session) = &spec.session_affinity {
        found.session(session);
    }
    if let Some(SlowStart { window, min_weight_percent }) = &spec.slow_start {
        found.time("spec.slowStart.window", Some(window), SECOND..=HOUR, "1s to 1h");
        found.number("spec.slowStart.minWeightPercent", *min_weight_percent, 1..=100);
    }
    if let Some(timeouts) = &spec.timeouts {
        found.timeouts(timeouts);
    }
    if let Some(retry) = &spec.retry {
        found.retry(retry);
    }
    if let Some(limits) = &spec.circuit_breaking {
        let at = "spec.circuitBreaking";
        found.number(&format!("{at}.maxConnections"), limits.max_connections, 1..=COUNT_MAX);
        found.number(&format!("{at}.maxPendingRequests"), limits.max_pending_requests, 1..=COUNT_MAX);
        found.number(&format!("{at}.maxRequests"), limits.max_requests, 1..=COUNT_MAX);
    }
    if let Some(outlier) = &spec.outlier_detection {
        found.outlier(outlier);
    }
    if let Some(concurrency) = &spec.concurrency {
        found.concurrency(concurrency);
    }
    if let Some(RateLimit { total, per_source }) = &spec.rate_limit {
        if total.is_none() && per_source.is_none() {
            found.problems.error("spec.rateLimit", "a rate limit needs 'total', 'perSource' or both");
        }
        found.rate("spec.rateLimit.total", total.as_ref());
        found.rate("spec.rateLimit.perSource", per_source.as_ref());
    }
    if let Some(faults) = &spec.fault_injection {
        found.faults(faults);
    }
}

/// The fields being looked at.
struct Fields<'a> {
    problems: &'a mut Problems,
}

impl Fields<'_> {
    fn target(&mut self, target: &TargetRef) {
        let at = "spec.targetRef";
        if let Some(group) = target.group.as_deref().filter(|group| !matches!(*group, "" | "core" | "mesh")) {
            self.problems.error(
                format!("{at}.group"),
                format!("'{group}' is not supported: expected '' (core), the group of Service"),
            );
        }
        if let Some(kind) = target.kind.as_deref().filter(|kind| *kind != "Service") {
            self.problems
                .error(format!("{at}.kind"), format!("'{kind}' is not supported: expected 'Service'"));
        }
        if !is_label(&target.name) {
            let expected = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
            self.problems.error(
                format!("{at}.name"),
                format!("'{}' is not the name of a service: expected {expected}", target.name),
            );
        }
    }

    fn balancing(&mut self, spec: &LoadBalancing) {
        let at = "spec.loadBalancing";
        let hashing = spec.policy == BalancingPolicy::ConsistentHash;
        match &spec.consistent_hash {
            None if hashing => {
                self.problems.error(at, "the policy ConsistentHash needs the field 'consistentHash'");
            }
            Some(_) if !hashing => self.problems.error(
                format!("{at}.consistentHash"),
                "this field belongs to the policy ConsistentHash and does not go with another",
            ),
            Some(hash) => {
                let at = format!("{at}.consistentHash");
                let given = [hash.header.is_some(), hash.cookie.is_some(), hash.source.is_some()];
                self.exactly_one(&at, given, "'header', 'cookie' and 'source'");
                self.token(&format!("{at}.header"), hash.header.as_deref());
                self.token(&format!("{at}.cookie"), hash.cookie.as_deref());
                self.number(&format!("{at}.maxLoadPercent"), hash.max_load_percent, 101..=1_000);
            }
            None => {}
        }
        if let Some(locality) = &spec.locality {
            let at = format!("{at}.locality.overprovisioningPercent");
            self.number(&at, locality.overprovisioning_percent, 100..=1_000);
        }
    }

    fn session(&mut self, spec: &SessionAffinity) {
        let at = "spec.sessionAffinity";
        let name = spec.session_name.as_deref();
        self.token(&format!("{at}.sessionName"), name);
        let own = [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "cookie",
            "set-cookie",
            "te",
            "upgrade",
        ];
        let taken =
            |name: &&str| own.iter().any(|own| name.eq_ignore_ascii_case(own)) || name.starts_with("mesh-");
        if let Some(name) =
            name.filter(taken).filter(|name| spec.kind == SessionKind::Header && *name != "mesh-session")
        {
            self.problems.error(
                format!("{at}.sessionName"),
                format!("'{name}' has a meaning of its own: choose another name"),
            );
        }
        self.time(
            &format!("{at}.absoluteTimeout"),
            spec.absolute_timeout.as_ref(),
            SECOND..=YEAR,
            "1s to 8760h",
        );
    }

    fn timeouts(&mut self, spec: &TrafficTimeouts) {
        let at = "spec.timeouts";
        let any = Duration::ZERO..=YEAR;
        let expected = "up to 8760h, 0s for no limit";
        let request = self.time(&format!("{at}.request"), spec.request.as_ref(), any.clone(), expected);
        let attempt =
            self.time(&format!("{at}.backendRequest"), spec.backend_request.as_ref(), any, expected);
        if let (Some(request), Some(attempt)) = (request, attempt)
            && request > Duration::ZERO
            && attempt > request
        {
            self.problems.error(
                format!("{at}.backendRequest"),
                "one attempt cannot take longer than the whole request: at most 'request'",
            );
        }
        for (field, text) in [("idle", &spec.idle), ("streamIdle", &spec.stream_idle)] {
            // Who is silent is looked for each second.
            let some = text.as_ref().filter(|text| duration::parse(text) != Some(Duration::ZERO));
            self.time(&format!("{at}.{field}"), some, SECOND..=YEAR, "1s to 8760h, or 0s for no limit");
        }
        self.time(&format!("{at}.connect"), spec.connect.as_ref(), MILLISECOND..=MINUTE, "1ms to 1m");
    }

    fn retry(&mut self, spec: &TrafficRetry) {
        let at = "spec.retry";
        self.number(&format!("{at}.attempts"), spec.attempts, 0..=ATTEMPTS_MAX);
        let codes = spec.codes.as_deref().unwrap_or_default();
        self.problems.at_most(&format!("{at}.codes"), codes.len(), CODES_MAX);
        for (index, code) in codes.iter().enumerate().filter(|(_, code)| !(400..=599).contains(*code)) {
            self.problems.error(
                format!("{at}.codes[{index}]"),
                format!("{code} is not the status of a failure: expected 400 to 599"),
            );
        }
        self.problems.at_most(
            &format!("{at}.grpcCodes"),
            spec.grpc_codes.as_ref().map_or(0, Vec::len),
            CODES_MAX,
        );
        let some = MILLISECOND..=MINUTE;
        let base = self.time(&format!("{at}.backoff"), spec.backoff.as_ref(), some.clone(), "1ms to 1m");
        let cap = self.time(&format!("{at}.maxBackoff"), spec.max_backoff.as_ref(), some, "1ms to 1m");
        self.in_order(&format!("{at}.maxBackoff"), base, cap, "'backoff'");
        if let Some(RetryBudget { percent, interval, min_retries_per_second }) = &spec.budget {
            let at = format!("{at}.budget");
            self.number(&format!("{at}.percent"), *percent, 0..=100);
            self.time(&format!("{at}.interval"), interval.as_ref(), SECOND..=MINUTE, "1s to 1m");
            self.number(&format!("{at}.minRetriesPerSecond"), *min_retries_per_second, 0..=1_000);
        }
    }

    fn outlier(&mut self, spec: &OutlierDetection) {
        let at = "spec.outlierDetection";
        self.number(&format!("{at}.consecutiveGatewayErrors"), spec.consecutive_gateway_errors, 0..=1_000);
        self.number(&format!("{at}.consecutive5xxErrors"), spec.consecutive_5xx_errors, 0..=1_000);
        let five = SECOND..=Duration::from_mins(5);
        self.time(&format!("{at}.interval"), spec.interval.as_ref(), five, "1s to 5m");
        let base = spec.base_ejection_time.as_ref();
        let base = self.time(&format!("{at}.baseEjectionTime"), base, SECOND..=HOUR, "1s to 1h");
        let cap = spec.max_ejection_time.as_ref();
        let cap =
            self.time(&format!("{at}.maxEjectionTime"), cap, SECOND..=Duration::from_hours(24), "1s to 24h");
        self.in_order(&format!("{at}.maxEjectionTime"), base, cap, "'baseEjectionTime'");
        self.number(&format!("{at}.maxEjectionPercent"), spec.max_ejection_percent, 0..=100);
        self.number(&format!("{at}.minHealthPercent"), spec.min_health_percent, 0..=100);
        if let Some(rate) = &spec.success_rate {
            let at = format!("{at}.successRate");
            self.number(&format!("{at}.requestVolume"), rate.request_volume, 0..=COUNT_MAX);
            self.number(&format!("{at}.minimumHosts"), rate.minimum_hosts, 3..=1_000);
        }
    }

    fn concurrency(&mut self, spec: &Concurrency) {
        let at = "spec.concurrency";
        self.exactly_one(at, [spec.limit.is_some(), spec.adaptive.is_some()], "'limit' and 'adaptive'");
        self.number(&format!("{at}.limit"), spec.limit, 1..=COUNT_MAX);
        if let Some(AdaptiveConcurrency { min, max }) = &spec.adaptive {
            let at = format!("{at}.adaptive");
            self.number(&format!("{at}.min"), *min, 1..=COUNT_MAX);
            self.number(&format!("{at}.max"), *max, 1..=COUNT_MAX);
            self.in_order(&format!("{at}.max"), *min, *max, "'min'");
        }
    }

    fn rate(&mut self, at: &str, rate: Option<&Rate>) {
        let Some(Rate { requests, interval, burst }) = rate else { return };
        self.number(&format!("{at}.requests"), Some(*requests), 1..=COUNT_MAX);
        self.time(&format!("{at}.interval"), interval.as_ref(), SECOND..=HOUR, "1s to 1h");
        self.number(&format!("{at}.burst"), *burst, 1..=COUNT_MAX);
    }

    fn faults(&mut self, spec: &FaultInjection) {
        let at = "spec.faultInjection";
        if spec.delay.is_none() && spec.abort.is_none() {
            self.problems.error(at, "a fault injection needs 'delay', 'abort' or both");
        }
        if let Some(delay) = &spec.delay {
            let at = format!("{at}.delay");
            self.chance(&at, delay.percent, delay.fraction);
            self.time(&format!("{at}.duration"), Some(&delay.duration), MILLISECOND..=HOUR, "1ms to 1h");
        }
        if let Some(abort) = &spec.abort {
            let at = format!("{at}.abort");
            self.chance(&at, abort.percent, abort.fraction);
            self.number(&format!("{at}.httpStatus"), abort.http_status.map(u32::from), 400..=599);
        }
    }

    fn chance(&mut self, at: &str, percent: Option<u32>, fraction: Option<Fraction>) {
        self.exactly_one(at, [percent.is_some(), fraction.is_some()], "'percent' and 'fraction'");
        self.number(&format!("{at}.percent"), percent, 0..=100);
        if let Some(Fraction { numerator, denominator }) = fraction
            && (denominator == 0 || numerator > denominator)
        {
            self.problems.error(
                format!("{at}.fraction"),
                format!(
                    "{numerator}/{denominator} is not a share: expected a numerator up to the denominator"
                ),
            );
        }
    }

    fn exactly_one<const N: usize>(&mut self, at: &str, given: [bool; N], names: &str) {
        if given.into_iter().filter(|given| *given).count() != 1 {
            self.problems.error(at, format!("expected exactly one of {names}"));
        }
    }

    /// The name of a header field or cookie: a token (RFC 9110 §5.6.2).
    fn token(&mut self, at: &str, name: Option<&str>) {
        if let Some(name) =
            name.filter(|name| name.len() > NAME_BYTES_MAX || HeaderName::try_from(*name).is_err())
        {
            let expected = "letters, digits and !#$%&'*+-.^_`|~";
            self.problems.error(
                at,
                format!("'{name}' is not a name of a header field or cookie: expected {expected}"),
            );
        }
    }

    fn number(&mut self, at: &str, value: Option<u32>, range: RangeInclusive<u32>) {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let (least, most) = range.into_inner();
            self.problems.error(at, format!("{value} is not allowed: expected {least} to {most}"));
        }
    }

    fn time(
        &mut self,
        at: &str,
        text: Option<&String>,
        range: RangeInclusive<Duration>,
        expected: &str,
    ) -> Option<Duration> {
        let text = text?;
        let time = duration::parse(text).filter(|time| range.contains(time));
        if time.is_none() {
            self.problems.error(at, format!("'{text}' is not allowed: expected a duration of {expected}"));
        }
        time
    }

    fn in_order<T: Ord>(&mut self, at: &str, least: Option<T>, most: Option<T>, name: &str) {
        if let (Some(least), Some(most)) = (least, most)
            && most < least
        {
            self.problems.error(at, format!("this is less than {name}: expected at least as much"));
        }
    }
}
