//! Picking an endpoint: two random choices (Mitzenmacher 2001, "The Power of Two Choices in Randomized Load Balancing"), or
//! one. Of two endpoints drawn at random, the one with the lower cost takes the call.
//!
//! Around that, in this order: endpoints of weight 0 never take a call; those that fail lately are avoided, those that
//! this request has tried are passed over, and worse [`Standing`]s wait until no better one is left. Each of the three is
//! a preference and not a ban: when nothing else is left, the call goes out all the same.

use std::cmp::Ordering;

use crate::model::endpoint::Standing;

/// Draws after which an endpoint of the best class is looked for by walking through all.
const DRAWS_MAX: usize = 16;
/// The share of a pool's member that takes all it is picked for ([`Pool::share`]).
pub const WHOLE: u32 = 1_024;

/// What is known of one endpoint at the moment of picking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Share of calls relative to the others; 0 takes none.
    pub weight: u32,
    /// Calls under way to it from this proxy.
    pub pending: u32,
    /// Latency to expect, nanoseconds ([`crate::logic::balance::ewma::Ewma::project`]); 0 when it was never called.
    pub latency_ns: f64,
    /// How willing it is.
    pub standing: Standing,
    /// Whether it is avoided for having failed (`logic::resilience::avoid`, `logic::resilience::outlier`).
    pub avoided: bool,
}

impl Candidate {
    /// Returns what one more call would cost there: expected latency × (pending calls + 1), Linkerd's. Lower is better.
    pub fn cost(&self) -> f64 {
        self.latency_ns * (f64::from(self.pending) + 1.0)
    }

    /// Orders by cost. One that was never called is taken to be as fast as the other, and goes first where that leaves
    /// both equal: so it is tried soon, but never flooded.
    pub fn by_expectation(&self, other: &Self) -> Ordering {
        let unknown = |one: &Self| one.latency_ns <= 0.0;
        if unknown(self) || unknown(other) {
            return self.by_pending(other).then(unknown(other).cmp(&unknown(self)));
        }
        self.cost().total_cmp(&other.cost())
    }

    /// Orders by calls under way.
    pub fn by_pending(&self, other: &Self) -> Ordering {
        self.pending.cmp(&other.pending)
    }
}

/// Endpoints to pick from, by index. Looking at one is O(1): most picks look at two.
pub trait Pool {
    /// Returns how many there are.
    fn len(&self) -> usize;
    /// Returns what is known of one of them; `index` is below [`Self::len`].
    fn candidate(&self, index: usize) -> Candidate;
    /// Returns what is known of all their weights.
    fn weights(&self) -> Weights {
        Weights::of((0..self.len()).map(|index| self.candidate(index).weight))
    }
    /// Returns by which index one is known outside of this pool, and in the lists of those that were tried.
    fn id(&self, index: usize) -> usize {
        index
    }
    /// Returns which part of the calls it is picked for one takes, up to [`WHOLE`]
    /// (`logic::balance::slow_start`).
    fn share(&self, index: usize) -> u32 {
        let _ = index;
        WHOLE
    }
    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Pool for [Candidate] {
    fn len(&self) -> usize {
        <[Candidate]>::len(self)
    }

    fn candidate(&self, index: usize) -> Candidate {
        self[index]
    }
}

/// Some endpoints of a pool, as a pool. Those that are not in it are simply not there.
pub struct Part<'a, P: ?Sized> {
    /// The whole.
    pub pool: &'a P,
    /// Which of it, by index.
    pub members: &'a [u32],
    /// What is known of their weights.
    pub weights: Weights,
}

impl<P: Pool + ?Sized> Pool for Part<'_, P> {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        self.pool.candidate(self.members[index] as usize)
    }

    fn weights(&self) -> Weights {
        self.weights
    }

    fn id(&self, index: usize) -> usize {
        self.pool.id(self.members[index] as usize)
    }

    fn share(&self, index: usize) -> u32 {
        self.pool.share(self.members[index] as usize)
    }
}

/// What is known of all weights of a pool; made once for each new set of endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    /// The largest.
    pub heaviest: u32,
    /// Whether all that are not 0 are the same.
    pub uniform: bool,
}

impl Weights {
    /// Looks through all weights.
    pub fn of(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut lightest = u32::MAX;
        let mut heaviest = 0;
        for weight in weights.into_iter().filter(|weight| *weight > 0) {
            lightest = lightest.min(weight);
            heaviest = heaviest.max(weight);
        }
        Self { heaviest, uniform: lightest >= heaviest }
    }
}

/// Randomness for one pick: uniform over all of `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw(pub u64);

impl Draw {
    /// Returns the next of the numbers that grow out of the draw, uniform over all of `u64` (`SplitMix64`, Steele, Lea and Flood 2014).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }
}

/// How little an endpoint is wanted: `(avoided, tried, standing)`, the least first.
type Reluctance = (bool, bool, Standing);
const EAGER: Reluctance = (false, false, Standing::Ready);

/// Picks the endpoint that is expected to answer sooner of two ("peak EWMA"), for a call that has tried those at `tried`
/// already. O(1) while most endpoints are ready, else O(n).
///
/// With equal weights two different endpoints are compared. With different weights each of the two is drawn in
/// proportion to its weight and may be the same one twice: two different ones would make the weights of a pair moot.
///
/// Returns `None` when no endpoint has weight.
pub fn pick_two_choices<P: Pool + ?Sized>(pool: &P, draw: Draw, tried: &[usize]) -> Option<usize> {
    pick_better(pool, draw, tried, Candidate::by_expectation)
}

