//! What control tells a proxy: everything it needs besides the catalogue, complete, at one revision.

use serde::{Deserialize, Serialize};

use crate::model::identity::TrustDomain;
use crate::model::intention::{Action, Mode};
use crate::model::name::NodeName;
use crate::model::resource::{Resource, Revision};

/// The whole policy of the mesh at one revision, with the keys that gossip needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The revision it shows.
    pub revision: Revision,
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// Root certificates to trust, DER in base64.
    pub bundle: Vec<String>,
    /// Every object, sorted by key.
    pub resources: Vec<Resource>,
    /// What happens to calls that no intention speaks of.
    pub default_action: Action,
    /// Whether calls are refused at all.
    #[serde(default)]
    pub mode: Mode,
    /// Keys of the gossip ring.
    pub gossip: GossipKeys,
    /// Nodes whose certificates are refused everywhere.
    pub banned: Vec<NodeName>,
    /// The same, for nodes to tell each other; `None` when control could not sign it, or does not know how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bans: Option<BanList>,
    /// Nodes whose services are to have no new calls while others serve them.
    #[serde(default)]
    pub draining: Vec<NodeName>,
    /// Where the control planes' API answers: `host:port`, the one that sent this first.
    pub controls: Vec<String>,
}

/// The symmetric keys of gossip, newest first; the first seals, all open.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GossipKeys {
    /// `(id, 32 bytes in base64)`, at most 3.
    pub ring: Vec<(u8, String)>,
    /// Where to find members: gossip addresses of the control planes.
    pub seeds: Vec<std::net::SocketAddr>,
}

impl std::fmt::Debug for GossipKeys {
    /// Shows the ids only: keys are never logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.ring.iter().map(|(id, _)| id).collect();
        f.debug_struct("GossipKeys").field("ids", &ids).field("seeds", &self.seeds).finish()
    }
}

/// Most nodes that can be banned at once: every proxy holds and passes on all of them.
pub const BANNED_MAX: usize = 4096;

/// The banned nodes as of one revision, under the signature of the authority: nodes tell it each other, so that a ban holds
/// where control cannot say so itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BanList {
    /// A revision of the policy that it shows: a list of a later one counts in its place.
    pub revision: Revision,
    /// Nodes whose certificates are refused everywhere; at most [`BANNED_MAX`].
    pub nodes: Vec<NodeName>,
    /// ECDSA P-256 (fixed form, 64 bytes, base64) by the intermediate whose certificate follows, over
    /// `"mesh bans v1\0" mesh "\0" revision(8, big-endian) (node "\0")*`.
    pub signature: String,
    /// The intermediate's certificate: DER in base64; it must lead to the bundle.
    pub issuer: String,
}

/// Control's signature under "this node signs its gossip records with this key".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GossipPass {
    /// The node.
    pub node: NodeName,
    /// Its Ed25519 public key, 32 bytes in base64.
    pub key: String,
    /// End of validity, Unix milliseconds.
    pub not_after_ms: u64,
    /// ECDSA P-256 (fixed form, 64 bytes, base64) by the intermediate whose certificate follows, over
    /// `"mesh gossip pass v1\0" node "\0" key(32) not_after_ms(8, big-endian)`.
    pub signature: String,
    /// The intermediate's certificate: DER in base64; it must lead to the bundle.
    pub issuer: String,
}
