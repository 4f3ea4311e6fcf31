//! What the state is made of: the mesh itself, its tokens, nodes, certificates and gossip keys.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::endpoint::Role;
use crate::model::identity::{Subject, TrustDomain};
use crate::model::intention::{Action, Mode};
use crate::model::name::{NodeName, ServiceName};

/// The mesh itself, once it is founded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Its name in identities; never changes.
    pub trust_domain: TrustDomain,
    /// What happens to calls that no intention speaks of.
    pub default_action: Action,
    /// Whether calls are refused at all.
    #[serde(default)]
    pub mode: Mode,
    /// When it was founded, Unix milliseconds.
    pub founded_ms: u64,
}

/// A join token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its public part.
    pub id: String,
    /// SHA-256 of its secret part, hexadecimal.
    pub secret_hash: String,
    /// What its bearers may become.
    pub role: Role,
    /// Which services they may run; empty means any.
    pub services: Vec<ServiceName>,
    /// Joins left.
    pub uses_left: u32,
    /// When it stops working, Unix milliseconds.
    pub expires_ms: u64,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}

/// A node that was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it does.
    pub role: Role,
    /// SHA-256 of the public keys (`SubjectPublicKeyInfo`) that speak for it, hexadecimal, the newest first, at most 2:
    /// the one before stays good until the newest has been seen in use, as the answer that carried it may be lost.
    pub keys: Vec<String>,
    /// The services it may run; empty means any.
    pub services: Vec<ServiceName>,
    /// The token it last came with; `None` for the founder.
    pub token: Option<String>,
    /// When it was let in, Unix milliseconds.
    pub joined_ms: u64,
}

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuance {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub subject: Subject,
    /// The node that holds it.
    pub node: NodeName,
    /// End of its validity, Unix milliseconds.
    pub not_after_ms: u64,
}

/// What a restored state knows of the time that it has forgotten. Nodes made themselves new keys in that time, and hold
/// certificates for them that are good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lapse {
    /// When the snapshot was taken, Unix milliseconds.
    pub from_ms: u64,
    /// When it was restored, Unix milliseconds.
    pub to_ms: u64,
    /// The nodes that have not shown since what their key is.
    pub unseen: BTreeSet<NodeName>,
}

/// One key of the gossip ring.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKey {
    /// Names it in packets.
    pub id: u8,
    /// 32 bytes in base64.
    pub key: String,
    /// When it last changed its place in the ring, Unix milliseconds.
    pub since_ms: u64,
}

impl fmt::Debug for GossipKey {
    /// Leaves the key out: keys are never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipKey")
            .field("id", &self.id)
            .field("since_ms", &self.since_ms)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Returns whether it may run `service`.
    pub fn may_run(&self, service: &ServiceName) -> bool {
        self.services.is_empty() || self.services.contains(service)
    }
}
