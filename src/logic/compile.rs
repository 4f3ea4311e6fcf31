//! Resources × catalogue × node → what requests read.
//!
//! Two steps, because they change at different times: [`Rulebook::new`] makes the resources of one revision ready
//! (expressions compiled, precedence settled), [`Rulebook::policy`] joins them with the endpoints gossip knows. A change in
//! the catalogue only takes the second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::logic::authorize::Intentions;
use crate::logic::balance::balancer::Balancer;
use crate::logic::balance::locality::Vicinity;
use crate::logic::balance::pick::Weights;
use crate::logic::route::table::{RouteTable, precedence};
use crate::logic::traffic::TrafficRules;
use crate::model::endpoint::{Catalog, Endpoint};
use crate::model::name::{NodeName, ServiceName, ZoneName};
use crate::model::resource::{Object, Resource, Revision};
use crate::model::route::HttpRouteSpec;
use crate::model::service::Protocol;
use crate::model::service_spec::{HealthCheck, ServiceSpec};
use crate::model::snapshot::Snapshot;
use crate::model::traffic_policy::TrafficPolicySpec;

/// The resources of one revision, made ready for one node.
#[derive(Debug, Clone)]
pub struct Rulebook {
    revision: Revision,
    node: NodeName,
    banned: BTreeSet<NodeName>,
    intentions: Arc<Intentions>,
    routes: BTreeMap<ServiceName, Arc<RouteTable>>,
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
    /// The rules for requests to it; `None` without a route, when requests go straight to `endpoints`.
    pub routes: Option<Arc<RouteTable>>,
    /// How its instances are probed.
    pub health_check: Option<HealthCheck>,
    /// How calls to it are balanced, limited, retried and given up: its `TrafficPolicy` with all defaults.
    pub traffic: Arc<TrafficRules>,
    /// Its endpoints, made ready to be picked from by `traffic.balance`.
    pub balancer: Arc<Balancer>,
}

/// Makes the policy of node `me`. Equal arguments make equal policies.
pub fn compile(snapshot: &Snapshot, catalog: &Catalog, me: &NodeName) -> Policy {
    Rulebook::new(snapshot, me).policy(catalog)
}

impl Rulebook {
    /// Makes the resources of `snapshot` ready. They are taken for valid: see `logic::validate`.
    pub fn new(snapshot: &Snapshot, me: &NodeName) -> Self {
        let mut attached: BTreeMap<ServiceName, Vec<&Object<HttpRouteSpec>>> = BTreeMap::new();
        let mut intentions = Vec::new();
        let mut services = BTreeMap::new();
        let mut policies = Vec::new();
        for resource in &snapshot.resources {
            match resource {
                Resource::HttpRoute(route) => {
                    for parent in parents(route) {
                        attached.entry(parent).or_default().push(route);
                    }
                }
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
        let table = |(service, routes)| (service, Arc::new(RouteTable::new(routes)));
        Self {
            revision: snapshot.revision,
            node: me.clone(),
            banned: snapshot.banned.iter().cloned().collect(),
            intentions: Arc::new(Intentions::new(intentions, snapshot.default_action)),
            routes: attached.into_iter().map(table).collect(),
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
            endpoints.sort_by(|a, b| (&a.node, a.port).cmp(&(&b.node, b.port)));
            services.entry(name).or_default().endpoints = endpoints;
        }
        for name in self.services.keys().chain(self.routes.keys()).chain(self.traffic.keys()) {
            services.entry(name.clone()).or_default();
        }
        let vicinity = Vicinity::new(catalog, &self.node);
        for (name, service) in &mut services {
            service.complete(self.services.get(name), self.routes.get(name));
            service.traffic = Arc::clone(self.traffic.get(name).unwrap_or(&self.default_traffic));
            let balancer = Balancer::new(&service.traffic.balance, &service.endpoints, &vicinity);
            service.balancer = Arc::new(balancer);
        }
        let zone = catalog.members.get(&self.node).and_then(|member| member.record.as_ref()?.zone.clone());
        Policy {
            revision: self.revision,
            banned: self.banned.clone(),
            node: self.node.clone(),
            zone,
            intentions: Arc::clone(&self.intentions),
            services,
        }
    }
}

impl Policy {
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
    fn complete(&mut self, spec: Option<&ServiceSpec>, routes: Option<&Arc<RouteTable>>) {
        self.weights = Weights::of(self.endpoints.iter().map(|endpoint| endpoint.weight));
        self.routes = routes.cloned();
        self.health_check = spec.and_then(|spec| spec.health_check.clone());
        if let Some(protocol) = spec.and_then(|spec| spec.protocol) {
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

/// Returns the services that a route is attached to.
///
/// Only those of its own namespace: the route of another namespace would apply to callers there alone (a "consumer
/// route"), and is refused by `logic::validate` until callers are told apart.
pub fn parents(route: &Object<HttpRouteSpec>) -> impl Iterator<Item = ServiceName> {
    let own = &route.metadata.namespace;
    let names: BTreeSet<_> = route
        .spec
        .parent_refs
        .iter()
        .filter(|parent| parent.namespace.as_ref().is_none_or(|namespace| namespace == own))
        .filter_map(|parent| ServiceName::new(&parent.name, own).ok())
        .collect();
    names.into_iter()
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
