//! What requests read: the policy made ready, at one revision and one state of the catalogue. Immutable; swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::compile::{Policy, ServicePolicy};
use crate::logic::metric::report::EjectedEndpoint;
use crate::model::name::{NodeName, ServiceName};
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::endpoint::{Live, now_ns};

/// Why endpoints are avoided.
const UNREACHABLE: &str = "refuses or resets connections";
const FAILING: &str = "answers with errors";

type Address = (ServiceName, NodeName, u16);

/// A policy with what is known of its endpoints.
#[derive(Debug)]
pub struct Tables {
    /// The policy.
    pub policy: Policy,
    /// Counts the tables of this process.
    pub generation: u64,
    upstreams: BTreeMap<ServiceName, Arc<Upstream>>,
    live: BTreeMap<Address, Arc<Live>>,
}

impl Tables {
    /// Makes the first tables, knowing nothing of any endpoint.
    pub fn new(policy: Policy) -> Self {
        Self::build(policy, None)
    }

    /// Makes the tables that follow these: what is known of endpoints that are still there is kept.
    #[must_use]
    pub fn next(&self, policy: Policy) -> Self {
        Self::build(policy, Some(self))
    }

    fn build(policy: Policy, before: Option<&Self>) -> Self {
        let now_ns = now_ns().max(1);
        let mut live = BTreeMap::new();
        let upstreams = policy
            .services()
            .map(|(name, service)| {
                let known = before.and_then(|before| before.upstream(name));
                let mut make = |policy: &ServicePolicy, known: Option<&Arc<Upstream>>| {
                    let load = known.map(|known| known.load.clone()).unwrap_or_default();
                    // One that comes to others is new; where there was none, nobody is there to take its share meanwhile.
                    let since_ns =
                        if known.is_some_and(|known| !known.targets.is_empty()) { now_ns } else { 0 };
                    let upstream = Upstream::new(name, policy, load, |endpoint| {
                        let address = (name.clone(), endpoint.node.clone(), endpoint.port);
                        let found =
                            live.get(&address).or(before.and_then(|before| before.live.get(&address)));
                        let found = found.cloned().unwrap_or_else(|| Arc::new(Live::new(since_ns)));
                        live.insert(address, found.clone());
                        found
                    });
                    upstream.survey(now_ns);
                    upstream
                };
                let mut upstream = make(service, known);
                for (port, policy) in &service.ports {
                    let known = known.and_then(|known| known.at(Some(*port)));
                    upstream.ports.push((*port, Arc::new(make(policy, known))));
                }
                (name.clone(), Arc::new(upstream))
            })
            .collect();
        let generation = before.map_or(0, |before| before.generation + 1);
        Self { policy, generation, upstreams, live }
    }

    /// Returns how a service is reached; `None` for one that is not known.
    pub fn upstream(&self, name: &ServiceName) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// Returns how a port of a service is reached; `None` for one that is not known.
    pub fn upstream_at(&self, name: &ServiceName, port: Option<u16>) -> Option<&Arc<Upstream>> {
        self.upstream(name)?.at(port)
    }

    /// Does what is to be done for each service each second.
    pub fn tend(&self, now_ns: u64, mut draw: impl FnMut() -> u64) {
        for upstream in self.upstreams.values() {
            upstream.tend(now_ns, &mut draw);
        }
    }

    /// Returns the endpoints that are avoided at `now_ns` ([`crate::proxy::upstream::endpoint::now_ns`]), sorted.
    pub fn ejected(&self, now_ns: u64) -> Vec<EjectedEndpoint> {
        self.live
            .iter()
            .filter(|(_, live)| live.is_avoided(now_ns))
            .map(|((service, node, _), live)| EjectedEndpoint {
                service: service.clone(),
                node: node.clone(),
                reason: if live.is_ejected() { FAILING } else { UNREACHABLE }.to_owned(),
            })
            .collect()
    }
}
