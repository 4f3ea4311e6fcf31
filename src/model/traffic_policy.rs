//! `TrafficPolicy`: how calls to one service are balanced, limited, retried and given up (`mesh/v1`).
//!
//! A policy attached directly to its target, in the style of the Gateway API (GEP-713, GEP-2648). Names are those of the
//! Gateway API where it has the field (GEP-1731 retries, GEP-1619 sessions, GEP-2257 durations), else Istio's or Envoy's.
//! Every field may be left out; what holds then is said at the field, and why at the rule it becomes in `logic`. The larger
//! parts are boxed: most policies have few of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of a `TrafficPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// The service it is about, of the object's own namespace.
    pub target_ref: TargetRef,
    /// Which endpoint takes a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<Box<LoadBalancing>>,
    /// Keeps each client with its endpoint; off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// Lets the share of a new endpoint grow; off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Limits of time; those of a route count before these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Box<TrafficTimeouts>>,
    /// When a request is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<TrafficRetry>>,
    /// How much each caller's proxy may have under way to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaking: Option<CircuitBreaking>,
    /// When an endpoint is left alone for a while because of its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// How much one instance serves at a time; its own proxy refuses what is above. Unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How often one instance is called; its own proxy refuses what is above. Unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Makes calls slow or fail on purpose; off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_injection: Option<Box<FaultInjection>>,
}

/// The service that a policy is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// API group: `""` (core) or `mesh` for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The service.
    pub name: String,
}

/// Which endpoint takes a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// The algorithm; `PeakEwma` by default.
    #[serde(default)]
    pub policy: BalancingPolicy,
    /// What is hashed; given with the policy `ConsistentHash`, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// What zones mean; see [`Locality`] for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
}

/// An algorithm of balancing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BalancingPolicy {
    /// Of two random endpoints, the one expected to answer sooner.
    #[default]
    PeakEwma,
    /// Of two random endpoints, the one with fewer requests under way.
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
    /// The same endpoint for the same key.
    ConsistentHash,
}

/// What makes two calls the same to `ConsistentHash`: exactly one of `header`, `cookie` and `source`. Calls without that
/// field go to any endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsistentHash {
    /// The value of a header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Who calls: the address of the application's connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceKey>,
    /// An endpoint with more than so many percent of its fair share under way is passed over, 101 to 1,000; never by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_load_percent: Option<u32>,
}

/// The caller as a key: `source: {}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceKey {}

/// What zones mean to balancing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locality {
    /// `Prefer` by default, but `Ignore` for `ConsistentHash`, where one key has one endpoint for all callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LocalityMode>,
    /// A zone takes all calls while its healthy share times this is 100 % or more, 100 to 1,000; 140 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overprovisioning_percent: Option<u32>,
}

/// Whether zones count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LocalityMode {
    /// The caller's own zone first, then others, the nearest by round-trip time first.
    Prefer,
    /// All zones are one.
    Ignore,
}

/// Keeps each client with the endpoint that answered it first, by a token that the client sends back (GEP-1619).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionAffinity {
    /// Where the token travels; `Cookie` by default.
    #[serde(default, rename = "type")]
    pub kind: SessionKind,
    /// The name of the cookie or header field; `mesh-session` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// After so long a new endpoint is chosen, a duration of 1s to 8760h; never by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<String>,
}

/// Where the token of a session travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionKind {
    /// In a cookie.
    #[default]
    Cookie,
    /// In a header field.
    Header,
}

/// The growth of a new endpoint's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowStart {
    /// After so long an endpoint takes its whole share, a duration of 1s to 1h.
    pub window: String,
    /// What it takes at first, percent of its share, 1 to 100; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_weight_percent: Option<u32>,
}

/// Limits of time; `0s` switches a limit off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficTimeouts {
    /// From the request's first byte to the response's last, retries included; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Of one attempt at one endpoint; none by default, at most `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<String>,
    /// Without a byte either way, a duration of 1s to 8760h, to the second; `5m` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
    /// The same for gRPC, WebSocket and TCP, which may be silent for as long as they like by default: `0s`, or what `idle`
    /// says where that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<String>,
    /// Of opening a TCP connection to an endpoint's proxy, 1ms to 1m; `1s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
}

