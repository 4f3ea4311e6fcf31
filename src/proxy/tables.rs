//! What requests read: the policy made ready, at one revision and one state of the catalogue. Immutable; swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::compile::Policy;
use crate::logic::metric::report::EjectedEndpoint;
use crate::model::name::{NodeName, ServiceName};
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::endpoint::Live;

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
        Self::build(policy, 0, &BTreeMap::new())
    }

    /// Makes the tables that follow these: what is known of endpoints that are still there is kept.
    #[must_use]
    pub fn next(&self, policy: Policy) -> Self {
        Self::build(policy, self.generation + 1, &self.live)
    }

    fn build(policy: Policy, generation: u64, known: &BTreeMap<Address, Arc<Live>>) -> Self {
        let mut live = BTreeMap::new();
        let upstreams = policy
            .services()
            .map(|(name, service)| {
                let upstream = Upstream::new(name, service, |endpoint| {
                    let address = (name.clone(), endpoint.node.clone(), endpoint.port);
                    let found = known.get(&address).cloned().unwrap_or_default();
                    live.insert(address, found.clone());
                    found
                });
                (name.clone(), Arc::new(upstream))
            })
            .collect();
        Self { policy, generation, upstreams, live }
    }

    /// Returns how a service is reached; `None` for one that is not known.
    pub fn upstream(&self, name: &ServiceName) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// Returns the endpoints that are avoided at `now_ns` ([`crate::proxy::upstream::endpoint::now_ns`]), sorted.
    pub fn ejected(&self, now_ns: u64) -> Vec<EjectedEndpoint> {
        self.live
            .iter()
            .filter(|(_, live)| live.is_avoided(now_ns))
            .map(|((service, node, _), _)| EjectedEndpoint {
                service: service.clone(),
                node: node.clone(),
                reason: "refuses or resets connections".to_owned(),
            })
            .collect()
    }
}
