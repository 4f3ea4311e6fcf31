//! How a proxy reaches a service: the endpoints with what is known of them, and the connections that are kept.
//!
//! [`endpoint`], [`load`] and [`quota`] are shared by all workers; [`mux`] and [`idle`] are each worker's own.

pub mod endpoint;
pub mod load;
pub mod quota;
pub mod mux;
pub mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::uri::Authority;

use crate::logic::balance::balancer::{Balancer, Turn};
use crate::logic::balance::hash;
use crate::logic::balance::locality::{Health, Spread};
use crate::logic::balance::pick::{Candidate, Draw, Pool, WHOLE, Weights, pick_two_choices};
use crate::logic::compile::ServicePolicy;
use crate::logic::resilience::outcome::Grade;
use crate::logic::resilience::outlier;
use crate::logic::route::bound::Bound;
use crate::logic::traffic::TrafficRules;
use crate::model::endpoint::{Endpoint, Standing};
use crate::model::name::{NodeName, ServiceName};
use crate::model::service::Protocol;
use crate::proxy::upstream::endpoint::{Live, Target};
use crate::proxy::upstream::load::Load;

/// The port that callers of HTTP mean who name none.
const HTTP_PORT: u16 = 80;

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
    pub routes: Bound,
    /// Its ports, each as if it was a service of its own; empty for a service with one.
    pub ports: Vec<(u16, Arc<Self>)>,
    /// Everything else that people say about calls to it.
    pub traffic: Arc<TrafficRules>,
    /// Where it is, sorted by node and port.
    pub targets: Vec<Target>,
    /// What is under way to it.
    pub load: Arc<Load>,
    balancer: Arc<Balancer>,
    weights: Weights,
    /// Whether a pick from all endpoints by [`pick_two_choices`] does all that is asked for.
    plain: bool,
    /// Whether success rates may ever be compared.
    compares: bool,
    /// What of the moment picking goes by besides the endpoints: made anew by [`Upstream::survey`].
    spread: ArcSwap<Spread>,
    panics: AtomicBool,
}

/// What one pick goes by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Occasion<'a> {
    /// Randomness.
    pub draw: u64,
    /// Nanoseconds ([`endpoint::now_ns`]).
    pub now_ns: u64,
    /// Whose turn it is, where endpoints take turns.
    pub ticket: u64,
    /// The hash of what makes two calls the same, where that counts.
    pub key: Option<u64>,
    /// The hash of the endpoint that the caller's session belongs to.
    pub session: Option<u64>,
    /// Those that this call has tried already.
    pub tried: &'a [usize],
}

impl Upstream {
    /// Makes a service ready; `live` finds what is known of its endpoints.
    pub fn new(
        name: &ServiceName,
        policy: &ServicePolicy,
        load: Arc<Load>,
        mut live: impl FnMut(&Endpoint) -> Arc<Live>,
    ) -> Self {
        let targets: Vec<_> = policy
            .endpoints
            .iter()
            .map(|endpoint| Target { endpoint: endpoint.clone(), live: live(endpoint) })
            .collect();
        let rules = &policy.traffic;
        Self {
            name: name.clone(),
            authority: Authority::try_from(name.to_string()).ok(),
            protocol: policy.protocol,
            routes: policy.routes.clone(),
            ports: Vec::new(),
            load,
            plain: policy.balancer.is_plain()
                && rules.slow_start.is_none()
                && rules.outlier.min_health_percent == 0,
            compares: rules.outlier.volume > 0 && targets.len() >= rules.outlier.hosts as usize,
            traffic: policy.traffic.clone(),
            targets,
            balancer: policy.balancer.clone(),
            weights: policy.weights,
            spread: ArcSwap::default(),
            panics: AtomicBool::new(false),
        }
    }

    /// Returns what answers at a port of the service, `None` when there is no such port. Who names none means 80, or else the
    /// first; a service with one port is reached whatever the number.
    pub fn at(self: &Arc<Self>, port: Option<u16>) -> Option<&Arc<Self>> {
        let find = |wanted: u16| self.ports.iter().find(|(port, _)| *port == wanted);
        let found = match (self.ports.first(), port) {
            (None, _) => return Some(self),
            (Some(_), Some(port)) => find(port),
            (Some(first), None) => find(HTTP_PORT).or(Some(first)),
        };
        found.map(|(_, upstream)| upstream)
    }

    /// Returns what is to be spoken with the instance that listens at its own port `port` on `node`: what the `Service`
    /// object says, else what the node announces. `None` when no such instance is known.
    pub fn spoken_at(&self, node: &NodeName, port: u16) -> Option<Protocol> {
        let there = |endpoint: &&Endpoint| endpoint.port == port && endpoint.node == *node;
        let of = |upstream: &Self| {
            let found = upstream.targets.iter().map(|target| &target.endpoint).find(there);
            found.map(|endpoint| endpoint.protocol)
        };
        self.ports.iter().find_map(|(_, upstream)| of(upstream)).or_else(|| of(self))
    }

