//! Finding the first match that takes a request without asking all of them.
//!
//! Exact paths are looked up by hash, prefixes by hash once for each `/` of the path; only matches of other kinds are asked
//! one after the other. Every match has a rank, its place in the order of precedence, and the lowest of those that apply is
//! the one: so the answer is that of asking all in order, whatever the order is.

use std::collections::HashMap;
use std::fmt;

use crate::logic::request::Head;
use crate::logic::route::matcher::{Matcher, PathMatcher};

/// No rank: greater than all.
const NONE: u32 = u32::MAX;

/// Matches with the rule that each belongs to, ready to be searched.
#[derive(Clone, Default)]
pub struct Index {
    /// By rank.
    entries: Vec<(Matcher, usize)>,
    /// Ranks by whole path, lowest first.
    exact: HashMap<Box<str>, Vec<u32>>,
    /// Ranks by prefix without final slashes, lowest first.
    prefixes: HashMap<Box<str>, Vec<u32>>,
    /// Ranks of those that take every path, lowest first.
    any: Vec<u32>,
    /// Ranks of all others, lowest first.
    rest: Vec<u32>,
    /// Slashes in the prefix that has most.
    depth_max: usize,
}

impl Index {
    /// Makes an index of matches that are in the order of precedence, best first.
    pub fn new(entries: Vec<(Matcher, usize)>) -> Self {
        let mut index = Self::default();
        for (rank, (matcher, _)) in (0u32..).zip(&entries) {
            match &matcher.path {
                PathMatcher::Exact(path) => index.exact.entry(path.clone()).or_default().push(rank),
                PathMatcher::Prefix(prefix) if prefix.is_empty() => index.any.push(rank),
                PathMatcher::Prefix(prefix) => {
                    index.depth_max = index.depth_max.max(prefix.matches('/').count());
                    index.prefixes.entry(prefix.clone()).or_default().push(rank);
                }
                PathMatcher::Regex(_) | PathMatcher::Call(..) => index.rest.push(rank),
            }
        }
        index.entries = entries;
        index
    }

    /// Returns the rule of the first match that applies.
    pub fn find(&self, head: &Head<'_>) -> Option<usize> {
        let mut best = NONE;
        if !self.exact.is_empty()
            && let Some(ranks) = self.exact.get(head.path)
        {
            self.improve(&mut best, ranks, head);
        }
        if self.depth_max > 0 {
            self.improve_by_prefixes(&mut best, head);
        }
        self.improve(&mut best, &self.any, head);
        for rank in self.rest.iter().take_while(|rank| **rank < best) {
            if self.entry(*rank).is_some_and(|(matcher, _)| matcher.matches(head)) {
                best = *rank;
                break;
            }
        }
        self.entry(best).map(|(_, rule)| *rule)
    }

    /// Asks the matches of each prefix of the path that ends where an element does.
    fn improve_by_prefixes(&self, best: &mut u32, head: &Head<'_>) {
        let path = head.path;
        let ends = path.match_indices('/').map(|(at, _)| at).skip_while(|at| *at == 0);
        for end in ends.chain([path.len()]).take(self.depth_max) {
            if let Some(ranks) = path.get(..end).and_then(|prefix| self.prefixes.get(prefix)) {
                self.improve(best, ranks, head);
            }
        }
    }

    /// Lowers `best` to the first of `ranks` that applies; what the path must be is known to hold.
    fn improve(&self, best: &mut u32, ranks: &[u32], head: &Head<'_>) {
        for rank in ranks.iter().take_while(|rank| **rank < *best) {
            if self.entry(*rank).is_some_and(|(matcher, _)| matcher.holds(head)) {
                *best = *rank;
                return;
            }
        }
    }

    fn entry(&self, rank: u32) -> Option<&(Matcher, usize)> {
        self.entries.get(rank as usize)
    }
}

impl fmt::Debug for Index {
    /// Shows the matches by rank, and not the maps, whose order differs between runs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.entries).finish()
    }
}
