//! What may be asked of the state, what it answers, and why it refuses.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::logic::state::record::{Issuance, JoinToken};
use crate::model::endpoint::Role;
use crate::model::identity::{Subject, TrustDomain};
use crate::model::intention::{Action, Mode};
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::{Key, Resource, Revision};

/// One entry of the log: a wish and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// When it was accepted, Unix milliseconds, by the clock of the control plane that accepted it.
    pub at_ms: u64,
    /// Who made it, for people: `operator/ann`, `local administrator`; empty for the control plane itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The wish.
    pub change: Change,
}

impl Command {
    /// Makes a command of the control plane itself.
    pub fn new(at_ms: u64, change: Change) -> Self {
        Self { at_ms, by: String::new(), change }
    }
}

/// One object written or removed among others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    /// As [`Change::Put`].
    Put {
        /// The object.
        resource: Box<Resource>,
        /// What must be stored now.
        expected: Expected,
    },
    /// As [`Change::Delete`].
    Delete {
        /// Which.
        key: Key,
        /// What must be stored now.
        expected: Expected,
    },
}

impl Write {
    /// Returns which object it is about.
    pub fn key(&self) -> Key {
        match self {
            Self::Put { resource, .. } => resource.key(),
            Self::Delete { key, .. } => key.clone(),
        }
    }
}

/// A wish.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Founds the mesh; only once.
    Found {
        /// Its trust domain.
        trust_domain: TrustDomain,
        /// What happens to calls that no intention speaks of.
        default_action: Action,
    },
    /// Writes an object; nothing happens when it is as it was.
    Put {
        /// The object; what the control plane sets in its metadata is ignored.
        resource: Box<Resource>,
        /// What must be stored now.
        expected: Expected,
    },
    /// Removes an object.
    Delete {
        /// Which.
        key: Key,
        /// What must be stored now.
        expected: Expected,
    },
    /// Writes and removes objects, each at most once: all of it happens, at one revision, or nothing.
    Apply(Vec<Write>),
    /// Says what happens to calls that no intention speaks of.
    SetDefaultAction(Action),
    /// Says whether calls are refused at all.
    SetMode(Mode),
    /// Makes a join token; forgets those that expired a day ago.
    CreateToken(JoinToken),
    /// Takes a join token back. Nodes that came with it stay.
    RevokeToken {
        /// Its public part.
        id: String,
    },
    /// Lets a node in, or lets it back in.
    Admit(Admission),
    /// Notes that a node has made itself a new key.
    Rekey {
        /// Which node.
        node: NodeName,
        /// SHA-256 of the new public key, hexadecimal.
        key: String,
    },
    /// Notes certificates before they leave; forgets those that expired a day ago.
    Issue(Vec<Issuance>),
    /// Refuses a node's certificates everywhere.
    Ban(NodeName),
    /// Takes a ban back.
    Unban(NodeName),
    /// Lets a node's services have no new calls while others serve them.
    Drain(NodeName),
    /// Lets them have calls again.
    Undrain(NodeName),
    /// Forgets a node, so that its name is free; it can no longer renew.
    Forget(NodeName),
    /// Gives every member one more gossip key to open with; the first of all seals as well.
    InstallGossipKey {
        /// Names it in packets.
        id: u8,
        /// 32 bytes in base64.
        key: String,
    },
    /// Seals with this key from now on.
    PromoteGossipKey {
        /// Which.
        id: u8,
    },
    /// Removes a key that no longer seals.
    RetireGossipKey {
        /// Which.
        id: u8,
    },
    /// Goes on from a state that was kept as a snapshot and has been restored: the first command after it.
    Resume {
        /// When the snapshot was taken, Unix milliseconds.
        taken_ms: u64,
        /// The newest revision that may have been made since: none up to it is made again.
        after: Revision,
    },
}

