//! Consistent hashing on a ring (Karger et al. 1997; points as in libketama), with bounded load (Mirrokni, Thorup and
//! Zadimoghaddam 2016) as an option.
//!
//! A ring rather than maglev, because it is walked: whoever takes over from an endpoint that is ejected, full or already
//! tried is then again the same one for the same key. Maglev's table has no next, is 65,537 entries however few the
//! endpoints, and moves some keys between endpoints that stay; its O(1) look-up saves about ten comparisons.

use crate::logic::balance::hash::mix;
use crate::logic::balance::pick::{Draw, Pool, is_eager, pick_random};

/// Points of the heaviest endpoint; the others have theirs in proportion. With libketama's 160, shares of equal endpoints
/// differ by about 8 % (1/√160), for 2.5 KiB each.
pub const POINTS: u64 = 160;
/// Points looked at for one pick at most. An endpoint that nothing speaks against is met long before, if there is one.
const WALK_MAX: usize = 4_096;

/// Endpoints on a ring of hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ring {
    /// Sorted.
    points: Box<[(u64, u32)]>,
    total: u64,
}

/// How much load an endpoint may have before its keys go on to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Percent of its fair share of what is under way, 101 or more.
    pub percent: u32,
    /// Calls under way to all endpoints of the ring.
    pub pending: u64,
}

impl Ring {
    /// Places endpoints by their hash ([`crate::logic::balance::hash::endpoint`]) and weight; those of weight 0 have no
    /// point. An endpoint's points depend on its own hash and on its weight relative to the heaviest, so that when another
    /// comes or goes, keys move only to or from that one.
    pub fn new(endpoints: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let heaviest = endpoints.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(0);
        let mut points = Vec::new();
        let mut total = 0;
        for (index, (hash, weight)) in (0u32..).zip(&endpoints).filter(|(_, (_, weight))| *weight > 0) {
            total += u64::from(*weight);
            let count = (u64::from(*weight) * POINTS).div_ceil(heaviest);
            points.extend((0..count).map(|point| (mix(hash.wrapping_add(mix(point))), index)));
        }
        points.sort_unstable();
        Self { points: points.into(), total }
    }

    /// Picks the first endpoint from the place of `key` on that nothing speaks against and that `bound` lets. When there is
    /// none, any of the best class: with the same `key`, the same one.
    ///
    /// Returns `None` when no endpoint has weight.
    pub fn pick<P: Pool + ?Sized>(
        &self,
        pool: &P,
        key: u64,
        bound: Option<Bound>,
        tried: &[usize],
    ) -> Option<usize> {
        let from = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(from);
        let mut last = None;
        let mut full = None;
        for (_, index) in after.iter().chain(before).take(WALK_MAX) {
            let index = *index as usize;
            if last.replace(index) == Some(index) || index >= pool.len() || !is_eager(pool, index, tried) {
                continue;
            }
            if bound.is_none_or(|bound| self.has_room(pool, index, bound)) {
                return Some(index);
            }
            full = full.or(Some(index));
        }
        full.or_else(|| pick_random(pool, Draw(key), tried))
    }

    fn has_room<P: Pool + ?Sized>(&self, pool: &P, index: usize, bound: Bound) -> bool {
        let candidate = pool.candidate(index);
        let share = u128::from(bound.pending + 1) * u128::from(candidate.weight) * u128::from(bound.percent);
        let capacity = share.div_ceil(u128::from(self.total.max(1)) * 100);
        u128::from(candidate.pending) < capacity
    }
}
