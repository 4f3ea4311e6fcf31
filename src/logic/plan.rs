//! What a change of the configuration does to the traffic there is: for every edge that was counted, what the policy before and
//! the one after make of it.
//!
//! Of an edge only caller, service, protocol and rule are known, not what each request asked for. Where that decides, the answer
//! is that it may be so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use http::Method;

use crate::logic::authorize::request::Asked;
use crate::logic::authorize::{Call, Verdict, authorize};
use crate::logic::compile::{Policy, compile};
use crate::logic::http::fields::Fields;
use crate::logic::metric::report::EdgeKey;
use crate::logic::request::Head;
use crate::logic::route::table::{RouteTable, Rule};
use crate::model::endpoint::Catalog;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::snapshot::Snapshot;
use crate::model::view::{EdgeProtocol, Side};

/// Something that changes for the calls of one edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The caller.
    pub source: Subject,
    /// The service that it reaches now.
    pub destination: ServiceName,
    /// What is spoken.
    pub protocol: EdgeProtocol,
    /// `route/rule` by which it does; empty without one.
    pub route: String,
    /// Calls that were counted on it.
    pub requests: u64,
    /// What becomes of them.
    pub effect: Effect,
    /// By what, in a sentence.
    pub detail: String,
}

/// What becomes of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// They are refused.
    Denied,
    /// They find no way: 404, or 500 where a rule has no backend.
    Lost,
    /// Some may be refused.
    MaybeDenied,
    /// Some may find no way.
    MaybeLost,
    /// They, or a share of them, go to another service.
    Moved,
}

impl Effect {
    /// Returns whether calls end that did not.
    pub fn is_loss(self) -> bool {
        self != Self::Moved
    }
}

/// Returns what changes for the counted calls when `after` follows `before`, the worst first, then the most calls.
pub fn plan<'t>(
    (before, after): (&Snapshot, &Snapshot),
    catalog: &Catalog,
    me: &NodeName,
    traffic: impl IntoIterator<Item = (&'t EdgeKey, u64)>,
) -> Vec<Planned> {
    let desk = Desk { before: compile(before, catalog, me), after: compile(after, catalog, me) };
    let mut edges: BTreeMap<(&Subject, &ServiceName, EdgeProtocol, &str), u64> = BTreeMap::new();
    let mut inbound: BTreeMap<(&Subject, &ServiceName, EdgeProtocol), u64> = BTreeMap::new();
    for (key, requests) in traffic {
        match key.side {
            Side::Outbound => {
                *edges.entry((&key.source, &key.destination, key.protocol, &key.route)).or_default() +=
                    requests;
            }
            Side::Inbound => {
                *inbound.entry((&key.source, &key.destination, key.protocol)).or_default() += requests;
            }
        }
    }
    // Callers that do not report are known by those they call.
    for ((source, destination, protocol), requests) in inbound {
        let known =
            edges.keys().any(|(from, to, by, _)| (*from, *to, *by) == (source, destination, protocol));
        if !known {
            edges.insert((source, destination, protocol, ""), requests);
        }
    }
    let mut planned: Vec<_> = edges
        .into_iter()
        .filter(|(_, requests)| *requests > 0)
        .filter_map(|((source, destination, protocol, route), requests)| {
            let (effect, detail) = desk.judge(source, destination, protocol, route)?;
            let (source, destination, route) = (source.clone(), destination.clone(), route.to_owned());
            Some(Planned { source, destination, protocol, route, requests, effect, detail })
        })
        .collect();
    planned.sort_by(|a, b| (a.effect, b.requests).cmp(&(b.effect, a.requests)));
    planned
}

struct Desk {
    before: Policy,
    after: Policy,
}

impl Desk {
    fn judge(
        &self,
        source: &Subject,
        destination: &ServiceName,
        protocol: EdgeProtocol,
        route: &str,
    ) -> Option<(Effect, String)> {
        self.denied(source, destination, protocol).or_else(|| {
            if route.ends_with(" mirror") {
                return None;
            }
            if route.is_empty() {
                self.direct(source, destination)
            } else {
                self.routed(source, destination, route)
            }
        })
    }

