//! Each in turn, by weight: a list of turns made once, and a ticket that says whose it is.
//!
//! Turns are spread evenly by earliest deadline first, as Envoy schedules (an endpoint's `k`-th turn is due at `k` divided
//! by its weight), but written down beforehand, so that picking changes nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::logic::balance::pick::{Draw, Pool, is_eager, pick_random};

/// Turns of a list at most; weights that need more are rounded. With it the smallest share is 1 in 4,096.
pub const TURNS_MAX: u64 = 4_096;

/// Whose turn it is, over and over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundRobin {
    turns: Box<[u32]>,
}

impl RoundRobin {
    /// Makes the list of turns of endpoints with these weights; those of weight 0 have none.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut weights: Vec<(u32, u64)> = (0u32..)
            .zip(weights)
            .filter(|(_, weight)| *weight > 0)
            .map(|(index, weight)| (index, u64::from(weight)))
            .collect();
        let divisor = weights.iter().fold(0, |known, (_, weight)| gcd(known, *weight)).max(1);
        let total: u64 = weights.iter().map(|(_, weight)| weight / divisor).sum();
        for (_, weight) in &mut weights {
            *weight /= divisor;
            if total > TURNS_MAX {
                *weight = (*weight * TURNS_MAX).div_ceil(total);
            }
        }
        Self { turns: scheduled(&weights) }
    }

    /// Picks the endpoint whose turn `ticket` is, any other of the best class when something speaks against it (the next in
    /// turn would take twice its share).
    ///
    /// Tickets count up, from a random number for each worker, or workers would all begin with the same endpoint.
    pub fn pick<P: Pool + ?Sized>(
        &self,
        pool: &P,
        ticket: u64,
        draw: Draw,
        tried: &[usize],
    ) -> Option<usize> {
        let turn = ticket.checked_rem(self.turns.len() as u64)?;
        let index = self.turns[turn as usize] as usize;
        if index < pool.len() && is_eager(pool, index, tried) {
            return Some(index);
        }
        pick_random(pool, draw, tried)
    }
}

fn scheduled(weights: &[(u32, u64)]) -> Box<[u32]> {
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let due = |turn: u64, weight: u64| {
        u128::from(turn) * u128::from(total) * u128::from(TURNS_MAX) / u128::from(weight)
    };
    let mut waiting: BinaryHeap<_> =
        weights.iter().map(|(index, weight)| Reverse((due(1, *weight), *index, 1u64, *weight))).collect();
    let mut turns = Vec::with_capacity(total as usize);
    while (turns.len() as u64) < total {
        let Some(Reverse((_, index, turn, weight))) = waiting.pop() else { break };
        turns.push(index);
        waiting.push(Reverse((due(turn + 1, weight), index, turn + 1, weight)));
    }
    turns.into()
}

fn gcd(mut one: u64, mut other: u64) -> u64 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}
