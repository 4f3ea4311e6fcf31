//! A call that has ended: what its line in the access log says, what a proxy remembers of it, and what `mesh tap` shows.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{EdgeProtocol, Side};

/// One request, or one connection, as one of its two proxies saw it end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// When it began, Unix milliseconds.
    pub at_ms: u64,
    /// Which side wrote it.
    pub side: Side,
    /// The caller.
    pub source: Arc<Subject>,
    /// The called service; `None` when the host named none.
    pub destination: Option<ServiceName>,
    /// What was spoken.
    pub protocol: EdgeProtocol,
    /// The node called, in the last attempt; on the called side, the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// `route/rule` that matched; empty without one.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub route: Arc<str>,
    /// Empty for TCP.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub method: Cow<'static, str>,
    /// Without the query, which may hold secrets. Empty for TCP.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub path: String,
    /// HTTP status; 0 where there was none.
    pub status: u16,
    /// gRPC status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// Failure token, where a proxy made the answer, or cut it: this one, or the called one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The intention, or default, that refused it, or would have; empty when none did, and on the calling side, which never
    /// knows.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub rule: Arc<str>,
    /// Whether it only would have: nothing was refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub audited: bool,
    /// Under which name the caller may ask for it: what it said itself in `x-request-id`, or was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The trace that it is part of, as its `traceparent` says, or its B3 fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// Those attempts that another one followed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// To the end of the response head (HTTP), of the whole connection (TCP).
    pub latency_us: u64,
    /// To the last byte.
    pub duration_us: u64,
    /// Body bytes from the caller.
    pub bytes_sent: u64,
    /// Body bytes to the caller.
    pub bytes_received: u64,
}

/// An attempt that another one followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Of which node.
    pub node: NodeName,
    /// What came of it: a failure token, or a status.
    pub ended: String,
    /// From when it was sent until it had ended.
    pub took_us: u64,
}

impl Tried {
    /// Makes one of an attempt that took so long.
    pub fn new(node: &NodeName, ended: String, took: Duration) -> Self {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self { node: node.clone(), ended, took_us }
    }
}

/// How much a call that has ended is worth remembering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It has no name by which somebody could ask for it.
    Ordinary,
    /// It has a name, and went well.
    Named,
    /// It has a name, and failed, was refused or would have been, was tried again, or was slow.
    Notable,
}

/// A call that took so long to be answered is slow, microseconds.
pub const SLOW_US: u64 = 1_000_000;

impl CallRecord {
    /// Returns how much it is worth remembering.
    pub fn weight(&self) -> Weight {
        let notable =
            self.has_failed() || !self.rule.is_empty() || self.retries > 0 || self.latency_us >= SLOW_US;
        match (&self.request_id, notable) {
            (None, _) => Weight::Ordinary,
            (Some(_), false) => Weight::Named,
            (Some(_), true) => Weight::Notable,
        }
    }

    /// Returns whether it failed by itself or by the mesh: a failure token, a status of 500 or more, or a gRPC status but
    /// `OK`.
    pub fn has_failed(&self) -> bool {
        self.reason.is_some() || self.status >= 500 || self.grpc_status.is_some_and(|status| status != 0)
    }
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde passes")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Which calls somebody wants to see: those that meet all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallFilter {
    /// From this caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Subject>,
    /// To this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// As this side saw them; both without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Answered so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Answered>,
    /// With this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// With a path that begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// That took so long to be answered at least, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_ms: Option<u64>,
}

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Answered {
    /// With this status.
    With(u16),
    /// With a status of this hundred: 5 for `5xx`.
    Hundred(u16),
    /// See [`CallRecord::has_failed`].
    Failed,
    /// Refused by an intention, or would have been.
    Denied,
}

/// The token of calls that an intention refuses.
const DENIED: &str = "RBAC";

impl CallFilter {
    /// Returns whether a call is wanted.
    pub fn wants(&self, call: &CallRecord) -> bool {
        self.side.is_none_or(|side| side == call.side)
            && self.source.as_ref().is_none_or(|source| *source == *call.source)
            && self.service.as_ref().is_none_or(|service| Some(service) == call.destination.as_ref())
            && self.status.is_none_or(|answered| answered.is(call))
            && self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(&call.method))
            && self.path.as_ref().is_none_or(|path| call.path.starts_with(path.as_str()))
            && self.slower_ms.is_none_or(|least| call.latency_us >= least.saturating_mul(1_000))
    }
}

impl Answered {
    fn is(self, call: &CallRecord) -> bool {
        match self {
            Self::With(status) => call.status == status,
            Self::Hundred(hundred) => call.status / 100 == hundred,
            Self::Failed => call.has_failed(),
            Self::Denied => call.reason.as_deref() == Some(DENIED) || !call.rule.is_empty(),
        }
    }
}

impl std::str::FromStr for Answered {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hundred = text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok());
        match (text, hundred, text.parse::<u16>()) {
            ("failed", _, _) => Ok(Self::Failed),
            ("denied", _, _) => Ok(Self::Denied),
            (_, Some(hundred @ 1..=5), _) => Ok(Self::Hundred(hundred)),
            (_, _, Ok(status @ 100..=599)) => Ok(Self::With(status)),
            (_, _, _) => Err(format!("'{text}' is no status: expected 404, 5xx, 'failed' or 'denied'")),
        }
    }
}

impl TryFrom<String> for Answered {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Answered> for String {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::With(status) => status.to_string(),
            Answered::Hundred(hundred) => format!("{hundred}xx"),
            Answered::Failed => "failed".to_owned(),
            Answered::Denied => "denied".to_owned(),
        }
    }
}
