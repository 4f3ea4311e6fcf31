//! Two random choices (Mitzenmacher 2001, "The Power of Two Choices in Randomized Load Balancing"): of two endpoints drawn
//! at random, the one with the lower cost takes the call. The cost is Linkerd's: expected latency × (pending calls + 1).
//!
//! Around that, in this order: endpoints of weight 0 never take a call; those that fail lately are avoided, those that
//! this request has tried are passed over, and worse [`Standing`]s wait until no better one is left. Each of the three is
//! a preference and not a ban: when nothing else is left, the call goes out all the same.

use std::cmp::Ordering;

use crate::model::endpoint::Standing;

/// Draws after which an endpoint of the best class is looked for by walking through all.
const DRAWS_MAX: usize = 16;

/// What is known of one endpoint at the moment of picking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Share of calls relative to the others; 0 takes none.
    pub weight: u32,
    /// Calls under way to it from this proxy.
    pub pending: u32,
    /// Latency to expect, nanoseconds ([`crate::logic::balance::ewma::Ewma::project`]).
    pub latency_ns: f64,
    /// How willing it is.
    pub standing: Standing,
    /// Whether it is avoided for having failed ([`crate::logic::resilience::avoid::Avoidance::avoided`]).
    pub avoided: bool,
}

impl Candidate {
    /// Returns what one more call would cost there: expected latency × (pending calls + 1). Lower is better.
    pub fn cost(&self) -> f64 {
        self.latency_ns * (f64::from(self.pending) + 1.0)
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
    /// Returns the next of the numbers that grow out of the draw (`SplitMix64`, Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// How little an endpoint is wanted: `(avoided, tried, standing)`, the least first.
type Reluctance = (bool, bool, Standing);
const EAGER: Reluctance = (false, false, Standing::Ready);

/// Picks an endpoint for a call that has tried those at `tried` already. O(1) while most endpoints are ready, else O(n).
///
/// With equal weights two different endpoints are compared. With different weights each of the two is drawn in
/// proportion to its weight and may be the same one twice: two different ones would make the weights of a pair moot.
///
/// Returns `None` when no endpoint has weight.
pub fn pick_two_choices<P: Pool + ?Sized>(pool: &P, mut draw: Draw, tried: &[usize]) -> Option<usize> {
    if pool.is_empty() {
        return None;
    }
    let weights = pool.weights();
    let (first, second) = match draw_eager(pool, weights, &mut draw, tried) {
        Some(pair) => pair,
        None => draw_best(pool, weights, &mut draw, tried)?,
    };
    let (one, other) = (pool.candidate(first), pool.candidate(second));
    match one.cost().total_cmp(&other.cost()) {
        Ordering::Less | Ordering::Equal => Some(first),
        Ordering::Greater => Some(second),
    }
}

fn reluctance(index: usize, candidate: &Candidate, tried: &[usize]) -> Reluctance {
    (candidate.avoided, tried.contains(&index), candidate.standing)
}

/// Draws two endpoints that nothing speaks against, without looking at the others; `None` when luck runs out.
fn draw_eager<P: Pool + ?Sized>(
    pool: &P,
    weights: Weights,
    draw: &mut Draw,
    tried: &[usize],
) -> Option<(usize, usize)> {
    let mut first = None;
    for _ in 0..DRAWS_MAX {
        let index = draw.below(pool.len() as u64) as usize;
        let candidate = pool.candidate(index);
        if reluctance(index, &candidate, tried) != EAGER || candidate.weight == 0 {
            continue;
        }
        if !weights.uniform && draw.below(u64::from(weights.heaviest)) >= u64::from(candidate.weight) {
            continue;
        }
        match first {
            None => first = Some(index),
            Some(known) if known == index && weights.uniform => {}
            Some(known) => return Some((known, index)),
        }
    }
    None
}

/// Draws two endpoints of the least reluctant class by walking through all; the same twice when it has only one.
fn draw_best<P: Pool + ?Sized>(
    pool: &P,
    weights: Weights,
    draw: &mut Draw,
    tried: &[usize],
) -> Option<(usize, usize)> {
    let willing = || {
        (0..pool.len())
            .map(|index| (index, pool.candidate(index)))
            .filter(|(_, candidate)| candidate.weight > 0)
    };
    // The class is looked for first and remembered: what atomics say may change from one look to the next.
    let best = willing().map(|(index, candidate)| reluctance(index, &candidate, tried)).min()?;
    let class: Vec<(usize, u64)> = willing()
        .filter(|(index, candidate)| reluctance(*index, candidate, tried) == best)
        .map(|(index, candidate)| (index, u64::from(candidate.weight)))
        .collect();
    let first = weighted(&class, None, draw).or_else(|| willing().next().map(|(index, _)| index))?;
    let except = weights.uniform.then_some(first);
    let second = weighted(&class, except, draw).unwrap_or(first);
    Some((first, second))
}

/// Draws one of `class` in proportion to its weight, leaving out `except`; `None` when nothing is left.
fn weighted(class: &[(usize, u64)], except: Option<usize>, draw: &mut Draw) -> Option<usize> {
    let left = || class.iter().filter(|(index, _)| Some(*index) != except);
    let total = left().map(|(_, weight)| weight).sum();
    let mut point = draw.below(total);
    for (index, weight) in left() {
        if point < *weight {
            return Some(*index);
        }
        point -= weight;
    }
    None
}
