//! The rollup, joined with what gossip and control know, as the one value that consoles and scripts are shown.
//!
//! Percentiles are read last, from merged histograms; they are never averaged.

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::metric::histogram::Histogram;
use crate::logic::metric::report::{EdgeKey, EjectedEndpoint};
use crate::logic::metric::rollup::{Reporter, Rollup, Series, TICK_MS};
use crate::logic::metric::total::add_rules;
use crate::logic::metric::window::{CLASSES, Sum, WINDOW_TICKS};
use crate::model::endpoint::{Catalog, Endpoint};
use crate::model::identity::{SpiffeId, Subject, TrustDomain};
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::{Metadata, Object, Resource, Revision};
use crate::model::route::ParentRef;
use crate::model::service::Protocol;
use crate::model::view::{
    EVENTS_MAX, EdgeProtocol, EdgeView, EventView, IdentityView, InstanceView, LatencyView, MeshView,
    NodeView, RouteView, ServiceView, Side, TrafficView,
};

/// Number of cells of [`TrafficView::heat`]: 1/8 ms to 2^14 ms.
const HEAT_CELLS: u32 = 18;
const HEAT_LAST: u32 = HEAT_CELLS - 1;
/// What a view shows besides traffic.
#[derive(Debug)]
pub struct ViewInput<'a> {
    /// Who computes it.
    pub observer: Subject,
    /// The trust domain.
    pub mesh: &'a TrustDomain,
    /// Now, Unix milliseconds.
    pub now_ms: u64,
    /// The newest revision known.
    pub revision: Revision,
    /// What gossip knows.
    pub catalog: &'a Catalog,
    /// What control knows of each proxy; empty when a proxy looks at itself.
    pub fleet: BTreeMap<NodeName, FleetEntry>,
    /// Every object.
    pub resources: &'a [Resource],
    /// The newest last; the last [`EVENTS_MAX`] are shown.
    pub events: Vec<EventView>,
}

/// How a proxy stands to the revisions it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetEntry {
    /// The last one it took.
    pub acked: Option<Revision>,
    /// Why it refused a newer one.
    pub refused: Option<String>,
    /// Which it refused.
    pub refused_revision: Option<Revision>,
}

/// Traffic that belongs together, being added up.
#[derive(Debug, Default)]
struct Traffic {
    sum: Sum,
    open: i64,
    requests: u64,
    failures: u64,
    denied: u64,
    denials: BTreeMap<String, u64>,
    audited: BTreeMap<String, u64>,
}

/// All traffic, grouped as it is shown.
#[derive(Debug, Default)]
struct Groups<'a> {
    edges: BTreeMap<(&'a Subject, &'a ServiceName, EdgeProtocol), Sides>,
    services: BTreeMap<&'a ServiceName, Sides>,
    instances: BTreeMap<(&'a ServiceName, &'a NodeName), Traffic>,
    routes: BTreeMap<ServiceName, BTreeMap<String, Traffic>>,
}

/// The same traffic, as each side counted it. `None` where that side does not report.
#[derive(Debug, Default)]
struct Sides {
    outbound: Option<Traffic>,
    inbound: Option<Traffic>,
    /// A caller's proxy chose an endpoint: it calls none but by mutual TLS.
    called: bool,
}

impl Rollup {
    /// Returns the mesh as it is now.
    pub fn view(&self, input: &ViewInput<'_>) -> MeshView {
        let tick = input.now_ms / TICK_MS;
        let age = self.began.map_or(1, |began| tick.saturating_sub(began));
        let seconds = age.clamp(1, WINDOW_TICKS);
        let groups = self.groups(input, tick);
        let edges = groups.edges.iter().map(|((source, destination, protocol), sides)| {
            sides.edge((*source).clone(), (*destination).clone(), *protocol, seconds)
        });
        let skipped = input.events.len().saturating_sub(EVENTS_MAX);
        MeshView {
            mesh: input.mesh.as_str().to_owned(),
            observer: input.observer.clone(),
            at_ms: input.now_ms,
            window_seconds: u32::try_from(seconds).unwrap_or(1),
            revision: input.revision,
            services: self.services(input, &groups, seconds),
            edges: edges.collect(),
            nodes: self.nodes(input),
            identities: self.identities(input.mesh),
            events: input.events.iter().skip(skipped).cloned().collect(),
        }
    }

    fn groups<'a>(&'a self, input: &ViewInput<'a>, tick: u64) -> Groups<'a> {
        let mut groups = Groups::default();
        let open = self.open(input.now_ms);
        for (key, series) in &self.series {
            let traffic = Traffic::of(series, open.get(key).copied().unwrap_or(0), tick);
            groups.add(key, &traffic);
        }
        for resource in input.resources {
            match resource {
                Resource::GrpcRoute(Object { metadata, spec, .. }) => {
                    let rules = spec.rules.iter().map(|rule| rule.name.as_deref());
                    groups.declare(metadata, &spec.parent_refs, &rules);
                }
                Resource::HttpRoute(Object { metadata, spec, .. }) => {
                    let rules = spec.rules.iter().map(|rule| rule.name.as_deref());
                    groups.declare(metadata, &spec.parent_refs, &rules);
                }
                Resource::TcpRoute(Object { metadata, spec, .. }) => {
                    let rules = spec.rules.iter().map(|rule| rule.name.as_deref());
                    groups.declare(metadata, &spec.parent_refs, &rules);
                }
                Resource::Intention(_) | Resource::Service(_) | Resource::TrafficPolicy(_) => {}
            }
        }
        groups
    }