/// When a request is tried again. A body longer than 64 KiB is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficRetry {
    /// Retries of one request at most, 0 to 4; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Status codes that are retried, 400 to 599; 503 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<u16>>,
    /// Whose requests `codes` are about: `Any` by default where they are given, else `Idempotent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<RetryMethods>,
    /// Codes of gRPC that are retried; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_codes: Option<Vec<GrpcCode>>,
    /// Before the first retry, doubled for each after it, a duration of 1ms to 1m; `25ms` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// Before any retry at most, a duration of 1ms to 1m; ten times `backoff` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
    /// What all retries to the service together may come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
}

/// Requests by whether their method may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryMethods {
    /// GET, HEAD, OPTIONS, TRACE, PUT and DELETE (RFC 9110 §9.2.2).
    Idempotent,
    /// Every method: who lists a code says that the service has done nothing when it answers so.
    Any,
}

/// What all retries of one proxy to one service may come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudget {
    /// Of the requests of the interval, 0 to 100; 20 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Over which both are counted, a duration of 1s to 1m; `10s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Allowed however few the requests are, 0 to 1,000; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_retries_per_second: Option<u32>,
}

/// A status of gRPC other than `OK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the status codes of gRPC, in its own words")]
pub enum GrpcCode {
    Cancelled = 1,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// How much each caller's proxy may have under way to the service; what is above is refused at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaking {
    /// TCP connections and upgraded ones, 1 to 1,000,000; 65,536 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection, 1 to 1,000,000; 1,024 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<u32>,
    /// Requests under way, those that wait included, 1 to 1,000,000; 16,384 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
}

/// When an endpoint is left alone for a while because of its answers. (One that refuses or resets connections always is,
/// from the first time on.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// After so many answers of 502, 503 or 504 (gRPC: `UNAVAILABLE`) or timed-out attempts in a row, 0 to
    /// 1,000; 5 by default, 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<u32>,
    /// After so many answers of any 5xx (gRPC: `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `DATA_LOSS` too) in a row, 0 to
    /// 1,000; 0, never, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx_errors: Option<u32>,
    /// How often success rates are compared, a duration of 1s to 5m; `10s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long the first time lasts, doubled each time after it, a duration of 1s to 1h; `10s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<String>,
    /// How long any time lasts at most, a duration of 1s to 24h; `5m` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_time: Option<String>,
    /// Of the endpoints at the same time at most, 0 to 100; 50 by default. One endpoint at least stays in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<u32>,
    /// When fewer endpoints than this are well, all of them are called, ejected and unhealthy ones too, 0 to 100; 0 by
    /// default: only when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_health_percent: Option<u32>,
    /// Comparison of the endpoints' success rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
}

/// Ejects an endpoint whose success rate is far below that of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuccessRate {
    /// Answers of an endpoint in one interval below which it is not compared, 0 to 1,000,000; 100 by default, 0 switches
    /// the comparison off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
    /// Endpoints with that many below which none is compared, 3 to 1,000; 5 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_hosts: Option<u32>,
}

/// How much one instance serves at a time, of HTTP and gRPC: exactly one of `limit` and `adaptive`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// So many requests, 1 to 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// As many as it serves without becoming slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveConcurrency>,
}

/// A limit that follows the latency of the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdaptiveConcurrency {
    /// Never fewer than, 1 to 1,000,000; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Never more than, 1 to 1,000,000; 1,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// How often one instance is called, a TCP connection being one call: at least one of `total` and `perSource`. What is above
/// is answered 429, of TCP refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// By all callers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Rate>,
    /// By each identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_source: Option<Rate>,
}

/// So many requests in each interval, evenly, with bursts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// How many, 1 to 1,000,000.
    pub requests: u32,
    /// In which time, a duration of 1s to 1h; `1s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// At once after a rest, 1 to 1,000,000; `requests` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// Faults on purpose, made by the caller's proxy, in calls of HTTP and gRPC: at least one of `delay` and `abort`. Each is
/// drawn by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultInjection {
    /// Waits before a request is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Answers without sending it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

/// A wait: exactly one of `percent` and `fraction` says how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultDelay {
    /// Of requests, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
    /// How long, a duration of 1ms to 1h.
    pub duration: String,
}

/// An answer instead of the service's: exactly one of `percent` and `fraction` says how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultAbort {
    /// Of requests, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
    /// The status for callers of HTTP, 400 to 599; 503 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The status for callers of gRPC; `UNAVAILABLE` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<GrpcCode>,
}

/// A share, as in the Gateway API's mirroring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fraction {
    /// At most the denominator.
    pub numerator: u32,
    /// 1 or more; 100 by default.
    #[serde(default = "hundred")]
    pub denominator: u32,
}

fn hundred() -> u32 {
    100
}
