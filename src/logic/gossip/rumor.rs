//! What is still being told: each word a bounded number of times, those told least first.
//!
//! As the piggyback buffer of SWIM §4.1, with memberlist's bound on retransmissions, `multiplier · log10(n + 1)`.

use std::collections::BTreeMap;

use crate::logic::gossip::wire::Word;
use crate::model::name::NodeName;

/// Words about one node replace each other, so there are never more than nodes.
#[derive(Debug, Default)]
pub struct Rumors {
    words: BTreeMap<NodeName, Rumor>,
}

#[derive(Debug)]
struct Rumor {
    word: Word,
    size: usize,
    told: u32,
}

impl Rumors {
    /// Returns how often a word is told in a mesh of `members`.
    pub fn tellings(members: usize) -> u32 {
        let spread = ((members + 1) as f64).log10() * 4.0;
        6 + spread.ceil() as u32
    }

    /// Returns whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Begins to tell `word` about `node`; what was told of it before is told no longer.
    pub fn add(&mut self, node: NodeName, word: Word) {
        let size = word.size();
        self.words.insert(node, Rumor { word, size, told: 0 });
    }

    /// Stops telling of `node`.
    pub fn drop_node(&mut self, node: &NodeName) {
        self.words.remove(node);
    }

    /// Takes the words for one packet: those told least, as many as fit into `room` bytes. Each is dropped once it was told
    /// `tellings` times.
    pub fn take(&mut self, room: usize, tellings: u32) -> Vec<Word> {
        if self.words.is_empty() {
            return Vec::new();
        }
        let mut order: Vec<(u32, usize, NodeName)> =
            self.words.iter().map(|(node, rumor)| (rumor.told, rumor.size, node.clone())).collect();
        order.sort_unstable();
        let mut left = room;
        let mut taken = Vec::new();
        for (_, size, node) in order {
            if size > left {
                continue;
            }
            let Some(rumor) = self.words.get_mut(&node) else { continue };
            left -= size;
            rumor.told += 1;
            taken.push(rumor.word.clone());
            if rumor.told >= tellings {
                self.words.remove(&node);
            }
        }
        taken
    }
}
