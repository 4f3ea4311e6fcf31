//! The exchange of everything two nodes know (memberlist's push/pull): after it both know the same, however many packets were
//! lost before. Without it a joining node would never learn of all others.
//!
//! ```text
//! asking                                answering
//!   Offer: beliefs, digest of records  ──▶
//!                                      ◀──  Answer: beliefs, the records we lack, the names it lacks
//!   Rest: the records it lacks         ──▶
//! ```
//! Each message also says who its sender is by then: learning that one is taken for dead changes that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::logic::gossip::catalog::{NODES_MAX, Records, Writing};
use crate::logic::gossip::membership::Belief;
use crate::logic::gossip::wire::{Error, Identity, Signed};
use crate::model::name::NodeName;

/// Most bytes of records in one message; what does not fit comes with the next exchange.
pub const RECORDS_BYTES_MAX: usize = 4 << 20;

/// A belief, and for how long it has been so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aged {
    /// What is believed.
    pub belief: Belief,
    /// For how long, seconds.
    pub age_s: u32,
}

/// First message: from the asking node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The sender.
    pub me: Identity,
    /// What it believes of all others.
    pub beliefs: Vec<Aged>,
    /// Which records it has.
    pub digest: Vec<(NodeName, Writing)>,
}

/// Second message: from the answering node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The sender.
    pub me: Identity,
    /// What it believes of all others.
    pub beliefs: Vec<Aged>,
    /// Records that the asking node lacks.
    pub records: Vec<Signed>,
    /// Nodes of whom the asking node has newer records.
    pub wanted: Vec<NodeName>,
}

/// Third message: from the asking node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The sender.
    pub me: Identity,
    /// The records asked for.
    pub records: Vec<Signed>,
}

impl Offer {
    /// Refuses what no mesh is large enough for.
    pub fn check(&self) -> Result<(), Error> {
        bounded(self.beliefs.len().max(self.digest.len()))
    }
}

impl Answer {
    /// Refuses what no mesh is large enough for.
    pub fn check(&self) -> Result<(), Error> {
        bounded(self.beliefs.len().max(self.records.len()).max(self.wanted.len()))
    }
}

impl Rest {
    /// Refuses what no mesh is large enough for.
    pub fn check(&self) -> Result<(), Error> {
        bounded(self.records.len())
    }
}

fn bounded(parts: usize) -> Result<(), Error> {
    if parts <= NODES_MAX { Ok(()) } else { Err(Error::TooLarge("nodes")) }
}

/// Returns which records there are.
pub fn digest(records: &Records) -> Vec<(NodeName, Writing)> {
    records.iter().map(|entry| (entry.node().clone(), entry.writing())).collect()
}

/// Compares: returns the records that whoever sent `digest` lacks, and the nodes of whom it has newer ones.
pub fn compare(records: &Records, digest: Vec<(NodeName, Writing)>) -> (Vec<Signed>, Vec<NodeName>) {
    let theirs: BTreeMap<NodeName, Writing> = digest.into_iter().collect();
    let lacking = records
        .iter()
        .filter(|entry| theirs.get(entry.node()).is_none_or(|writing| *writing < entry.writing()))
        .map(|entry| entry.signed.clone());
    let lacking = within_budget(lacking);
    let wanted = theirs.into_iter().filter(|(node, writing)| records.wants(node, *writing));
    (lacking, wanted.map(|(node, _)| node).collect())
}

/// Returns the records of `wanted` that there are.
pub fn select(records: &Records, wanted: &[NodeName]) -> Vec<Signed> {
    within_budget(wanted.iter().filter_map(|node| records.find(node)).map(|entry| entry.signed.clone()))
}

fn within_budget(records: impl Iterator<Item = Signed>) -> Vec<Signed> {
    let mut left = RECORDS_BYTES_MAX;
    records
        .take_while(|signed| {
            let fits = signed.size() <= left;
            left = left.saturating_sub(signed.size());
            fits
        })
        .collect()
}
