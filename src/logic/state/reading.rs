//! What there is to read in the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::state::command::{Refusal, TokenUse, Written};
use crate::logic::state::history::Version;
use crate::logic::state::machine::State;
use crate::logic::state::record::{GossipKey, Issuance, JoinToken, Mesh, Node};
use crate::model::name::NodeName;
use crate::model::resource::{Key, Resource, Revision};

impl State {
    /// Returns the number of the newest write of any sort.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the number of the newest write that proxies must hear of: what they acknowledge.
    pub fn policy_revision(&self) -> Revision {
        self.policy_revision
    }

    /// Returns the mesh; `None` until it is founded.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// Returns every object, sorted by key.
    pub fn resources(&self) -> &BTreeMap<Key, Arc<Resource>> {
        &self.resources
    }

    /// Returns the versions of an object that are kept, the oldest first. The last one is in force, unless it deleted the
    /// object. Of an object that was written before histories were kept, there is the stored one alone.
    pub fn history(&self, key: &Key) -> Vec<Version> {
        match (self.histories.of(key), self.resources.get(key)) {
            ([], Some(stored)) => vec![Version::unknown(stored)],
            (versions, _) => versions.to_vec(),
        }
    }

    /// Returns the object as it was: as revision `to` wrote it, or, without one, as it was the last time that it was
    /// another than it is now.
    ///
    /// # Errors
    /// When there is no such version.
    pub fn earlier(&self, key: &Key, to: Option<Revision>) -> Result<Arc<Resource>, Refusal> {
        let versions = self.history(key);
        let stored = self.resources.get(key);
        let found = match to {
            Some(revision) => versions.iter().find(|version| version.revision == revision),
            None => versions.iter().rev().find(|version| match stored {
                None => version.change == Written::Deleted,
                Some(stored) => !is_same(stored, &version.object),
            }),
        };
        let missing = |what: String| Refusal::NoVersion { key: key.clone(), what };
        match (found, to) {
            (None, _) if versions.is_empty() => Err(Refusal::NoObject(key.clone())),
            (None, Some(revision)) => Err(missing(format!("has no version of revision {revision}"))),
            (None, None) => Err(missing("was never another".to_owned())),
            (Some(version), Some(revision)) if version.change == Written::Deleted => {
                Err(missing(format!("was deleted by revision {revision}")))
            }
            (Some(version), _) => Ok(Arc::clone(&version.object)),
        }
    }

    /// Returns every token that is not forgotten, by id: used-up and recently expired ones included.
    pub fn tokens(&self) -> &BTreeMap<String, JoinToken> {
        &self.tokens
    }

    /// Returns the token that is shown; `None` when there is none of that id and secret. It may be expired or used up.
    ///
    /// Takes a time that tells nothing about how much of the secret was right.
    pub fn token(&self, shown: &TokenUse) -> Option<&JoinToken> {
        let same = |token: &&JoinToken| equal(token.secret_hash.as_bytes(), shown.secret_hash.as_bytes());
        self.tokens.get(&shown.id).filter(same)
    }

    /// Returns every node that was let in and not forgotten.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// Returns the banned nodes and since when, Unix milliseconds.
    pub fn banned(&self) -> &BTreeMap<NodeName, u64> {
        &self.banned
    }

    /// Returns the nodes that drain and since when, Unix milliseconds.
    pub fn draining(&self) -> &BTreeMap<NodeName, u64> {
        &self.draining
    }

    /// Returns the certificates that are valid, or were a day ago, by serial number.
    pub fn issued(&self) -> &BTreeMap<String, Issuance> {
        &self.issued
    }

    /// Returns the gossip keys; the first seals, all open.
    pub fn gossip(&self) -> &[GossipKey] {
        self.gossip.keys()
    }

    /// Returns whether a certificate of `node`, issued at `issued_ms` (Unix milliseconds), may be one that this state has
    /// forgotten: it was issued between the snapshot that the state was restored from and the restoration, and the node has
    /// not shown another key since. Its key then speaks for the node, though it is not on record.
    pub fn may_have_forgotten(&self, node: &NodeName, issued_ms: u64) -> bool {
        self.lapse.as_ref().is_some_and(|lapse| {
            lapse.unseen.contains(node) && (lapse.from_ms..=lapse.to_ms).contains(&issued_ms)
        })
    }
}

/// Whether two versions of an object say the same, whatever the control plane has noted about them.
fn is_same(one: &Resource, other: &Resource) -> bool {
    let bare = |object: &Resource| {
        let mut object = object.clone();
        object.metadata_mut().forget_history();
        object
    };
    bare(one) == bare(other)
}

/// Compares in a time that tells nothing about where two texts of one length differ.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}
