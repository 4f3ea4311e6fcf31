//! Balancing of one service put together: zone, algorithm, slow start.

use crate::logic::balance::hash;
use crate::logic::balance::locality::{Health, OVERPROVISIONING_PERCENT, Spread, Vicinity};
use crate::logic::balance::pick::{
    Candidate, Draw, Part, Pool, WHOLE, Weights, is_eager, pick_least_request, pick_random, pick_two_choices,
};
use crate::logic::balance::ring_hash::{Bound, Ring};
use crate::logic::balance::round_robin::RoundRobin;
use crate::model::endpoint::{Endpoint, Standing};

/// How endpoints are picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceRules {
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// Whether the own zone goes first. On by default where nodes have zones: who names zones has paid for crossing them.
    pub zones: bool,
    /// See [`Spread`]; Envoy's 140 by default.
    pub overprovisioning_percent: u32,
}

/// An algorithm of balancing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Two choices by expected latency and load. The default, as in Linkerd: it alone notices an endpoint that is slow
    /// without failing.
    #[default]
    PeakEwma,
    /// Two choices by load.
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
    /// The same for the same key.
    ConsistentHash {
        /// What the key is.
        key: HashKey,
        /// How much load is too much, percent of the fair share.
        max_load_percent: Option<u32>,
    },
}

/// What makes two calls the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A header field, in lower case.
    Header(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
    /// The caller's address.
    Source,
}

impl Default for BalanceRules {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            zones: true,
            overprovisioning_percent: OVERPROVISIONING_PERCENT,
        }
    }
}

/// What one pick is given besides the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Randomness.
    pub draw: Draw,
    /// Counts the picks of one worker for this service, from a random number: for `RoundRobin`.
    pub ticket: u64,
    /// The hash of the call's key ([`hash::hash`]): for `ConsistentHash`; a call without one goes anywhere.
    pub key: Option<u64>,
    /// Calls under way to the service from this proxy: for `ConsistentHash` with a bound.
    pub pending: u64,
}

/// The endpoints of one service as they are picked from; made once for each new set of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balancer {
    levels: Vec<Level>,
    /// Hash and index of each endpoint, sorted.
    by_hash: Box<[(u64, u32)]>,
    first_percent: u32,
    overprovisioning_percent: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Level {
    /// By index, sorted within a zone.
    members: Box<[u32]>,
    weights: Weights,
    order: Order,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    PeakEwma,
    LeastRequest,
    RoundRobin(RoundRobin),
    Random,
    Ring(Ring, Option<u32>),
}

impl Balancer {
    /// Makes ready what `rules` need. Endpoints keep their indices: pools given to [`Self::pick`] have the same.
    pub fn new(rules: &BalanceRules, endpoints: &[Endpoint], vicinity: &Vicinity) -> Self {
        let far = if rules.zones { vicinity.clone() } else { Vicinity::default() };
        let mut by_hash: Vec<_> =
            (0u32..).zip(endpoints).map(|(index, endpoint)| (hash::endpoint(endpoint), index)).collect();
        by_hash.sort_unstable();
        let level = |members: Vec<u32>| Level::new(&rules.algorithm, members, endpoints);
        Self {
            levels: far.levels(endpoints).into_iter().map(level).collect(),
            by_hash: by_hash.into(),
            first_percent: far.own_percent(endpoints),
            overprovisioning_percent: rules.overprovisioning_percent,
        }
    }

    /// Returns how calls are shared among zones at this moment. O(n): to be made anew when an endpoint begins or ceases to
    /// be avoided, or each second, not for each call. Being late is harmless: a zone without an eager endpoint is left for
    /// the next one whatever the spread says.
    pub fn spread<P: Pool + ?Sized>(&self, pool: &P) -> Spread {
        if self.levels.len() < 2 {
            return Spread::default();
        }
        let levels: Vec<_> = self.levels.iter().map(|level| Health::of(&level.of(pool))).collect();
        Spread::new(&levels, self.first_percent, self.overprovisioning_percent)
    }

    /// Picks an endpoint for a call that has tried those at `tried` already, by index. Does not allocate; O(1), or
    /// O(log n) for `ConsistentHash`, while most endpoints are ready.
    ///
    /// Returns `None` when no endpoint has weight.
    pub fn pick<P: Pool + ?Sized>(
        &self,
        pool: &P,
        spread: &Spread,
        mut turn: Turn,
        tried: &[usize],
    ) -> Option<usize> {
        // The same key must come to the same zone.
        let mut level_draw = turn.key.filter(|_| self.is_keyed()).map_or(turn.draw, Draw);
        turn.draw.number();
        let drawn = spread.draw(&mut level_draw);
        let mut last_resort = None;
        let order = std::iter::once(drawn).chain((0..self.levels.len()).filter(|level| *level != drawn));
        for level in order.filter_map(|index| self.levels.get(index)) {
            let Some(index) = level.pick(pool, turn, tried) else { continue };
            if is_eager(pool, index, tried) {
                return Some(index);
            }
            let worse = |known: &usize| reluctance(pool, *known, tried) <= reluctance(pool, index, tried);
            last_resort = last_resort.filter(worse).or(Some(index));
        }
        last_resort
    }

    /// Returns the index of an endpoint by its hash ([`hash::endpoint`]); `None` when it is gone.
    pub fn find(&self, endpoint: u64) -> Option<usize> {
        let at = self.by_hash.binary_search_by_key(&endpoint, |(hash, _)| *hash).ok()?;
        Some(self.by_hash[at].1 as usize)
    }

