//! Resources × catalogue × node → what requests read.
//!
//! Two steps, because they change at different times: [`Rulebook::new`] makes the resources of one revision ready
//! (expressions compiled, precedence settled), [`Rulebook::policy`] joins them with the endpoints gossip knows. A change in
//! the catalogue only takes the second, and of the first, a new revision only what it changes ([`Rulebook::next`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::logic::authorize::Intentions;
use crate::logic::balance::balancer::Balancer;
use crate::logic::balance::locality::Vicinity;
use crate::logic::balance::pick::Weights;
use crate::logic::bans;
use crate::logic::route::bound::Bound;
use crate::logic::route::table::{Route, RouteTable, precedence};
use crate::logic::traffic::TrafficRules;
use crate::model::endpoint::{Catalog, Endpoint, Standing};
use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::resource::{Object, Resource, Revision};
use crate::model::route::ParentRef;
use crate::model::service::Protocol;
use crate::model::service_spec::{HealthCheck, ServicePort, ServiceSpec};
use crate::model::snapshot::Snapshot;
use crate::model::traffic_policy::TrafficPolicySpec;

/// The resources of one revision, made ready for one node.
#[derive(Debug, Clone)]
pub struct Rulebook {
    revision: Revision,
    node: NodeName,
    banned: BTreeSet<NodeName>,
    draining: BTreeSet<NodeName>,
    intentions: Arc<Intentions>,
    /// Of each service, or of each of its ports.
    routes: BTreeMap<ServiceName, Vec<(Option<u16>, Bound)>>,
    services: BTreeMap<ServiceName, ServiceSpec>,
    traffic: BTreeMap<ServiceName, Arc<TrafficRules>>,
    /// Of services that no traffic policy speaks of.
    default_traffic: Arc<TrafficRules>,
}

/// Everything that the data path reads, complete, at one revision and one state of the catalogue.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The revision of its resources.
    pub revision: Revision,
    /// Nodes that must not be talked to.
    pub banned: BTreeSet<NodeName>,
    /// Whether the services of this node are to have no new calls while others serve them.
    pub drains: bool,
    node: NodeName,
    zone: Option<ZoneName>,
    intentions: Arc<Intentions>,
    services: BTreeMap<ServiceName, ServicePolicy>,
}

/// What is to be known of one service.
#[derive(Debug, Clone, Default)]
pub struct ServicePolicy {
    /// Where it is, sorted by node and port; may be empty.
    pub endpoints: Vec<Endpoint>,
    /// What is known of all weights of `endpoints`, for picking.
    pub weights: Weights,
    /// What it speaks: what its `Service` object says, else what all its endpoints say, else [`Protocol::Detect`].
    pub protocol: Protocol,
    /// The rules for requests to it; empty without a route, when requests go straight to `endpoints`.
    pub routes: Bound,
    /// How its instances are probed.
    pub health_check: Option<HealthCheck>,
    /// How calls to it are balanced, limited, retried and given up: its `TrafficPolicy` with all defaults.
    pub traffic: Arc<TrafficRules>,
    /// Its endpoints, made ready to be picked from by `traffic.balance`.
    pub balancer: Arc<Balancer>,
    /// Its ports, each as if it was a service of its own; empty for a service with one.
    pub ports: Vec<(u16, Self)>,
}

/// Makes the policy of node `me`. Equal arguments make equal policies.
pub fn compile(snapshot: &Snapshot, catalog: &Catalog, me: &NodeName) -> Policy {
    Rulebook::new(snapshot, me).policy(catalog)
}

impl Rulebook {
    /// Makes the resources of `snapshot` ready. They are taken for valid: see `logic::validate`.
    pub fn new(snapshot: &Snapshot, me: &NodeName) -> Self {
        Self::build(snapshot, me, &BTreeMap::new())
    }

    /// Makes the resources of the snapshot that follows ready. Tables of routes that did not change are kept.
    #[must_use]
    pub fn next(&self, snapshot: &Snapshot) -> Self {
        Self::build(snapshot, &self.node, &self.routes)
    }

