//! Service: what everybody should know of a service beyond where it is (`mesh/v1`).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::service::Protocol;

/// The body of a `Service`: about the service of the object's own name and namespace.
///
/// A service needs no such object to exist: nodes announce what they run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// What it speaks, whatever its nodes announce; their word counts when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How its nodes find out whether an instance works; without one, every instance that is announced does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Its ports, when it has several that lead to different ports of its instances, at most 64. Without any, there is one,
    /// which every number stands for and every instance answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
}

/// A port that callers name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// A label, unique among the ports; the `sectionName` of a route's parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number, 1 to 65535. Who names none means 80, or else the first port.
    pub port: u16,
    /// The port that instances listen on, as in `mesh proxy --service NAME=PORT`; `port` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// What is spoken there; what is said of the service when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// A periodic probe of every instance by its own node: exactly one of `http`, `grpc` and `tcp` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// By a GET request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// By `grpc.health.v1.Health/Check`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// By opening a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// From the end of one probe to the next, a duration of 1s to 1h; `10s` by default.
    #[serde(default = "default_interval")]
    pub interval: String,
    /// After so long a probe has failed, a duration of 1ms to 1m; `2s` by default.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// Successes in a row after which an unhealthy instance is healthy, 1 to 100; 2 by default.
    #[serde(default = "default_healthy_threshold")]
    pub healthy_threshold: u32,
    /// Failures in a row after which a healthy instance is unhealthy, 1 to 100; 3 by default.
    #[serde(default = "default_unhealthy_threshold")]
    pub unhealthy_threshold: u32,
}

/// A probe by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// The path, with or without a query.
    #[serde(default = "root_path")]
    pub path: String,
    /// Status codes that mean healthy, each a code (`204`) or a range (`200-299`); `200-299` by default, or when empty.
    #[serde(default = "successes", skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<Statuses>,
}

/// One status code, or all from one to another: `204`, `"200-299"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    /// The first.
    pub first: u16,
    /// The last, which counts too.
    pub last: u16,
}

impl Statuses {
    /// Returns whether a status is one of them.
    pub fn has(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { self.first.serialize(serializer) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status code such as 204, or a range such as 200-299")
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<Statuses, E> {
                let known = u16::try_from(code).ok();
                let code = known.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(code), &self))?;
                Ok(Statuses { first: code, last: code })
            }

            fn visit_i64<E: Error>(self, code: i64) -> Result<Statuses, E> {
                let known = u64::try_from(code).ok();
                let code = known.ok_or_else(|| E::invalid_value(Unexpected::Signed(code), &self))?;
                self.visit_u64(code)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Statuses, E> {
                let range = text.split_once('-').unwrap_or((text, text));
                match (range.0.trim().parse(), range.1.trim().parse()) {
                    (Ok(first), Ok(last)) if first <= last => Ok(Statuses { first, last }),
                    (Ok(_) | Err(_), _) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["integer", "string"], "description": "A status code, or a range of them such as 200-299.",
        })
    }
}

/// Returns what is expected of a healthy service: 200 to 299.
pub fn successes() -> Vec<Statuses> {
    vec![Statuses { first: 200, last: 299 }]
}

/// A probe by the gRPC health checking protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcProbe {
    /// The name asked about; the server as a whole when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
}

/// A probe by opening a connection: `tcp: {}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {}

/// As often as Consul's and Kubernetes' examples: half a minute with three of them until a service is known to be ill, which
/// its callers notice sooner by themselves.
fn default_interval() -> String {
    "10s".to_owned()
}

/// A service that answers this late, on its own host, is of no use to its callers.
fn default_timeout() -> String {
    "2s".to_owned()
}

/// One answer may be luck: whoever comes and goes would move its callers about.
fn default_healthy_threshold() -> u32 {
    2
}

/// Kubernetes' number: one late answer is no illness.
fn default_unhealthy_threshold() -> u32 {
    3
}

fn root_path() -> String {
    "/".to_owned()
}