    /// Returns the index of the endpoint that a session belongs to, if it may go on there: it is not avoided, was not tried
    /// and does not drain. One of weight 0 keeps its sessions and gets no new ones.
    pub fn find_session<P: Pool + ?Sized>(&self, pool: &P, endpoint: u64, tried: &[usize]) -> Option<usize> {
        self.find(endpoint).filter(|index| {
            let candidate = pool.candidate(*index);
            let willing = matches!(candidate.standing, Standing::Ready | Standing::Suspect);
            willing && !candidate.avoided && !tried.contains(index)
        })
    }

    /// Returns whether each pick needs a ticket of its own.
    pub fn takes_turns(&self) -> bool {
        matches!(self.levels.first().map(|level| &level.order), Some(Order::RoundRobin(_)))
    }

    /// Returns whether all endpoints are one level, picked from by expected latency and load: the common case, in which
    /// [`pick_two_choices`] from the whole pool comes to the same.
    pub fn is_plain(&self) -> bool {
        matches!(self.levels.as_slice(), [Level { order: Order::PeakEwma, .. }])
    }

    /// Returns whether calls are shared among several levels ([`Self::spread`]).
    pub fn is_layered(&self) -> bool {
        self.levels.len() > 1
    }

    /// Returns whether picks go by a key.
    pub fn is_keyed(&self) -> bool {
        matches!(self.levels.first().map(|level| &level.order), Some(Order::Ring(..)))
    }
}

impl Level {
    fn new(algorithm: &Algorithm, members: Vec<u32>, endpoints: &[Endpoint]) -> Self {
        let endpoint = |index: &u32| endpoints.get(*index as usize);
        let weights = || members.iter().filter_map(endpoint).map(|endpoint| endpoint.weight);
        let order = match algorithm {
            Algorithm::PeakEwma => Order::PeakEwma,
            Algorithm::LeastRequest => Order::LeastRequest,
            Algorithm::RoundRobin => Order::RoundRobin(RoundRobin::new(weights())),
            Algorithm::Random => Order::Random,
            Algorithm::ConsistentHash { max_load_percent, .. } => {
                let placed = members.iter().filter_map(endpoint).map(|at| (hash::endpoint(at), at.weight));
                Order::Ring(Ring::new(placed), *max_load_percent)
            }
        };
        let weights = Weights::of(weights());
        Self { members: members.into(), weights, order }
    }

    fn of<'a, P: ?Sized>(&'a self, pool: &'a P) -> Part<'a, P> {
        Part { pool, members: &self.members, weights: self.weights }
    }

    /// Picks one of the level, by its index in the whole pool.
    fn pick<P: Pool + ?Sized>(&self, pool: &P, turn: Turn, tried: &[usize]) -> Option<usize> {
        let part = self.of(pool);
        let index = self.pick_from(&part, turn, tried)?;
        let share = part.share(index);
        // Numbers of their own: those that led to this endpoint say too much about it.
        let mut coin = Draw(hash::mix(turn.draw.0));
        if share < WHOLE && !self.is_ring() && coin.below(u64::from(WHOLE)) >= u64::from(share) {
            // A new endpoint passes on what it is too cold for; with nobody else there, it takes it.
            let rest = Without { pool: &part, index };
            let turn = Turn { draw: coin, ticket: turn.ticket.wrapping_add(1), ..turn };
            let other = self.pick_from(&rest, turn, tried).filter(|other| is_eager(&part, *other, tried));
            return Some(part.id(other.unwrap_or(index)));
        }
        Some(part.id(index))
    }

    fn pick_from<P: Pool + ?Sized>(&self, pool: &P, turn: Turn, tried: &[usize]) -> Option<usize> {
        match &self.order {
            Order::PeakEwma => pick_two_choices(pool, turn.draw, tried),
            Order::LeastRequest => pick_least_request(pool, turn.draw, tried),
            Order::RoundRobin(turns) => turns.pick(pool, turn.ticket, turn.draw, tried),
            Order::Random => pick_random(pool, turn.draw, tried),
            Order::Ring(ring, percent) => match turn.key {
                None => pick_random(pool, turn.draw, tried),
                Some(key) => {
                    let bound = percent.map(|percent| Bound { percent, pending: turn.pending });
                    ring.pick(pool, key, bound, tried)
                }
            },
        }
    }

    fn is_ring(&self) -> bool {
        matches!(self.order, Order::Ring(..))
    }
}

fn reluctance<P: Pool + ?Sized>(pool: &P, index: usize, tried: &[usize]) -> (bool, bool, Standing) {
    let candidate = pool.candidate(index);
    (candidate.avoided, tried.contains(&index), candidate.standing)
}

/// A pool without one of its endpoints.
struct Without<'a, P: ?Sized> {
    pool: &'a P,
    index: usize,
}

impl<P: Pool + ?Sized> Pool for Without<'_, P> {
    fn len(&self) -> usize {
        self.pool.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        let candidate = self.pool.candidate(index);
        if index == self.index { Candidate { weight: 0, ..candidate } } else { candidate }
    }

    fn weights(&self) -> Weights {
        self.pool.weights()
    }

    fn id(&self, index: usize) -> usize {
        self.pool.id(index)
    }

    fn share(&self, index: usize) -> u32 {
        self.pool.share(index)
    }
}
