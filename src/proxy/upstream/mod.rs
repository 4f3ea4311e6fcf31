//! How a proxy reaches a service: the endpoints with what is known of them, and the connections that are kept.
//!
//! [`endpoint`] is shared by all workers; [`mux`] and [`idle`] are each worker's own.

pub mod endpoint;
pub mod mux;
pub mod idle;

use std::sync::Arc;

use http::uri::Authority;

use crate::logic::balance::pick::{Candidate, Draw, Pool, Weights, pick_two_choices};
use crate::logic::compile::ServicePolicy;
use crate::logic::route::table::RouteTable;
use crate::model::name::ServiceName;
use crate::model::service::Protocol;
use crate::proxy::upstream::endpoint::{Live, Target};

/// One service at one state of policy and catalogue.
#[derive(Debug)]
pub struct Upstream {
    /// The service.
    pub name: ServiceName,
    /// Its name as links carry it.
    pub authority: Option<Authority>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The rules for requests to it.
    pub routes: Option<Arc<RouteTable>>,
    /// Where it is, sorted by node and port.
    pub targets: Vec<Target>,
    weights: Weights,
}

impl Upstream {
    /// Makes a service ready; `live` finds what is known of its endpoints.
    pub fn new(
        name: &ServiceName,
        policy: &ServicePolicy,
        mut live: impl FnMut(&crate::model::endpoint::Endpoint) -> Arc<Live>,
    ) -> Self {
        let targets = policy
            .endpoints
            .iter()
            .map(|endpoint| Target { endpoint: endpoint.clone(), live: live(endpoint) })
            .collect();
        Self {
            name: name.clone(),
            authority: Authority::try_from(name.to_string()).ok(),
            protocol: policy.protocol,
            routes: policy.routes.clone(),
            targets,
            weights: policy.weights,
        }
    }

    /// Picks an endpoint for a call that has tried those at `tried` already; `None` when there is none.
    pub fn pick(&self, draw: u64, now_ns: u64, tried: &[usize]) -> Option<(usize, &Target)> {
        let index = pick_two_choices(&Moment { upstream: self, now_ns }, Draw(draw), tried)?;
        self.targets.get(index).map(|target| (index, target))
    }
}

/// The endpoints as they are at one moment.
struct Moment<'a> {
    upstream: &'a Upstream,
    now_ns: u64,
}

impl Pool for Moment<'_> {
    fn len(&self) -> usize {
        self.upstream.targets.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        self.upstream.targets[index].candidate(self.now_ns)
    }

    fn weights(&self) -> Weights {
        self.upstream.weights
    }
}