    fn build(
        snapshot: &Snapshot,
        me: &NodeName,
        before: &BTreeMap<ServiceName, Vec<(Option<u16>, Bound)>>,
    ) -> Self {
        let mut attached: BTreeMap<ServiceName, Vec<(&ParentRef, Route<'_>)>> = BTreeMap::new();
        let mut intentions = Vec::new();
        let mut services = BTreeMap::new();
        let mut policies = Vec::new();
        for resource in &snapshot.resources {
            for (service, parent, route) in Route::of(resource).into_iter().flat_map(parents) {
                attached.entry(service).or_default().push((parent, route));
            }
            match resource {
                Resource::GrpcRoute(_) | Resource::HttpRoute(_) | Resource::TcpRoute(_) => {}
                Resource::Intention(intention) => intentions.push(intention),
                Resource::TrafficPolicy(policy) => policies.push(policy),
                Resource::Service(service) => {
                    let name = ServiceName::new(&service.metadata.name, &service.metadata.namespace);
                    services.extend(name.ok().map(|name| (name, service.spec.clone())));
                }
            }
        }
        let rules = |(service, policy): (_, &Object<TrafficPolicySpec>)| {
            (service, Arc::new(TrafficRules::new(&policy.spec)))
        };
        let tables = |(service, routes): (ServiceName, Vec<_>)| {
            let ports = services.get(&service).map_or(&[][..], |spec: &ServiceSpec| spec.ports.as_slice());
            let bound = bind(&service, &routes, ports, before.get(&service).map_or(&[], Vec::as_slice));
            (service, bound)
        };
        Self {
            revision: snapshot.revision,
            node: me.clone(),
            banned: snapshot.banned.iter().cloned().collect(),
            draining: snapshot.draining.iter().cloned().collect(),
            intentions: Arc::new(Intentions::new(intentions, snapshot.default_action, snapshot.mode)),
            routes: attached.into_iter().map(tables).collect(),
            services,
            traffic: in_force(policies).into_iter().map(rules).collect(),
            default_traffic: Arc::default(),
        }
    }

    /// Joins the resources with the endpoints of `catalog`.
    pub fn policy(&self, catalog: &Catalog) -> Policy {
        let mut services: BTreeMap<ServiceName, ServicePolicy> = BTreeMap::new();
        // Known once announced: a service whose nodes are all dead is unavailable, not unknown.
        let records = || catalog.members.values().filter_map(|member| member.record.as_ref());
        for said in records().flat_map(|record| &record.services) {
            services.entry(said.service.clone()).or_default();
        }
        for (name, mut endpoints) in catalog.by_service() {
            endpoints.retain(|endpoint| !self.banned.contains(&endpoint.node));
            // What the node itself says of it comes later, or never.
            for endpoint in endpoints.iter_mut().filter(|endpoint| self.draining.contains(&endpoint.node)) {
                endpoint.standing = Standing::Draining;
            }
            endpoints.sort_by(|a, b| (&a.node, a.port).cmp(&(&b.node, b.port)));
            services.entry(name).or_default().endpoints = endpoints;
        }
        for name in self.services.keys().chain(self.routes.keys()).chain(self.traffic.keys()) {
            services.entry(name.clone()).or_default();
        }
        let vicinity = Vicinity::new(catalog, &self.node);
        for (name, service) in &mut services {
            service.traffic = Arc::clone(self.traffic.get(name).unwrap_or(&self.default_traffic));
            let routes = self.routes.get(name).map_or(&[][..], Vec::as_slice);
            let bound = |port: Option<u16>| routes.iter().find(|(of, _)| *of == port).map(|(_, bound)| bound);
            let spec = self.services.get(name);
            let said = spec.and_then(|spec| spec.protocol);
            for port in spec.iter().flat_map(|spec| &spec.ports) {
                let policy = service.at(port, said, bound(Some(port.port)), &vicinity);
                service.ports.push((port.port, policy));
            }
            service.health_check = spec.and_then(|spec| spec.health_check.clone());
            service.complete(said, bound(None), &vicinity);
        }
        let zone = catalog.members.get(&self.node).and_then(|member| member.record.as_ref()?.zone.clone());
        Policy {
            revision: self.revision,
            banned: self.banned.clone(),
            drains: self.draining.contains(&self.node),
            node: self.node.clone(),
            zone,
            intentions: Arc::clone(&self.intentions),
            services,
        }
    }
}

impl Policy {
    /// Returns why nobody takes this node for a member: it is banned.
    pub fn exclusion(&self) -> Option<String> {
        let node = self.node();
        self.banned.contains(node).then(|| bans::told(node))
    }

    /// Returns what is to be known of a service.
    ///
    /// Returns `None` for one that no node ever announced and no resource speaks of, which is answered 404.
    pub fn service(&self, name: &ServiceName) -> Option<&ServicePolicy> {
        self.services.get(name)
    }

    /// Returns every service that is known, sorted by name.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &ServicePolicy)> {
        self.services.iter()
    }

    /// Returns how instances of a service are to be probed; `None` when they are not.
    pub fn health_check(&self, name: &ServiceName) -> Option<&HealthCheck> {
        self.service(name)?.health_check.as_ref()
    }

    /// Returns the node it was made for.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Returns the failure domain of that node.
    pub fn zone(&self) -> Option<&ZoneName> {
        self.zone.as_ref()
    }
}

impl AsRef<Intentions> for Policy {
    fn as_ref(&self) -> &Intentions {
        &self.intentions
    }
}