    /// Picks an endpoint for a call; `None` when there is none.
    pub fn pick(&self, occasion: &Occasion<'_>) -> Option<(usize, &Target)> {
        let Occasion { draw, now_ns, ticket, key, session, tried } = *occasion;
        let pool = self.moment(now_ns);
        let found = session.and_then(|endpoint| self.balancer.find_session(&pool, endpoint, tried));
        let index = match found {
            Some(index) => index,
            None if self.plain => pick_two_choices(&pool, Draw(draw), tried)?,
            None => {
                // This call has its place among them already.
                let pending = u64::from(self.load.calls().saturating_sub(1));
                let turn = Turn { draw: Draw(draw), ticket, key, pending };
                self.balancer.pick(&pool, &self.spread.load(), turn, tried)?
            }
        };
        self.targets.get(index).map(|target| (index, target))
    }

    /// Returns whether it has an endpoint of this hash ([`crate::logic::balance::hash::endpoint`]).
    pub fn has(&self, endpoint: u64) -> bool {
        self.targets.iter().any(|target| hash::endpoint(&target.endpoint) == endpoint)
    }

    /// Returns whether endpoints take turns.
    pub fn takes_turns(&self) -> bool {
        self.balancer.takes_turns()
    }

    fn moment(&self, now_ns: u64) -> Moment<'_> {
        Moment { upstream: self, now_ns, panics: !self.plain && self.panics.load(Ordering::Relaxed) }
    }

    /// Records what an answer says of an endpoint, and ejects it where that is enough: for errors in a row, or because it
    /// was a `probe` that failed again.
    pub fn judge(
        &self,
        target: &Target,
        (grade, probe): (Grade, bool),
        now_ns: u64,
        draw: impl FnOnce() -> u64,
    ) {
        let rules = &self.traffic.outlier;
        if self.compares {
            target.live.count(grade);
        }
        let enough = target.live.graded(grade, rules);
        let again = probe && grade == Grade::GatewayError && rules.max_percent > 0;
        if again || (enough && outlier::may_eject(rules, self.targets.len(), self.avoided(now_ns))) {
            target.live.eject(rules, now_ns, draw());
            self.survey(now_ns);
        }
    }

    /// Records that an endpoint could not be reached, or has broken off.
    pub fn blame(&self, target: &Target, now_ns: u64, draw: u64) {
        target.live.failed(now_ns, draw);
        self.survey(now_ns);
    }

    fn avoided(&self, now_ns: u64) -> usize {
        self.targets.iter().filter(|target| target.live.is_avoided(now_ns)).count()
    }

    /// Looks through all endpoints and notes how calls are to be shared among zones, and whether so few are well that all
    /// are called. To be done each second, and when one begins to be avoided.
    pub fn survey(&self, now_ns: u64) {
        let rules = &self.traffic.outlier;
        if rules.min_health_percent > 0 {
            let health = Health::of(&Moment { upstream: self, now_ns, panics: false });
            let panics = outlier::panics(rules, health.healthy, health.capacity);
            self.panics.store(panics, Ordering::Relaxed);
        }
        if self.balancer.is_layered() {
            self.spread.store(Arc::new(self.balancer.spread(&self.moment(now_ns))));
        }
    }

    /// Does what is to be done each second: looks through the endpoints, and compares their success rates when that is due.
    pub fn tend(&self, now_ns: u64, draw: &mut impl FnMut() -> u64) {
        for (_, port) in &self.ports {
            port.tend(now_ns, draw);
        }
        let rules = &self.traffic.outlier;
        if self.load.is_due(rules.interval, now_ns) {
            let tallies: Vec<_> = self.targets.iter().map(|target| target.live.take_tally(now_ns)).collect();
            let below = if self.compares { outlier::compare(rules, &tallies) } else { Vec::new() };
            for target in below.into_iter().filter_map(|index| self.targets.get(index)) {
                target.live.eject(rules, now_ns, draw());
            }
            let calm = |target: &&Target| !target.live.is_avoided(now_ns);
            self.targets.iter().filter(calm).for_each(|target| target.live.calm());
        }
        self.survey(now_ns);
    }
}

/// The endpoints as they are at one moment.
struct Moment<'a> {
    upstream: &'a Upstream,
    now_ns: u64,
    /// Whether all are called that there are, ejected and unhealthy ones too.
    panics: bool,
}

impl Pool for Moment<'_> {
    fn len(&self) -> usize {
        self.upstream.targets.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        let mut candidate = self.upstream.targets[index].candidate(self.now_ns);
        if self.panics {
            candidate.avoided &= !self.upstream.targets[index].live.is_ejected();
            if candidate.standing == Standing::Unhealthy {
                candidate.standing = Standing::Ready;
            }
        }
        candidate
    }

    fn weights(&self) -> Weights {
        self.upstream.weights
    }

    fn share(&self, index: usize) -> u32 {
        let Some(rules) = self.upstream.traffic.slow_start else { return WHOLE };
        let age = self.upstream.targets[index].live.age(self.now_ns);
        age.map_or(WHOLE, |age| rules.share(age))
    }
}
