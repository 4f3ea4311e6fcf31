//! What a change of the configuration does to the traffic there is: for every edge that was counted, what the policy before and
//! the one after make of it.
//!
//! Of an edge caller, service, protocol and rule are known, and of its requests the kinds that were seen: method and path. What
//! header fields decide nobody knows: there, and where no kind was seen, the answer is that it may be so.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use http::Method;

use crate::logic::authorize::request::Asked;
use crate::logic::authorize::{Call, Verdict, authorize};
use crate::logic::compile::{Policy, compile};
use crate::logic::http::fields::Fields;
use crate::logic::metric::asked;
use crate::logic::metric::hours::Traffic;
use crate::logic::request::Head;
use crate::logic::route::table::{RouteTable, Rule};
use crate::model::endpoint::Catalog;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::Resource;
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
    /// Calls that were counted on it; where only some of the kinds that were seen change, their share of all, an estimate.
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
    traffic: impl IntoIterator<Item = Traffic<'t>>,
) -> Vec<Planned> {
    let asks_headers = after.resources.iter().any(|resource| match resource {
        Resource::Intention(intention) => intention.spec.rules.iter().any(|rule| !rule.headers.is_empty()),
        Resource::HttpRoute(_)
        | Resource::GrpcRoute(_)
        | Resource::TcpRoute(_)
        | Resource::Service(_)
        | Resource::TrafficPolicy(_) => false,
    });
    let (old, new) = (compile(before, catalog, me), compile(after, catalog, me));
    let desk = Desk { before: old, after: new, asks_headers };
    let mut edges: BTreeMap<Edge<'t>, Calls<'t>> = BTreeMap::new();
    let mut arrived: BTreeMap<(&Subject, &ServiceName, EdgeProtocol), Calls<'t>> = BTreeMap::new();
    for Traffic { key, calls, kinds } in traffic {
        let (source, destination, protocol) = (&key.source, &key.destination, key.protocol);
        let counted = match key.side {
            Side::Outbound => {
                let route = key.route.as_str();
                edges.entry(Edge { source, destination, protocol, route }).or_default()
            }
            Side::Inbound => arrived.entry((source, destination, protocol)).or_default(),
        };
        counted.count = counted.count.saturating_add(calls);
        counted.kinds.extend(kinds);
    }
    // Callers that do not report are known by those they call.
    for ((source, destination, protocol), calls) in &arrived {
        let is_same = |edge: &Edge<'_>| {
            (edge.source, edge.destination, edge.protocol) == (*source, *destination, *protocol)
        };
        if !edges.keys().any(is_same) {
            let edge = Edge { source, destination, protocol: *protocol, route: "" };
            edges.insert(edge, calls.clone());
        }
    }
    let mut planned: Vec<_> = edges
        .into_iter()
        .filter(|(_, calls)| calls.count > 0)
        .filter_map(|(edge, calls)| {
            // A filter may have changed what was asked for before it arrived, where intentions look at it.
            let arrived = arrived.get(&(edge.source, edge.destination, edge.protocol));
            let found =
                desk.judge(&edge, &calls, arrived.filter(|one| !one.kinds.is_empty()).unwrap_or(&calls))?;
            Some(Planned {
                source: edge.source.clone(),
                destination: edge.destination.clone(),
                protocol: edge.protocol,
                route: edge.route.to_owned(),
                requests: calls.share(found.part),
                effect: found.effect,
                detail: found.detail,
            })
        })
        .collect();
    planned.sort_by(|a, b| (a.effect, b.requests).cmp(&(b.effect, a.requests)));
    planned
}

/// Between whom calls go, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge<'t> {
    source: &'t Subject,
    destination: &'t ServiceName,
    protocol: EdgeProtocol,
    route: &'t str,
}

/// The calls of an edge, and which kinds were seen among them.
#[derive(Debug, Clone, Default)]
struct Calls<'t> {
    count: u64,
    kinds: Vec<(&'t str, u64)>,
}

impl Calls<'_> {
    /// Returns how many calls a part of those that were seen stands for, at least one.
    fn share(&self, (some, all): (u64, u64)) -> u64 {
        if all == 0 || some >= all {
            return self.count;
        }
        let share = u128::from(self.count) * u128::from(some) / u128::from(all);
        u64::try_from(share).unwrap_or(u64::MAX).max(1)
    }
}

/// What becomes of an edge's calls, and of which part of those that were seen.
struct Found {
    effect: Effect,
    detail: String,
    part: (u64, u64),
}

impl Found {
    fn all(effect: Effect, detail: String) -> Self {
        Self { effect, detail, part: (1, 1) }
    }

    /// Makes one of what was found about kinds of requests, each with how often it was seen: the worst, or nothing. Says
    /// which kinds have that in common.
    fn among(calls: &Calls<'_>, judge: impl Fn(&Head<'_>) -> Option<(Effect, String)>) -> Option<Self> {
        let fields = Fields::new();
        let mut by_verdict: BTreeMap<(Effect, String), (Vec<&str>, u64)> = BTreeMap::new();
        for (kind, seen) in &calls.kinds {
            let Some((method, path)) = asked::request(kind) else { continue };
            let head = Head { method: &method, path, query: None, authority: None, fields: &fields };
            if let Some(verdict) = judge(&head) {
                let (kinds, sum) = by_verdict.entry(verdict).or_default();
                kinds.push(kind);
                *sum = sum.saturating_add(*seen);
            }
        }
        let ((effect, detail), (kinds, some)) = by_verdict.into_iter().next()?;
        let all = calls.kinds.iter().fold(0_u64, |sum, (_, seen)| sum.saturating_add(*seen));
        let more = kinds.len().saturating_sub(NAMED_MAX);
        let mut named = kinds.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        if more > 0 {
            // Writing to a string cannot fail.
            _ = write!(named, " and {more} more");
        }
        Some(Self { effect, detail: format!("{named}: {detail}"), part: (some, all) })
    }
}

