//! What each node says of itself. Every record has one writer, its own node; `(epoch, version)` orders what it wrote, so the
//! newest wins, wherever and in whatever order the records arrive: merging is commutative, associative and idempotent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::logic::gossip::wire::{Error, Signed, Statement};
use crate::model::name::NodeName;

/// Most nodes in a catalogue: four times the largest mesh that we aim at.
pub const NODES_MAX: usize = 20_000;
/// For how long a forgotten record is not taken back from nodes that forget it later.
pub const FORGOTTEN_FOR: Duration = Duration::from_hours(2);

/// Which of a node's writings: `(epoch, version)`, greater is newer.
pub type Writing = (u64, u64);

/// Whether a record is what it claims to be: the verdict of whoever can check signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The node that it speaks for signed it, and control vouches for the key.
    Genuine,
    /// It is not.
    Forged,
    /// Cannot be said: the certificate behind the pass is not here. An exchange brings it.
    UnknownIssuer,
}

/// Checks a record against the node it speaks for.
pub type Judge<'a> = &'a mut dyn FnMut(&Signed, &NodeName) -> Verdict;

/// A record with what it says, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it travels.
    pub signed: Signed,
    /// What it says.
    pub statement: Statement,
}

impl Entry {
    /// Reads a record that this node made itself or that a judge found genuine.
    ///
    /// # Errors
    /// When it does not decode or exceeds a limit.
    pub fn read(signed: Signed) -> Result<Self, Error> {
        let statement = signed.statement()?;
        Ok(Self { signed, statement })
    }

    /// Returns the speaker.
    pub fn node(&self) -> &NodeName {
        &self.statement.record.node
    }

    /// Returns which of the speaker's writings it is.
    pub fn writing(&self) -> Writing {
        (self.statement.record.epoch, self.statement.record.version)
    }

    /// Returns whether it replaces `other` of the same node. Two different records of one writing, which only a faulty
    /// node makes, are ordered by their bytes, so that all nodes keep the same one.
    fn replaces(&self, other: &Self) -> bool {
        (self.writing(), &self.signed) > (other.writing(), &other.signed)
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It is newer than what was known.
    New,
    /// It was known, or something newer is.
    Known,
    /// It is of a node that was forgotten and did not come back.
    Forgotten,
    /// The catalogue is full of other nodes.
    Full,
}

/// The newest record of each node.
#[derive(Debug, Default)]
pub struct Records {
    entries: BTreeMap<NodeName, Arc<Entry>>,
    forgotten: BTreeMap<NodeName, (Writing, Instant)>,
}

impl Records {
    /// Returns the newest record of `node`.
    pub fn find(&self, node: &NodeName) -> Option<&Arc<Entry>> {
        self.entries.get(node)
    }

    /// Returns all records, sorted by node.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Returns whether a record of this writing would be new: asked before the cost of checking a signature is paid.
    pub fn wants(&self, node: &NodeName, writing: Writing) -> bool {
        let newer = self.entries.get(node).is_none_or(|known| known.writing() < writing);
        let over = self.forgotten.get(node).is_none_or(|(forgotten, _)| *forgotten < writing);
        newer && over
    }

    /// Takes a genuine record, if it is newer than what is known.
    pub fn merge(&mut self, entry: Entry) -> Merged {
        let node = entry.node().clone();
        if self.forgotten.get(&node).is_some_and(|(forgotten, _)| entry.writing() <= *forgotten) {
            return Merged::Forgotten;
        }
        match self.entries.get(&node) {
            Some(known) if !entry.replaces(known) => return Merged::Known,
            None if self.entries.len() >= NODES_MAX => return Merged::Full,
            Some(_) | None => {}
        }
        self.forgotten.remove(&node);
        self.entries.insert(node, Arc::new(entry));
        Merged::New
    }

    /// Drops the record of a node that is gone for good, and refuses it from whoever still has it.
    pub fn forget(&mut self, node: &NodeName, now: Instant) {
        if let Some(entry) = self.entries.remove(node) {
            self.forgotten.insert(node.clone(), (entry.writing(), now));
        }
        if self.forgotten.len() > NODES_MAX {
            self.forgotten.pop_first();
        }
    }

    /// Takes records of `node` again: it came back.
    pub fn recall(&mut self, node: &NodeName) {
        self.forgotten.remove(node);
    }

    /// Returns whether `node` was forgotten and has not come back.
    pub fn has_forgotten(&self, node: &NodeName) -> bool {
        self.forgotten.contains_key(node)
    }

    /// Ends the refusal of records forgotten long ago.
    pub fn expire(&mut self, now: Instant) {
        self.forgotten.retain(|_, (_, since)| now.saturating_duration_since(*since) < FORGOTTEN_FOR);
    }
}