    fn services(&self, input: &ViewInput<'_>, groups: &Groups<'_>, seconds: u64) -> Vec<ServiceView> {
        let placed = input.catalog.by_service();
        let names: BTreeSet<&ServiceName> = placed.keys().chain(groups.services.keys().copied()).collect();
        let none = Sides::default();
        let views = names.into_iter().map(|name| {
            let endpoints = placed.get(name).map_or(&[][..], Vec::as_slice);
            let routes = groups.routes.get(name).into_iter().flatten();
            ServiceView {
                name: name.clone(),
                protocol: endpoints.first().map_or(Protocol::Detect, |endpoint| endpoint.protocol),
                traffic: groups.services.get(name).unwrap_or(&none).as_called(seconds),
                instances: endpoints.iter().map(|at| self.instance(name, at, groups, seconds)).collect(),
                routes: routes
                    .map(|(route, traffic)| RouteView {
                        route: route.clone(),
                        traffic: traffic.view(seconds),
                    })
                    .collect(),
            }
        });
        views.collect()
    }

    fn instance(
        &self,
        service: &ServiceName,
        at: &Endpoint,
        groups: &Groups<'_>,
        seconds: u64,
    ) -> InstanceView {
        let avoids = |ejected: &EjectedEndpoint| ejected.service == *service && ejected.node == at.node;
        let avoiders = self.statuses().filter(|(_, status)| status.ejected.iter().any(avoids));
        InstanceView {
            node: at.node.clone(),
            addr: at.addr,
            port: at.port,
            zone: at.zone.clone(),
            standing: at.standing,
            ejected_by: avoiders.map(|(node, _)| node.clone()).collect(),
            traffic: groups
                .instances
                .get(&(service, &at.node))
                .map_or_else(|| Traffic::default().view(seconds), |traffic| traffic.view(seconds)),
        }
    }

    fn nodes(&self, input: &ViewInput<'_>) -> Vec<NodeView> {
        let members = input.catalog.members.iter().filter_map(|(name, member)| {
            let record = member.record.as_ref()?;
            let reporter = self.reporters.get(name);
            let fleet = input.fleet.get(name);
            let reported = reporter.map(|reporter| reporter.status.revision);
            Some(NodeView {
                name: name.clone(),
                role: record.role,
                addr: Some(record.addr),
                zone: record.zone.clone(),
                state: member.state,
                removed: false,
                since_ms: member.since_ms,
                rtt_ms: member.rtt_us.map(|rtt| f64::from(rtt) / 1_000.0),
                draining: record.draining,
                build: record.build.clone(),
                revision: fleet.and_then(|entry| entry.acked).max(reported),
                refused: fleet.and_then(|entry| entry.refused.clone()),
                refused_revision: fleet.and_then(|entry| entry.refused_revision),
                reported_ms: reporter.map(|reporter| reporter.at_ms),
                ahead_ms: reporter.and_then(Reporter::ahead_ms),
                memory_bytes: reporter.map(|reporter| reporter.status.memory_bytes),
                cpu: reporter.and_then(Reporter::cpu),
                descriptors: reporter.map(|reporter| reporter.status.descriptors),
                instances: record.services.len(),
            })
        });
        members.collect()
    }

    fn identities(&self, mesh: &TrustDomain) -> Vec<IdentityView> {
        let held =
            self.statuses().flat_map(|(node, status)| status.identities.iter().map(move |one| (node, one)));
        let mut views: Vec<_> = held
            .map(|(node, status)| IdentityView {
                node: node.clone(),
                status: status.clone(),
                spiffe_id: SpiffeId::new(mesh.clone(), status.subject.clone()).to_string(),
            })
            .collect();
        views.sort_by(|a, b| (&a.status.subject, &a.node).cmp(&(&b.status.subject, &b.node)));
        views
    }
}

impl<'a> Groups<'a> {
    fn add(&mut self, key: &'a EdgeKey, traffic: &Traffic) {
        let edge = self.edges.entry((&key.source, &key.destination, key.protocol)).or_default();
        edge.side(key.side).merge(traffic);
        edge.called |= key.side == Side::Outbound && key.node.is_some();
        self.services.entry(&key.destination).or_default().side(key.side).merge(traffic);
        match (key.side, &key.node) {
            (Side::Inbound, Some(node)) => {
                self.instances.entry((&key.destination, node)).or_default().merge(traffic);
            }
            (Side::Inbound, None) => {}
            (Side::Outbound, _) => {
                let routes = self.routes.entry(key.destination.clone()).or_default();
                routes.entry(key.route.clone()).or_default().merge(traffic);
            }
        }
    }