    /// Compares what the intentions say.
    fn denied(
        &self,
        peer: &Subject,
        destination: &ServiceName,
        protocol: EdgeProtocol,
    ) -> Option<(Effect, String)> {
        let refuses =
            |policy: &Policy, asked: Asked<'_>| match authorize(policy, &Call { peer, destination, asked }) {
                Verdict::Allow { .. } => None,
                Verdict::Deny { rule } => Some(rule.to_string()),
            };
        let whole = if protocol == EdgeProtocol::Tcp { Asked::Connection } else { Asked::Anything };
        if let (None, Some(rule)) = (refuses(&self.before, whole), refuses(&self.after, whole)) {
            return Some((Effect::Denied, format!("{rule} refuses it")));
        }
        let doubtful = Asked::Connection;
        match (refuses(&self.before, doubtful), refuses(&self.after, doubtful)) {
            (None, Some(rule)) => Some((Effect::MaybeDenied, format!("{rule} refuses some requests"))),
            (_, _) => None,
        }
    }

    /// What no route took may be taken by one now.
    fn direct(&self, source: &Subject, destination: &ServiceName) -> Option<(Effect, String)> {
        if table(&self.before, source, destination).is_some() {
            return None;
        }
        let table = table(&self.after, source, destination)?;
        let fields = Fields::new();
        let plain = Head { method: &Method::GET, path: "/", query: None, authority: None, fields: &fields };
        let Some(rule) = table.find(&plain) else {
            let detail = format!("{destination} gets routes: what none of their rules takes is answered 404");
            return Some((Effect::MaybeLost, detail));
        };
        moved(destination, None, Some(rule))
    }

    /// What a rule took may go elsewhere now.
    fn routed(&self, source: &Subject, destination: &ServiceName, label: &str) -> Option<(Effect, String)> {
        let named =
            |table: &RouteTable| table.rules().iter().find(|rule| rule.label.as_ref() == label).cloned();
        // The service that the route is for: one for which the rule sends to where the calls went.
        let asked = self.before.services().map(|(name, _)| name).find_map(|name| {
            let rule = named(table(&self.before, source, name)?)?;
            rule.backends.iter().any(|backend| backend.service == *destination).then_some((name, rule))
        });
        let (asked, old) = asked?;
        let Some(table) = table(&self.after, source, asked) else {
            let detail = format!("{asked} has no routes any more: its calls go straight to it");
            return (asked != destination).then_some((Effect::Moved, detail));
        };
        let Some(new) = named(table) else {
            let detail = format!("rule {label} is gone: its requests go by other rules, or are answered 404");
            return Some((Effect::MaybeLost, detail));
        };
        moved(destination, Some(&old), Some(&new))
    }
}

/// Returns the rules that hold for a caller's requests to a service.
fn table<'p>(policy: &'p Policy, source: &Subject, service: &ServiceName) -> Option<&'p RouteTable> {
    let namespace = source.service().map(ServiceName::namespace);
    policy.service(service)?.routes.table(namespace).map(AsRef::as_ref)
}

/// Compares the shares of a service among the backends of two rules; without one, all goes to it.
fn moved(destination: &ServiceName, old: Option<&Rule>, new: Option<&Rule>) -> Option<(Effect, String)> {
    let (before, after) = (share(old, destination), share(new, destination));
    let others: Vec<_> = new.map(|rule| rule.backends.as_slice()).unwrap_or_default().iter().collect();
    let takers: Vec<String> =
        others.iter().filter(|one| one.weight > 0).map(|one| one.service.to_string()).collect();
    if takers.is_empty() && new.is_some() {
        let label = new.map(|rule| rule.label.to_string()).unwrap_or_default();
        return Some((Effect::Lost, format!("rule {label} has no backend: answered 500")));
    }
    if (before - after).abs() < f64::EPSILON {
        return None;
    }
    let to = takers.join(", ");
    let detail =
        format!("its share goes from {:.0} % to {:.0} %: backends are {to}", before * 100.0, after * 100.0);
    Some((Effect::Moved, detail))
}

fn share(rule: Option<&Rule>, service: &ServiceName) -> f64 {
    let Some(rule) = rule else { return 1.0 };
    let sum = |wanted: fn(&ServiceName, &ServiceName) -> bool| -> u64 {
        rule.backends
            .iter()
            .filter(|one| wanted(&one.service, service))
            .map(|one| u64::from(one.weight))
            .sum()
    };
    let (own, all) = (sum(|one, other| one == other), sum(|_, _| true));
    if all == 0 { 0.0 } else { own as f64 / all as f64 }
}
