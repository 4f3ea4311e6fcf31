//! A coarse memory of the traffic of the last [`HOURS_MAX`] hours, for those who ask what a change would do to it: by edge
//! and hour how many calls, and which kinds of requests were seen.
//!
//! Bounded by [`EDGES_MAX`] edges of [`KINDS_MAX`] kinds each: 15 MB where all of them are there; a mesh of 60 services with
//! 150 edges takes about 300 kB.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::logic::metric::report::{EdgeCounts, EdgeKey};

/// Hours that are remembered, the present one included.
pub const HOURS_MAX: usize = 24;
/// Edges that are remembered; calls on further ones are not.
pub const EDGES_MAX: usize = 5_000;
/// Kinds of requests that are remembered of one edge: those seen last.
pub const KINDS_MAX: usize = 32;
/// Length of an hour, milliseconds.
const HOUR_MS: u64 = 3_600_000;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Hours {
    edges: BTreeMap<EdgeKey, Edge>,
    /// When the first call was heard of, Unix milliseconds; 0 before.
    began_ms: u64,
    /// The newest hour, counted from the epoch.
    newest: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Edge {
    /// Calls by hour, at the index of the hour modulo [`HOURS_MAX`].
    calls: [u64; HOURS_MAX],
    kinds: BTreeMap<String, Kind>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kind {
    /// How often it was seen among the samples.
    seen: u64,
    /// In which hour last.
    last: u64,
}

/// The calls of one edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic<'t> {
    /// Which edge; its node is not told.
    pub key: &'t EdgeKey,
    /// How many there were.
    pub calls: u64,
    /// The kinds of requests that were seen among them, by how often: samples, not all of them.
    pub kinds: Vec<(&'t str, u64)>,
}

/// As it is on disk: a key of a map in JSON is a text, and these are none.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    began_ms: u64,
    newest: u64,
    edges: Vec<(EdgeKey, Edge)>,
}

impl Hours {
    /// Adds what was counted on an edge.
    pub fn add(&mut self, key: &EdgeKey, counts: &EdgeCounts, now_ms: u64) {
        self.pass(now_ms / HOUR_MS);
        if counts.requests == 0 {
            return;
        }
        if self.began_ms == 0 {
            self.began_ms = now_ms;
        }
        let key = EdgeKey { node: None, ..key.clone() };
        if !self.edges.contains_key(&key) && self.edges.len() >= EDGES_MAX {
            return;
        }
        let newest = self.newest;
        let edge = self.edges.entry(key).or_default();
        if let Some(calls) = edge.calls.get_mut(slot(newest)) {
            *calls = calls.saturating_add(counts.requests);
        }
        for (kind, seen) in &counts.asked {
            edge.see(kind, *seen, newest);
        }
    }

    /// Goes on to an hour: what is older than [`HOURS_MAX`] is forgotten.
    fn pass(&mut self, hour: u64) {
        if hour <= self.newest {
            return;
        }
        let passed = (hour - self.newest).min(HOURS_MAX as u64);
        self.newest = hour;
        self.edges.retain(|_, edge| {
            for back in 0..passed {
                if let Some(calls) = edge.calls.get_mut(slot(hour - back)) {
                    *calls = 0;
                }
            }
            edge.kinds.retain(|_, kind| kind.last + HOURS_MAX as u64 > hour);
            edge.calls.iter().any(|calls| *calls > 0)
        });
        let oldest_ms = (hour + 1).saturating_sub(HOURS_MAX as u64) * HOUR_MS;
        if self.began_ms > 0 {
            self.began_ms = self.began_ms.max(oldest_ms);
        }
    }

    /// Returns the calls of all edges, by edge.
    pub fn traffic(&self) -> impl Iterator<Item = Traffic<'_>> {
        self.edges.iter().map(|(key, edge)| Traffic {
            key,
            calls: edge.calls.iter().fold(0, |sum, calls| sum.saturating_add(*calls)),
            kinds: edge.kinds.iter().map(|(kind, seen)| (kind.as_str(), seen.seen)).collect(),
        })
    }

    /// Returns since when calls are remembered, Unix milliseconds; `None` before the first.
    pub fn since_ms(&self) -> Option<u64> {
        (self.began_ms > 0).then_some(self.began_ms)
    }
}

impl From<Hours> for Saved {
    fn from(hours: Hours) -> Self {
        let edges = hours.edges.into_iter().collect();
        Self { began_ms: hours.began_ms, newest: hours.newest, edges }
    }
}

impl From<Saved> for Hours {
    fn from(saved: Saved) -> Self {
        let edges = saved.edges.into_iter().take(EDGES_MAX).collect();
        Self { edges, began_ms: saved.began_ms, newest: saved.newest }
    }
}

impl Edge {
    fn see(&mut self, kind: &str, seen: u64, hour: u64) {
        if let Some(known) = self.kinds.get_mut(kind) {
            *known = Kind { seen: known.seen.saturating_add(seen), last: hour };
            return;
        }
        if self.kinds.len() >= KINDS_MAX {
            let oldest = self.kinds.iter().min_by_key(|(_, kind)| (kind.last, kind.seen));
            if let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) {
                self.kinds.remove(&oldest);
            }
        }
        self.kinds.insert(kind.to_owned(), Kind { seen, last: hour });
    }
}

fn slot(hour: u64) -> usize {
    (hour % HOURS_MAX as u64) as usize
}
