//! What this node sees of the others: what membership believes, joined with what their records say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::logic::gossip::catalog::{Entry, Records};
use crate::logic::gossip::membership::{Belief, Membership, State};
use crate::logic::gossip::wire::Identity;
use crate::model::endpoint::{Member, MemberState};
use crate::model::name::NodeName;

/// For how long a dead node is shown.
pub const DEAD_FOR: Duration = Duration::from_hours(1);
/// For how long a node that left is shown.
pub const LEFT_FOR: Duration = Duration::from_mins(10);

/// One node as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its latest process.
    pub identity: Identity,
    /// Whether it is there.
    pub state: MemberState,
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
    /// Round trip to it, microseconds.
    pub rtt_us: Option<u32>,
}

impl Seen {
    /// Returns whether it takes part.
    pub fn is_here(&self) -> bool {
        matches!(self.state, MemberState::Alive | MemberState::Suspect)
    }
}

/// What a look at membership brought up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Processes that appeared or came back.
    pub arrived: Vec<Identity>,
    /// Processes that said good-bye and that membership still takes for members.
    pub departed: Vec<Identity>,
}

/// All other nodes, until they are forgotten.
#[derive(Debug, Default)]
pub struct Roster {
    seen: BTreeMap<NodeName, Seen>,
    changed: bool,
}

impl Roster {
    /// Returns what is seen of `node`.
    pub fn find(&self, node: &NodeName) -> Option<&Seen> {
        self.seen.get(node)
    }

    /// Returns what is seen of all others.
    pub fn all(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values()
    }

    /// Returns whether something changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Looks at what membership believes and what the records say.
    pub fn look(&mut self, membership: &Membership, records: &Records, now_ms: u64) -> Look {
        let beliefs: Vec<Belief> = membership.beliefs().collect();
        let names: BTreeSet<&NodeName> = beliefs.iter().map(|belief| &belief.identity.node).collect();
        let before = self.seen.len();
        self.seen.retain(|node, _| names.contains(node));
        self.changed |= self.seen.len() != before;
        let mut look = Look::default();
        for belief in &beliefs {
            let identity = &belief.identity;
            let record = records.find(&identity.node);
            let left = record.is_some_and(|e| e.statement.left && e.statement.record.epoch >= identity.epoch);
            let state = match belief.state {
                _ if left => MemberState::Left,
                State::Alive => MemberState::Alive,
                State::Suspect => MemberState::Suspect,
                State::Down => MemberState::Dead,
            };
            if left && belief.state != State::Down {
                look.departed.push(identity.clone());
            }
            let was_here = self.find(&identity.node);
            let was_here =
                was_here.is_some_and(|seen| seen.is_here() && seen.identity.epoch == identity.epoch);
            self.note(identity, state, now_ms);
            if !was_here && self.find(&identity.node).is_some_and(Seen::is_here) {
                look.arrived.push(identity.clone());
            }
            self.time(&identity.node, membership.round_trip_us(&identity.node), false);
        }
        look
    }

    /// Notes the state of a process.
    pub fn note(&mut self, identity: &Identity, state: MemberState, since_ms: u64) {
        let Some(seen) = self.seen.get_mut(&identity.node) else {
            let seen = Seen { identity: identity.clone(), state, since_ms, rtt_us: None };
            self.seen.insert(identity.node.clone(), seen);
            self.changed = true;
            return;
        };
        if seen.state != state {
            // Who says good-bye after it was missed has been gone since then.
            if !(seen.state == MemberState::Dead && state == MemberState::Left) {
                seen.since_ms = since_ms;
            }
            seen.state = state;
            self.changed = true;
        }
        if seen.identity != *identity {
            self.changed |= seen.identity.addr != identity.addr || seen.identity.epoch != identity.epoch;
            seen.identity = identity.clone();
        }
    }

    /// Takes over round trips that changed by more than a quarter: smaller changes are not worth a new catalogue.
    pub fn time_all(&mut self, membership: &Membership) {
        let nodes: Vec<NodeName> = self.seen.keys().cloned().collect();
        for node in nodes {
            self.time(&node, membership.round_trip_us(&node), true);
        }
    }

    fn time(&mut self, node: &NodeName, measured: Option<u32>, again: bool) {
        let (Some(seen), Some(new)) = (self.seen.get_mut(node), measured) else { return };
        let take = seen.rtt_us.is_none_or(|old| again && new.abs_diff(old) > old / 4);
        if take {
            seen.rtt_us = Some(new);
            self.changed = true;
        }
    }

    /// Returns who has been gone for so long that it is to be forgotten.
    pub fn expired(&self, now_ms: u64) -> Vec<Identity> {
        let expired = |seen: &&Seen| {
            let age = Duration::from_millis(now_ms.saturating_sub(seen.since_ms));
            match seen.state {
                MemberState::Dead => age >= DEAD_FOR,
                MemberState::Left => age >= LEFT_FOR,
                MemberState::Alive | MemberState::Suspect => false,
            }
        };
        self.seen.values().filter(expired).map(|seen| seen.identity.clone()).collect()
    }

    /// Forgets `node`.
    pub fn remove(&mut self, node: &NodeName) {
        self.changed |= self.seen.remove(node).is_some();
    }

    /// Returns where the dead were last heard.
    pub fn dead(&self) -> BTreeSet<SocketAddr> {
        let dead = self.seen.values().filter(|seen| seen.state == MemberState::Dead);
        dead.map(|seen| seen.identity.addr).collect()
    }

    /// Returns all, as the catalogue shows them. A record of an earlier process is not shown: it may be wrong by now.
    pub fn members(&self, records: &Records) -> BTreeMap<NodeName, Member> {
        let shown = |(node, seen): (&NodeName, &Seen)| {
            let entry = records.find(node);
            let is_current = entry.is_some_and(|entry| entry.statement.record.epoch >= seen.identity.epoch);
            let stands = (seen.state, seen.identity.addr, seen.since_ms);
            (node.clone(), member(entry, is_current, stands, seen.rtt_us))
        };
        self.seen.iter().map(shown).collect()
    }
}

/// Returns a member as the catalogue shows it, by what it last said, which is shown if it `is_current`.
pub fn member(
    entry: Option<&Arc<Entry>>,
    is_current: bool,
    (state, gossip, since_ms): (MemberState, SocketAddr, u64),
    rtt_us: Option<u32>,
) -> Member {
    Member {
        record: entry.filter(|_| is_current).map(|entry| entry.statement.record.clone()),
        state,
        gossip,
        since_ms,
        rtt_us,
        vouched_ms: entry.map(|entry| entry.signed.not_after_ms),
    }
}
