//! What control asks its proxies about calls that have ended, and what they tell: with the answer to a report a proxy gets
//! the questions that are open, and answers each by a request of its own.

use serde::{Deserialize, Serialize};

use crate::model::call::{CallFilter, CallRecord};
use crate::model::name::NodeName;
use crate::model::view::Side;

/// Calls in one answer, at most.
pub const CALLS_MAX: usize = 256;

/// One open question: the answer to `POST /v1/reports` is a list of them, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inquiry {
    /// Its number.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// What is remembered under a name: one answer.
    Request(String),
    /// Calls as they end, until it is said that nobody watches any more: an answer whenever there are some, and every second.
    Calls {
        /// Which.
        filter: CallFilter,
        /// How many a second at most.
        per_second: u32,
    },
}

/// `POST /v1/inquiries/{id}`: what a proxy knows. Answered with 410 when nobody waits for it any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The calls, at most [`CALLS_MAX`].
    pub calls: Vec<CallRecord>,
    /// Calls that began before this have been forgotten, Unix milliseconds; 0 when none was.
    #[serde(default)]
    pub forgotten_ms: u64,
    /// When the process began that answers, Unix milliseconds.
    #[serde(default)]
    pub started_ms: u64,
    /// Calls that were wanted and are not shown, as there were too many.
    #[serde(default)]
    pub missed: u64,
}

/// A call that has ended, and whose proxy tells of it: one line of `GET /v1/calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The node whose proxy tells.
    pub by: NodeName,
    /// The call.
    #[serde(flatten)]
    pub call: CallRecord,
}

/// One line of `GET /v1/calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shown {
    /// A call.
    Call(Box<Seen>),
    /// So many were not shown, as there were too many.
    Missed(u64),
}

/// The answer to `GET /v1/requests/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestTrace {
    /// The calls of that name, in the order in which they began.
    pub calls: Vec<Seen>,
    /// Whose proxies answered, and what they have forgotten.
    pub asked: Vec<Memory>,
    /// Whose proxies did not answer in time.
    pub silent: Vec<NodeName>,
}

/// Puts the calls of one request in the order in which they began. The clocks of two hosts differ, and milliseconds are long:
/// what both sides saw of a call stands together, the caller's side first, and with it the attempts of a retried one.
pub fn in_order(calls: Vec<Seen>) -> Vec<Seen> {
    let (outbound, mut inbound): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|seen| seen.call.side == Side::Outbound);
    let mut groups: Vec<Vec<Seen>> = Vec::with_capacity(outbound.len());
    for seen in sorted(outbound) {
        let call = &seen.call;
        let mut nodes: Vec<_> = call.tried.iter().map(|tried| &tried.node).chain(&call.node).collect();
        let is_its = |other: &mut Seen| {
            let (one, two) = (&other.call, call);
            if (&one.source, &one.destination) != (&two.source, &two.destination) {
                return false;
            }
            let attempt = nodes.iter().position(|node| **node == other.by);
            attempt.map(|attempt| nodes.swap_remove(attempt)).is_some()
        };
        let attempts: Vec<_> = inbound.extract_if(.., is_its).collect();
        groups.push([vec![seen], sorted(attempts)].concat());
    }
    groups.extend(inbound.into_iter().map(|seen| vec![seen]));
    groups.sort_by_key(|group| group.first().map(|seen| seen.call.at_ms));
    groups.concat()
}

fn sorted(mut calls: Vec<Seen>) -> Vec<Seen> {
    calls.sort_by_key(|seen| seen.call.at_ms);
    calls
}

/// How far the memory of a proxy reaches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The node.
    pub node: NodeName,
    /// Calls before this are forgotten, or were before its process began, Unix milliseconds.
    pub since_ms: u64,
}