/// Kinds of requests that are named in one line.
const NAMED_MAX: usize = 3;

struct Desk {
    before: Policy,
    after: Policy,
    /// Whether some intention goes by header fields.
    asks_headers: bool,
}

impl Desk {
    fn judge(&self, edge: &Edge<'_>, calls: &Calls<'_>, arrived: &Calls<'_>) -> Option<Found> {
        self.denied(edge, arrived).or_else(|| {
            if edge.route.ends_with(" mirror") {
                return None;
            }
            if edge.route.is_empty() { self.direct(edge, calls) } else { self.routed(edge, calls) }
        })
    }

    /// Compares what the intentions say.
    fn denied(&self, edge: &Edge<'_>, calls: &Calls<'_>) -> Option<Found> {
        let (peer, destination) = (edge.source, edge.destination);
        let refuses =
            |policy: &Policy, asked: Asked<'_>| match authorize(policy, &Call { peer, destination, asked }) {
                Verdict::Allow { .. } => None,
                Verdict::Deny { rule } => Some(rule.to_string()),
            };
        let whole = if edge.protocol == EdgeProtocol::Tcp { Asked::Connection } else { Asked::Anything };
        if let (None, Some(rule)) = (refuses(&self.before, whole), refuses(&self.after, whole)) {
            return Some(Found::all(Effect::Denied, format!("{rule} refuses it")));
        }
        let newly = |asked: Asked<'_>| match (refuses(&self.before, asked), refuses(&self.after, asked)) {
            (None, Some(rule)) => Some(rule),
            (_, _) => None,
        };
        let effect = if self.asks_headers { Effect::MaybeDenied } else { Effect::Denied };
        let seen = Found::among(calls, |head| {
            newly(Asked::Request(*head)).map(|rule| (effect, format!("{rule} refuses it")))
        });
        seen.or_else(|| {
            // Where kinds were seen, and nothing but them decides, there is no doubt left.
            let doubtful = calls.kinds.is_empty() || self.asks_headers;
            let rule = newly(Asked::Connection).filter(|_| doubtful)?;
            Some(Found::all(Effect::MaybeDenied, format!("{rule} refuses some requests")))
        })
    }

    /// What no route took may be taken by one now.
    fn direct(&self, edge: &Edge<'_>, calls: &Calls<'_>) -> Option<Found> {
        let Edge { source, destination, .. } = *edge;
        if table(&self.before, source, destination).is_some() {
            return None;
        }
        let table = table(&self.after, source, destination)?;
        let seen = Found::among(calls, |head| taken(table, head, destination, None));
        if seen.is_some() || !calls.kinds.is_empty() {
            return seen;
        }
        let fields = Fields::new();
        let plain = Head { method: &Method::GET, path: "/", query: None, authority: None, fields: &fields };
        let Some(rule) = table.find(&plain) else {
            let detail = format!("{destination} gets routes: what none of their rules takes is answered 404");
            return Some(Found::all(Effect::MaybeLost, detail));
        };
        moved(destination, None, Some(rule)).map(|(effect, detail)| Found::all(effect, detail))
    }

    /// What a rule took may go elsewhere now.
    fn routed(&self, edge: &Edge<'_>, calls: &Calls<'_>) -> Option<Found> {
        let Edge { source, destination, route: label, .. } = *edge;
        let named =
            |table: &RouteTable| table.rules().iter().find(|rule| rule.label.as_ref() == label).cloned();
        // The service that the route is for: one for which the rule sends to where the calls went.
        let asked = self.before.services().map(|(name, _)| name).find_map(|name| {
            let rule = named(table(&self.before, source, name)?)?;
            rule.backends.iter().any(|backend| backend.service == *destination).then_some((name, rule))
        });
        let (asked, old) = asked?;
        let before = table(&self.before, source, asked)?;
        let Some(after) = table(&self.after, source, asked) else {
            let detail = format!("{asked} has no routes any more: its calls go straight to it");
            return (asked != destination).then_some(Found::all(Effect::Moved, detail));
        };
        // Only of what this rule takes by method and path alone is known what another does with it.
        let is_plain = |head: &Head<'_>| before.find(head).is_some_and(|rule| rule.label.as_ref() == label);
        let seen = Found::among(calls, |head| {
            if is_plain(head) { taken(after, head, destination, Some(&old)) } else { None }
        });
        if seen.is_some() {
            return seen;
        }
        let Some(new) = named(after) else {
            let detail = format!("rule {label} is gone: its requests go by other rules, or are answered 404");
            let fields = Fields::new();
            let known = !calls.kinds.is_empty()
                && calls.kinds.iter().all(|(kind, _)| {
                    asked::request(kind).is_some_and(|(method, path)| {
                        let method = &method;
                        is_plain(&Head { method, path, query: None, authority: None, fields: &fields })
                    })
                });
            return (!known).then_some(Found::all(Effect::MaybeLost, detail));
        };
        moved(destination, Some(&old), Some(&new)).map(|(effect, detail)| Found::all(effect, detail))
    }
}

/// What a table does with a request that the rule `old`, or no route, brought to `destination` before.
fn taken(
    table: &RouteTable,
    head: &Head<'_>,
    destination: &ServiceName,
    old: Option<&Rule>,
) -> Option<(Effect, String)> {
    match table.find(head) {
        None if table.asks_fields() => Some((
            Effect::MaybeLost,
            "no rule takes it without header fields or a query: answered 404".to_owned(),
        )),
        None => Some((Effect::Lost, "no rule takes it: answered 404".to_owned())),
        Some(rule) => moved(destination, old, Some(rule)),
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