impl ServicePolicy {
    /// Returns one of its ports, as if it was a service of its own.
    fn at(
        &self,
        port: &ServicePort,
        said: Option<Protocol>,
        routes: Option<&Bound>,
        vicinity: &Vicinity,
    ) -> Self {
        let target = port.target_port.unwrap_or(port.port);
        let here = self.endpoints.iter().filter(|endpoint| endpoint.port == target);
        let traffic = Arc::clone(&self.traffic);
        let mut policy = Self { endpoints: here.cloned().collect(), traffic, ..Self::default() };
        policy.complete(port.protocol.or(said), routes, vicinity);
        policy
    }

    fn complete(&mut self, said: Option<Protocol>, routes: Option<&Bound>, vicinity: &Vicinity) {
        self.weights = Weights::of(self.endpoints.iter().map(|endpoint| endpoint.weight));
        self.routes = routes.cloned().unwrap_or_default();
        self.balancer = Arc::new(Balancer::new(&self.traffic.balance, &self.endpoints, vicinity));
        if let Some(protocol) = said {
            for endpoint in &mut self.endpoints {
                endpoint.protocol = protocol;
            }
            self.protocol = protocol;
            return;
        }
        let mut said = self.endpoints.iter().map(|endpoint| endpoint.protocol);
        let first = said.next().unwrap_or_default();
        self.protocol = if said.all(|protocol| protocol == first) { first } else { Protocol::Detect };
    }
}

/// Makes the tables of a service, or of each of its ports; those of `before` that are the same are kept.
fn bind(
    service: &ServiceName,
    attached: &[(&ParentRef, Route<'_>)],
    ports: &[ServicePort],
    before: &[(Option<u16>, Bound)],
) -> Vec<(Option<u16>, Bound)> {
    let known = |port: Option<u16>| before.iter().find(|(of, _)| *of == port).map(|(_, bound)| bound);
    if ports.is_empty() {
        let all = attached.iter().map(|(_, route)| *route).collect();
        return vec![(None, bound(service, all, known(None)))];
    }
    let made = ports.iter().map(|port| {
        let here = attached.iter().filter(|(parent, _)| is_at(parent, port)).map(|(_, route)| *route);
        (Some(port.port), bound(service, here.collect(), known(Some(port.port))))
    });
    made.collect()
}

fn bound(service: &ServiceName, routes: Vec<Route<'_>>, before: Option<&Bound>) -> Bound {
    let mut scopes: BTreeMap<&str, Vec<Route<'_>>> = BTreeMap::new();
    for route in routes {
        let scope = scopes.entry(&route.metadata().namespace).or_default();
        // A route may name a service more than once, by its ports.
        let same = |other: &Route<'_>| {
            other.kind() == route.kind() && other.metadata().name == route.metadata().name
        };
        if !scope.iter().any(same) {
            scope.push(route);
        }
    }
    let mut bound = Bound::default();
    for (namespace, mut routes) in scopes {
        let kind = routes.iter().map(|route| route.kind()).max();
        routes.retain(|route| Some(route.kind()) == kind);
        let kept = before.and_then(|before| before.tables().find(|table| table.is_of(&routes)));
        let table = kept.cloned().unwrap_or_else(|| Arc::new(RouteTable::new(routes)));
        bound.add(table, namespace, service.namespace());
    }
    bound
}

/// Returns whether a reference to a service with ports is to this one.
pub fn is_at(parent: &ParentRef, port: &ServicePort) -> bool {
    parent.port.is_none_or(|number| number == port.port)
        && parent.section_name.as_ref().is_none_or(|name| port.name.as_ref() == Some(name))
}

/// Returns the services that a route is attached to, with the references to them.
pub fn parents(route: Route<'_>) -> impl Iterator<Item = (ServiceName, &ParentRef, Route<'_>)> {
    let own = &route.metadata().namespace;
    route.parents().iter().filter_map(move |parent| {
        let service = ServiceName::new(&parent.name, parent.namespace.as_ref().unwrap_or(own)).ok()?;
        Some((service, parent, route))
    })
}

/// Returns the service that a traffic policy is about; `None` for one that names none.
pub fn target(policy: &Object<TrafficPolicySpec>) -> Option<ServiceName> {
    ServiceName::new(&policy.spec.target_ref.name, &policy.metadata.namespace).ok()
}

/// Returns the one policy that counts for each service: the oldest, as GEP-713 settles conflicts, then the first by
/// `namespace/name`. Policies are not merged, so that what holds can be read in one place.
pub fn in_force<'a>(
    policies: impl IntoIterator<Item = &'a Object<TrafficPolicySpec>>,
) -> BTreeMap<ServiceName, &'a Object<TrafficPolicySpec>> {
    let mut policies: Vec<_> = policies.into_iter().collect();
    policies.sort_by_cached_key(|policy| precedence(&policy.metadata));
    let mut first = BTreeMap::new();
    for policy in policies {
        if let Some(service) = target(policy) {
            first.entry(service).or_insert(policy);
        }
    }
    first
}
