//! Which zone a call goes to: the caller's own while it is healthy enough, else the nearest.
//!
//! Zones become levels: the own one first, then the others by measured round-trip time, those about as far as each other
//! together. Levels share calls as Envoy's priorities do: each takes `overprovisioning × healthy share of its capacity`, up
//! to all of what the levels before it left. Round-trip times come from gossip rather than from a list of regions, so
//! nothing is to be configured but the zone of each node.
//!
//! The own zone is given no more than its part of the service would carry if callers were spread like nodes are (Envoy's
//! zone-aware routing, with the mesh's nodes for its local cluster): one endpoint in a big zone is not drowned.

use std::collections::BTreeMap;

use crate::logic::balance::pick::{Draw, Pool};
use crate::model::endpoint::{Catalog, Endpoint, MemberState, Role, Standing};
use crate::model::name::{NodeName, ZoneName};

/// Envoy's factor: a zone with 72 % of its capacity still takes all its calls.
pub const OVERPROVISIONING_PERCENT: u32 = 140;
/// Zones that are at most this much farther than the nearest of a level belong to it: what hosts of one region differ by.
const SAME_LEVEL_US: u32 = 2_000;
/// The whole of a [`Spread`].
const ALL: u64 = 1 << 32;

/// Where a node is, and how far zones are from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vicinity {
    /// Its own zone; `None` when it has none, which makes all zones one.
    pub zone: Option<ZoneName>,
    /// Round-trip time to the nearest node of each other zone, microseconds; those not measured yet are not there.
    pub rtt_us: BTreeMap<ZoneName, u32>,
    /// Proxies that are there, by zone.
    pub nodes: BTreeMap<Option<ZoneName>, u64>,
}

impl Vicinity {
    /// Reads what gossip knows.
    pub fn new(catalog: &Catalog, me: &NodeName) -> Self {
        let mut vicinity = Self::default();
        for (name, member) in &catalog.members {
            let Some(record) = &member.record else { continue };
            if name == me {
                vicinity.zone.clone_from(&record.zone);
            } else if !matches!(member.state, MemberState::Alive | MemberState::Suspect) {
                continue;
            } else if let (Some(zone), Some(rtt)) = (&record.zone, member.rtt_us) {
                let known = vicinity.rtt_us.entry(zone.clone()).or_insert(rtt);
                *known = rtt.min(*known);
            }
            if record.role == Role::Proxy {
                *vicinity.nodes.entry(record.zone.clone()).or_default() += 1;
            }
        }
        vicinity
    }

    /// Returns the endpoints of each level by index, nearest level first; none is empty. Without a zone of its own, or
    /// without endpoints in any other, there is one level.
    pub fn levels(&self, endpoints: &[Endpoint]) -> Vec<Vec<u32>> {
        let Some(own) = &self.zone else {
            return vec![(0u32..).zip(endpoints).map(|(index, _)| index).collect()];
        };
        let mut zones: BTreeMap<(u32, Option<&ZoneName>), Vec<u32>> = BTreeMap::new();
        for (index, endpoint) in (0u32..).zip(endpoints) {
            let far = match &endpoint.zone {
                Some(zone) if zone == own => 0,
                Some(zone) => self.rtt_us.get(zone).copied().unwrap_or(u32::MAX).max(1),
                None => u32::MAX,
            };
            zones.entry((far, endpoint.zone.as_ref())).or_default().push(index);
        }
        let mut levels: Vec<(u32, Vec<u32>)> = Vec::new();
        for ((far, _), members) in zones {
            match levels.last_mut() {
                Some((nearest, known)) if *nearest > 0 && far - *nearest <= SAME_LEVEL_US => {
                    known.extend(members);
                }
                Some(_) | None => levels.push((far, members)),
            }
        }
        levels.into_iter().map(|(_, members)| members).collect()
    }

    /// Returns the part of this node's calls that the own zone may take, percent: its part of the capacity divided by its
    /// part of the nodes, 100 at most; 100 too when it has none, and the first level is another zone.
    pub fn own_percent(&self, endpoints: &[Endpoint]) -> u32 {
        let here = |zone: &Option<ZoneName>| zone.is_some() && *zone == self.zone;
        let weight = |endpoint: &Endpoint| u64::from(endpoint.weight);
        let own: u64 = endpoints.iter().filter(|endpoint| here(&endpoint.zone)).map(weight).sum();
        let all: u64 = endpoints.iter().map(weight).sum();
        let own_nodes: u64 = self.nodes.iter().filter(|(zone, _)| here(zone)).map(|(_, count)| count).sum();
        let all_nodes: u64 = self.nodes.values().sum();
        if own == 0 {
            return 100;
        }
        let part = u128::from(own) * u128::from(all_nodes) * 100;
        part.checked_div(u128::from(all) * u128::from(own_nodes))
            .map_or(100, |percent| percent.min(100) as u32)
    }
}

/// What is known of a level at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// The weights of all its endpoints.
    pub capacity: u64,
    /// The weights of those that nothing speaks against.
    pub healthy: u64,
}

impl Health {
    /// Looks through the endpoints of a level. O(n).
    pub fn of<P: Pool + ?Sized>(level: &P) -> Self {
        let mut health = Self::default();
        for candidate in (0..level.len()).map(|index| level.candidate(index)) {
            health.capacity += u64::from(candidate.weight);
            if !candidate.avoided && candidate.standing == Standing::Ready {
                health.healthy += u64::from(candidate.weight);
            }
        }
        health
    }
}

/// How calls are shared among levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// For each level, which part of all calls goes to it or one before it, of 2³².
    up_to: Vec<u64>,
}

impl Spread {
    /// Shares calls among `levels`, nearest first, of which the first takes `first_percent` of them at most.
    pub fn new(levels: &[Health], first_percent: u32, overprovisioning_percent: u32) -> Self {
        let fit = |health: &Health| {
            let fit = u128::from(ALL) * u128::from(health.healthy) * u128::from(overprovisioning_percent);
            let fit = fit.checked_div(u128::from(health.capacity) * 100).unwrap_or(0);
            fit.min(u128::from(ALL)) as u64
        };
        let mut shares: Vec<u64> = Vec::with_capacity(levels.len());
        let mut left = ALL;
        for (index, level) in levels.iter().enumerate() {
            let most = if index == 0 { ALL * u64::from(first_percent.min(100)) / 100 } else { ALL };
            let share = fit(level).min(most).min(left);
            left -= share;
            shares.push(share);
        }
        // What no level is fit for is shared by what they took, or by capacity when none is fit for anything.
        let capacity = || levels.iter().map(|level| level.capacity.min(u64::from(u32::MAX))).collect();
        let parts: Vec<u64> = if left < ALL { shares } else { capacity() };
        let total: u64 = parts.iter().sum();
        let mut sum = 0u64;
        let up_to = parts.iter().map(|part| {
            sum += part;
            (u128::from(sum) * u128::from(ALL)).checked_div(u128::from(total)).unwrap_or(0) as u64
        });
        Self { up_to: up_to.collect() }
    }

    /// Draws a level; the first when there is none.
    pub fn draw(&self, draw: &mut Draw) -> usize {
        if self.up_to.len() < 2 {
            return 0;
        }
        let point = draw.below(ALL);
        self.up_to.partition_point(|up_to| *up_to <= point).min(self.up_to.len() - 1)
    }
}