    /// Shows the rules of a route, also while nothing takes them.
    fn declare<'r>(
        &mut self,
        metadata: &Metadata,
        parents: &[ParentRef],
        names: &(impl Iterator<Item = Option<&'r str>> + Clone),
    ) {
        let parents = parents.iter().filter_map(|parent| {
            ServiceName::new(&parent.name, parent.namespace.as_ref().unwrap_or(&metadata.namespace)).ok()
        });
        for parent in parents {
            let rules = self.routes.entry(parent).or_default();
            for (index, name) in names.clone().enumerate() {
                let label = name.map_or_else(|| index.to_string(), ToOwned::to_owned);
                rules.entry(format!("{}/{label}", metadata.name)).or_default();
            }
        }
    }
}

impl Sides {
    fn side(&mut self, side: Side) -> &mut Traffic {
        match side {
            Side::Outbound => self.outbound.get_or_insert_default(),
            Side::Inbound => self.inbound.get_or_insert_default(),
        }
    }

    /// As the called side sees it, else as the callers do.
    fn as_called(&self, seconds: u64) -> TrafficView {
        let traffic = self.inbound.as_ref().or(self.outbound.as_ref());
        traffic.map_or_else(|| Traffic::default().view(seconds), |traffic| traffic.view(seconds))
    }

    fn edge(
        &self,
        source: Subject,
        destination: ServiceName,
        protocol: EdgeProtocol,
        seconds: u64,
    ) -> EdgeView {
        let server = self.inbound.as_ref().map(|traffic| traffic.view(seconds));
        let mut traffic = match (&self.outbound, &server) {
            (Some(outbound), _) => outbound.view(seconds),
            (None, Some(server)) => server.clone(),
            (None, None) => Traffic::default().view(seconds),
        };
        if let Some(server) = &server {
            // Only the called side knows what it refused.
            traffic.denied_total = traffic.denied_total.max(server.denied_total);
            traffic.denied_per_second = traffic.denied_per_second.max(server.denied_per_second);
            if server.denied_per_second > 0.0 && server.success().is_none() {
                // The two sides report at different moments: when all were refused, so were those that did not fail.
                let unfailed = traffic.requests_per_second - traffic.failures_per_second;
                traffic.denied_per_second = traffic.denied_per_second.max(unfailed);
            }
            traffic.denials.clone_from(&server.denials);
            traffic.audited.clone_from(&server.audited);
        }
        // Inbound takes nothing but mutual TLS.
        let mtls = self.called || self.inbound.is_some();
        EdgeView { source, destination, protocol, traffic, server, mtls }
    }
}

impl Traffic {
    fn of(series: &Series, open: i64, tick: u64) -> Self {
        Self {
            sum: series.window.sum(tick),
            open,
            requests: series.total.requests,
            failures: series.total.failures,
            denied: series.total.denied,
            denials: series.total.denials.clone(),
            audited: series.total.audited.clone(),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.open = self.open.saturating_add(other.open);
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.denied = self.denied.saturating_add(other.denied);
        add_rules(&mut self.denials, &other.denials);
        add_rules(&mut self.audited, &other.audited);
    }

    fn view(&self, seconds: u64) -> TrafficView {
        let counts = &self.sum.counts;
        let rate = |count: u64| count as f64 / seconds as f64;
        let failed = if counts.requests == 0 { 0.0 } else { counts.failures as f64 / counts.requests as f64 };
        let classes = CLASSES.iter().zip(counts.classes).filter(|(_, count)| *count > 0);
        TrafficView {
            requests_per_second: rate(counts.requests),
            success_rate: (1.0 - failed).clamp(0.0, 1.0),
            failures_per_second: rate(counts.failures),
            denied_per_second: rate(counts.denied),
            retries_per_second: rate(counts.retries),
            latency_ms: latency(&self.sum.latency),
            bytes_per_second: rate(counts.bytes),
            connections_open: self.open,
            requests_total: self.requests,
            failures_total: self.failures,
            denied_total: self.denied,
            denials: self.denials.clone(),
            audited: self.audited.clone(),
            classes: classes.map(|(class, count)| ((*class).to_owned(), count)).collect(),
            reasons: counts.reasons.clone(),
            heat: heat(&self.sum.newest),
        }
    }
}

fn latency(histogram: &Histogram) -> LatencyView {
    let at = |q| histogram.quantile_us(q).map(|us| us as f64 / 1_000.0);
    LatencyView { p50: at(0.50), p95: at(0.95), p99: at(0.99), samples: histogram.count() }
}

/// Counts by power of two: cell `i` up to `2^(i-3)` ms, the last one all above as well.
fn heat(histogram: &Histogram) -> Vec<u64> {
    let mut below = 0;
    let cells = (0..HEAT_CELLS).map(|cell| {
        let until = match cell {
            0..HEAT_LAST => histogram.count_until((1_000 << cell) >> 3),
            _ => histogram.count(),
        };
        let count = until.saturating_sub(below);
        below = until;
        count
    });
    cells.collect()
}