impl fmt::Debug for Change {
    /// Names the wish only: what it carries may be a secret, or long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found { .. } => "Found",
            Self::Put { .. } => "Put",
            Self::Delete { .. } => "Delete",
            Self::Apply(_) => "Apply",
            Self::SetDefaultAction(_) => "SetDefaultAction",
            Self::SetMode(_) => "SetMode",
            Self::CreateToken(_) => "CreateToken",
            Self::RevokeToken { .. } => "RevokeToken",
            Self::Admit(_) => "Admit",
            Self::Rekey { .. } => "Rekey",
            Self::Issue(_) => "Issue",
            Self::Ban(_) => "Ban",
            Self::Unban(_) => "Unban",
            Self::Drain(_) => "Drain",
            Self::Undrain(_) => "Undrain",
            Self::Forget(_) => "Forget",
            Self::InstallGossipKey { .. } => "InstallGossipKey",
            Self::PromoteGossipKey { .. } => "PromoteGossipKey",
            Self::RetireGossipKey { .. } => "RetireGossipKey",
            Self::Resume { .. } => "Resume",
        })
    }
}

/// A node at the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admission {
    /// The name it wants.
    pub node: NodeName,
    /// What it wants to be.
    pub role: Role,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`), hexadecimal.
    pub key: String,
    /// The services it wants to run.
    pub services: Vec<ServiceName>,
    /// What it came with; `None` only for the founder, who needs none.
    pub token: Option<TokenUse>,
    /// Whether whoever bore the name so far is gone, so that a node with another key may have it.
    pub replace: bool,
}

/// A token as it is shown at the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUse {
    /// Its public part.
    pub id: String,
    /// SHA-256 of its secret part, hexadecimal.
    pub secret_hash: String,
}

/// What must be stored for a write to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Expected {
    /// Anything or nothing.
    Any,
    /// No such object.
    Absent,
    /// The object as this revision wrote it.
    Revision(Revision),
}

/// How an object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named for what they say")]
pub enum Written {
    Created,
    Updated,
    Deleted,
}

/// What a command did. None at all means that everything was so already, and that no revision was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what they say; the fields say which")]
pub enum Event {
    Founded {
        trust_domain: TrustDomain,
    },
    /// The object as it is, or was before it was deleted.
    Object {
        written: Written,
        object: Arc<Resource>,
    },
    DefaultActionSet {
        action: Action,
    },
    ModeSet {
        mode: Mode,
    },
    TokenCreated {
        id: String,
    },
    TokenRevoked {
        id: String,
    },
    TokenUsed {
        id: String,
        uses_left: u32,
    },
    Joined {
        node: NodeName,
        role: Role,
    },
    /// A node with another key took the name over.
    Replaced {
        node: NodeName,
        role: Role,
    },
    /// The same node came once more, with a token.
    Rejoined {
        node: NodeName,
    },
    Rekeyed {
        node: NodeName,
    },
    Issued {
        certificates: Vec<Issuance>,
    },
    Banned {
        node: NodeName,
    },
    Unbanned {
        node: NodeName,
    },
    Draining {
        node: NodeName,
    },
    Undrained {
        node: NodeName,
    },
    Forgotten {
        node: NodeName,
    },
    GossipKeyInstalled {
        id: u8,
    },
    GossipKeyPromoted {
        id: u8,
    },
    GossipKeyRetired {
        id: u8,
    },
    /// The state was restored.
    Resumed {
        taken_ms: u64,
    },
}

impl Event {
    /// Returns whether proxies must hear of it: it changes what a snapshot says.
    pub fn concerns_proxies(&self) -> bool {
        match self {
            Self::Founded { .. }
            | Self::Object { .. }
            | Self::DefaultActionSet { .. }
            | Self::ModeSet { .. }
            | Self::Banned { .. }
            | Self::Unbanned { .. }
            | Self::Draining { .. }
            | Self::Undrained { .. }
            | Self::GossipKeyInstalled { .. }
            | Self::GossipKeyPromoted { .. }
            | Self::GossipKeyRetired { .. }
            | Self::Resumed { .. } => true,
            Self::TokenCreated { .. }
            | Self::TokenRevoked { .. }
            | Self::TokenUsed { .. }
            | Self::Joined { .. }
            | Self::Replaced { .. }
            | Self::Rejoined { .. }
            | Self::Rekeyed { .. }
            | Self::Issued { .. }
            | Self::Forgotten { .. } => false,
        }
    }
}

/// Why a command was refused. The state is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The first command must found the mesh.
    #[error("the mesh is not founded yet")]
    NotFounded,
    /// Only once.
    #[error("the mesh is founded already, as {0}")]
    Founded(TrustDomain),
    /// Somebody else wrote it in between.
    #[error("{key} is at revision {current}, not at {expected}: read it again, then write")]
    Conflict {
        /// The object.
        key: Key,
        /// What the writer had read.
        expected: Revision,
        /// What is stored.
        current: Revision,
    },
    /// It should not have been there.
    #[error("{0} exists already")]
    Exists(Key),
    /// There is nothing to delete or to replace.
    #[error("there is no {0}")]
    NoObject(Key),
    /// A version that is not kept, or nothing to go back to.
    #[error("{key} {what}: 'mesh history' shows the versions that are kept")]
    NoVersion {
        /// The object.
        key: Key,
        /// What is missing, as the rest of a sentence.
        what: String,
    },
    /// A bound of the state.
    #[error("there are {max} {what} already, which is the most")]
    TooMany {
        /// Of what, in the plural.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// No such token, or not its secret: the two are not told apart.
    #[error(
        "the token is not valid here: it was revoked, it has expired, or it belongs to another mesh; make a new one with 'mesh token create', for an operator with '--role operator'"
    )]
    UnknownToken,
    /// Its time has passed.
    #[error("the token {id} has expired; make a new one with '{}'", create(*.role))]
    TokenExpired {
        /// The token.
        id: String,
        /// What it was for.
        role: Role,
    },
    /// As many nodes have joined with it as may.
    #[error("the token {id} is used up; make a new one with '{} --uses N'", create(*.role))]
    TokenUsedUp {
        /// The token.
        id: String,
        /// What it was for.
        role: Role,
    },
    /// It is for another role.
    #[error("the token {id} is for role {allowed}, not {wanted}")]
    TokenRole {
        /// The token.
        id: String,
        /// What it allows.
        allowed: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The token, or the node's record, does not allow a service.
    #[error(
        "{node} may not run {service}: allowed are {allowed}; make a token with 'mesh token create --service {service}'"
    )]
    Service {
        /// Who asked.
        node: NodeName,
        /// For what.
        service: ServiceName,
        /// What would do.
        allowed: String,
    },
    /// Somebody else's identity.
    #[error("{node} may not have a certificate for {subject}")]
    Subject {
        /// Who asked.
        node: NodeName,
        /// For whom.
        subject: Subject,
    },
    /// A token of that id exists.
    #[error("there is a token {0} already")]
    TokenExists(String),
    /// The node is refused everywhere.
    #[error("node {0} is banned; 'mesh ban --undo {0}' on the control plane takes it back")]
    Banned(NodeName),
    /// Another key bears the name, and is there.
    #[error(
        "a node called {0} is in the mesh with another key; choose another name with --node, or, if that host is gone for good or was set up anew, wait until the mesh has noticed, or run 'mesh leave {0}' on the control plane"
    )]
    NameTaken(NodeName),
    /// An operator has the name of a host, or the other way round: that never changes by itself.
    #[error("{0} is {1} of this mesh already: choose another name")]
    OtherKind(NodeName, &'static str),
    /// It never joined, or was forgotten.
    #[error(
        "there is no node {0} in this mesh: 'mesh top --view nodes' shows those that are; a new one joins with a token"
    )]
    UnknownNode(NodeName),
    /// The control plane cannot be put out by itself.
    #[error("node {0} runs the control plane")]
    IsControl(NodeName),
    /// Serial numbers are unique.
    #[error("a certificate with this serial number was issued before")]
    SerialTaken,
    /// No such key, or not to be removed while it seals.
    #[error("there is no gossip key {0} to change")]
    GossipKey(u8),
    /// That id is taken.
    #[error("there is a gossip key {0} already")]
    GossipKeyExists(u8),
}

/// Returns the command that makes a token of a role.
fn create(role: Role) -> &'static str {
    match role {
        Role::Proxy => "mesh token create",
        Role::Control => "mesh token create --role control",
        Role::Operator => "mesh token create --role operator",
    }
}
