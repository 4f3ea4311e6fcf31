//! The keys of gossip: the first seals, all open. A new one is given to everyone before it seals, and an old one opens for a
//! while after it did.

use serde::{Deserialize, Serialize};

use crate::logic::state::command::{Event, Refusal};
use crate::logic::state::record::GossipKey;

/// Most keys: the one that seals, the one before, the one to come.
const KEYS_MAX: usize = 3;

/// The keys in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ring(Vec<GossipKey>);

impl Ring {
    /// Returns the keys; the first seals.
    pub(crate) fn keys(&self) -> &[GossipKey] {
        &self.0
    }

    /// Adds a key that only opens, unless it is the first.
    pub(crate) fn install(&mut self, id: u8, key: String, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        if self.place(id).is_some() {
            return Err(Refusal::GossipKeyExists(id));
        }
        if self.0.len() >= KEYS_MAX {
            return Err(Refusal::TooMany { what: "gossip keys", max: KEYS_MAX });
        }
        self.0.push(GossipKey { id, key, since_ms: at_ms });
        Ok(vec![Event::GossipKeyInstalled { id }])
    }

    /// Lets a key seal.
    pub(crate) fn promote(&mut self, id: u8, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        match self.place(id) {
            None => Err(Refusal::GossipKey(id)),
            Some(0) => Ok(Vec::new()),
            Some(place) => {
                let mut key = self.0.remove(place);
                key.since_ms = at_ms;
                self.0.insert(0, key);
                Ok(vec![Event::GossipKeyPromoted { id }])
            }
        }
    }

    /// Removes a key that does not seal.
    pub(crate) fn retire(&mut self, id: u8) -> Result<Vec<Event>, Refusal> {
        match self.place(id) {
            None | Some(0) => Err(Refusal::GossipKey(id)),
            Some(place) => {
                self.0.remove(place);
                Ok(vec![Event::GossipKeyRetired { id }])
            }
        }
    }

    fn place(&self, id: u8) -> Option<usize> {
        self.0.iter().position(|key| key.id == id)
    }
}