/// Picks the endpoint with fewer calls under way of two ("least request"); otherwise as [`pick_two_choices`].
pub fn pick_least_request<P: Pool + ?Sized>(pool: &P, draw: Draw, tried: &[usize]) -> Option<usize> {
    pick_better(pool, draw, tried, Candidate::by_pending)
}

/// Picks any endpoint of the best class, in proportion to its weight; otherwise as [`pick_two_choices`].
pub fn pick_random<P: Pool + ?Sized>(pool: &P, mut draw: Draw, tried: &[usize]) -> Option<usize> {
    if pool.is_empty() {
        return None;
    }
    let weights = pool.weights();
    let eager = (0..DRAWS_MAX).find_map(|_| draw_eager(pool, weights, &mut draw, tried));
    let drawn = eager.or_else(|| draw_best(pool, None, &mut draw, tried).map(|(drawn, _)| drawn));
    drawn.map(|drawn| drawn.index)
}

/// Returns whether nothing speaks against an endpoint for a call that has tried those at `tried` already.
pub fn is_eager<P: Pool + ?Sized>(pool: &P, index: usize, tried: &[usize]) -> bool {
    let candidate = pool.candidate(index);
    candidate.weight > 0 && reluctance(pool.id(index), &candidate, tried) == EAGER
}

fn pick_better<P: Pool + ?Sized>(
    pool: &P,
    mut draw: Draw,
    tried: &[usize],
    order: fn(&Candidate, &Candidate) -> Ordering,
) -> Option<usize> {
    match pool.len() {
        0 => return None,
        // Many services have one endpoint: whatever speaks against it, nobody else is there.
        1 => return (pool.candidate(0).weight > 0).then_some(0),
        _ => {}
    }
    let weights = pool.weights();
    let eager = draw_eager_pair(pool, weights, &mut draw, tried);
    let (first, second) = eager.or_else(|| draw_best_pair(pool, weights, &mut draw, tried))?;
    match order(&first.candidate, &second.candidate) {
        Ordering::Less | Ordering::Equal => Some(first.index),
        Ordering::Greater => Some(second.index),
    }
}

/// An endpoint that was drawn, and what was seen of it.
#[derive(Clone, Copy)]
struct Drawn {
    index: usize,
    candidate: Candidate,
}

fn reluctance(id: usize, candidate: &Candidate, tried: &[usize]) -> Reluctance {
    (candidate.avoided, tried.contains(&id), candidate.standing)
}

/// Draws one endpoint; `None` when something speaks against it, or its weight does.
fn draw_eager<P: Pool + ?Sized>(
    pool: &P,
    weights: Weights,
    draw: &mut Draw,
    tried: &[usize],
) -> Option<Drawn> {
    let index = draw.below(pool.len() as u64) as usize;
    let candidate = pool.candidate(index);
    if candidate.weight == 0 || reluctance(pool.id(index), &candidate, tried) != EAGER {
        return None;
    }
    let light = !weights.uniform && draw.below(u64::from(weights.heaviest)) >= u64::from(candidate.weight);
    (!light).then_some(Drawn { index, candidate })
}

/// Draws two endpoints that nothing speaks against, without looking at the others; `None` when luck runs out.
fn draw_eager_pair<P: Pool + ?Sized>(
    pool: &P,
    weights: Weights,
    draw: &mut Draw,
    tried: &[usize],
) -> Option<(Drawn, Drawn)> {
    let mut first: Option<Drawn> = None;
    for _ in 0..DRAWS_MAX {
        let Some(drawn) = draw_eager(pool, weights, draw, tried) else { continue };
        match first {
            None => first = Some(drawn),
            Some(known) if known.index == drawn.index && weights.uniform => {}
            Some(known) => return Some((known, drawn)),
        }
    }
    None
}

/// Draws two endpoints of the least reluctant class by walking through all; the same twice when it has only one.
fn draw_best_pair<P: Pool + ?Sized>(
    pool: &P,
    weights: Weights,
    draw: &mut Draw,
    tried: &[usize],
) -> Option<(Drawn, Drawn)> {
    let (first, class) = draw_best(pool, None, draw, tried)?;
    let except = weights.uniform.then_some(first.index);
    let second = draw_best(pool, except, draw, tried).filter(|(_, other)| *other == class);
    Some((first, second.map_or(first, |(drawn, _)| drawn)))
}

/// Draws one endpoint of the least reluctant class in proportion to its weight, leaving out `except`, in one walk: each
/// replaces the one before it with the probability of its weight among those so far (Chao 1982, "A general purpose unequal
/// probability sampling plan"). What atomics say may change meanwhile: each endpoint is looked at once.
fn draw_best<P: Pool + ?Sized>(
    pool: &P,
    except: Option<usize>,
    draw: &mut Draw,
    tried: &[usize],
) -> Option<(Drawn, Reluctance)> {
    let mut best: Option<(Drawn, Reluctance)> = None;
    let mut total = 0;
    for index in (0..pool.len()).filter(|index| Some(*index) != except) {
        let candidate = pool.candidate(index);
        if candidate.weight == 0 {
            continue;
        }
        let class = reluctance(pool.id(index), &candidate, tried);
        match best.map_or(Ordering::Less, |(_, known)| class.cmp(&known)) {
            Ordering::Greater => continue,
            Ordering::Less => total = 0,
            Ordering::Equal => {}
        }
        total += u64::from(candidate.weight);
        if total == u64::from(candidate.weight) || draw.below(total) < u64::from(candidate.weight) {
            best = Some((Drawn { index, candidate }, class));
        }
    }
    best
}
