//! The state of the control plane, and the one way to change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::logic::moment::rfc3339;
use crate::logic::state::command::{
    Admission, Change, Command, Event, Expected, Refusal, TokenUse, Write, Written,
};
use crate::logic::state::history::{Histories, Version};
use crate::logic::state::record::{Issuance, JoinToken, Lapse, Mesh, Node};
use crate::logic::state::ring::Ring;
use crate::model::endpoint::Role;
use crate::model::identity::{Subject, TrustDomain};
use crate::model::intention::{Action, Mode};
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::{Key, Resource, Revision};
use crate::model::snapshot::BANNED_MAX;

/// Most objects: every proxy holds all of them.
pub const RESOURCES_MAX: usize = 20_000;
/// Most tokens that have not been forgotten.
pub const TOKENS_MAX: usize = 10_000;
/// Most nodes that were ever let in and not forgotten.
pub const NODES_MAX: usize = 20_000;
/// How long expired tokens and certificates are remembered, milliseconds.
const REMEMBER_MS: u64 = 24 * 60 * 60 * 1000;
/// The newest key of a node and the one before.
const NODE_KEYS_MAX: usize = 2;

/// Everything the control plane remembers. Serialised, it is a snapshot of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub(super) revision: Revision,
    pub(super) policy_revision: Revision,
    pub(super) mesh: Option<Mesh>,
    #[serde(with = "crate::logic::state::by_key")]
    pub(super) resources: BTreeMap<Key, Arc<Resource>>,
    pub(super) tokens: BTreeMap<String, JoinToken>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    pub(super) banned: BTreeMap<NodeName, u64>,
    #[serde(default)]
    pub(super) draining: BTreeMap<NodeName, u64>,
    pub(super) issued: BTreeMap<String, Issuance>,
    pub(super) gossip: Ring,
    #[serde(default)]
    pub(super) histories: Histories,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lapse: Option<Lapse>,
}

/// When a command was made, and by whom.
#[derive(Clone, Copy)]
struct Stamp<'a> {
    at_ms: u64,
    by: &'a str,
}

impl State {
    /// Carries out a command: all of it or nothing.
    ///
    /// Returns what it did; nothing when all was so already. Whatever did something makes the next revision.
    ///
    /// # Errors
    /// When the command is refused; the state is as it was.
    pub fn apply(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let Command { at_ms, by, change } = command;
        let stamp = Stamp { at_ms, by: &by };
        if self.mesh.is_none() && !matches!(change, Change::Found { .. }) {
            return Err(Refusal::NotFounded);
        }
        let events = match change {
            Change::Found { trust_domain, default_action } => {
                self.found(trust_domain, default_action, at_ms)?
            }
            Change::Put { resource, expected } => self.put(*resource, expected, stamp)?,
            Change::Delete { key, expected } => self.delete(&key, expected, stamp)?,
            Change::Apply(writes) => self.apply_all(writes, stamp)?,
            Change::SetDefaultAction(action) => self.set_default_action(action),
            Change::SetMode(mode) => self.set_mode(mode),
            Change::CreateToken(token) => self.create_token(token, at_ms)?,
            Change::RevokeToken { id } => {
                self.tokens.remove(&id).ok_or(Refusal::UnknownToken)?;
                vec![Event::TokenRevoked { id }]
            }
            Change::Admit(admission) => self.admit(admission, at_ms)?,
            Change::Rekey { node, key } => self.rekey(node, key)?,
            Change::Issue(certificates) => self.issue(certificates, at_ms)?,
            Change::Ban(node) => self.ban(node, at_ms)?,
            Change::Unban(node) => self.unban(node),
            Change::Drain(node) => self.drain(node, at_ms)?,
            Change::Undrain(node) => self.undrain(node)?,
            Change::Forget(node) => self.forget(node, at_ms)?,
            Change::InstallGossipKey { id, key } => self.gossip.install(id, key, at_ms)?,
            Change::PromoteGossipKey { id } => self.gossip.promote(id, at_ms)?,
            Change::RetireGossipKey { id } => self.gossip.retire(id)?,
            Change::Resume { taken_ms, after } => self.resume(taken_ms, after, at_ms),
        };
        if !events.is_empty() {
            self.revision += 1;
        }
        if events.iter().any(Event::concerns_proxies) {
            self.policy_revision = self.revision;
        }
        Ok(events)
    }

    // --- the mesh -----------------------------------------------------------------------------------------------

    fn found(
        &mut self,
        trust_domain: TrustDomain,
        action: Action,
        at_ms: u64,
    ) -> Result<Vec<Event>, Refusal> {
        if let Some(mesh) = &self.mesh {
            return Err(Refusal::Founded(mesh.trust_domain.clone()));
        }
        self.mesh = Some(Mesh {
            trust_domain: trust_domain.clone(),
            default_action: action,
            mode: Mode::Enforce,
            founded_ms: at_ms,
        });
        Ok(vec![Event::Founded { trust_domain }])
    }

    fn set_default_action(&mut self, action: Action) -> Vec<Event> {
        match &mut self.mesh {
            Some(mesh) if mesh.default_action != action => {
                mesh.default_action = action;
                vec![Event::DefaultActionSet { action }]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn set_mode(&mut self, mode: Mode) -> Vec<Event> {
        match &mut self.mesh {
            Some(mesh) if mesh.mode != mode => {
                mesh.mode = mode;
                vec![Event::ModeSet { mode }]
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Goes on after `after`, so that no revision is used twice, and expects every node to show a key made meanwhile.
    fn resume(&mut self, taken_ms: u64, after: Revision, at_ms: u64) -> Vec<Event> {
        self.revision = self.revision.max(after);
        let from_ms = self.lapse.take().map_or(taken_ms, |lapse| lapse.from_ms.min(taken_ms));
        self.lapse = Some(Lapse { from_ms, to_ms: at_ms, unseen: self.nodes.keys().cloned().collect() });
        vec![Event::Resumed { taken_ms }]
    }

    // --- objects ------------------------------------------------------------------------------------------------

    fn apply_all(&mut self, writes: Vec<Write>, stamp: Stamp<'_>) -> Result<Vec<Event>, Refusal> {
        let before = (self.resources.clone(), self.histories.clone());
        let mut events = Vec::new();
        for write in writes {
            let done = match write {
                Write::Put { resource, expected } => self.put(*resource, expected, stamp),
                Write::Delete { key, expected } => self.delete(&key, expected, stamp),
            };
            match done {
                Ok(done) => events.extend(done),
                Err(refusal) => {
                    (self.resources, self.histories) = before;
                    return Err(refusal);
                }
            }
        }
        Ok(events)
    }

    fn put(
        &mut self,
        mut resource: Resource,
        expected: Expected,
        stamp: Stamp<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        resource.set_status(None);
        let key = resource.key();
        let old = self.resources.get(&key);
        expect(&key, old, expected)?;
        if old.is_none() && self.resources.len() >= RESOURCES_MAX {
            return Err(Refusal::TooMany { what: "objects", max: RESOURCES_MAX });
        }
        let (created, generation) = match old {
            None => (rfc3339(stamp.at_ms), 1),
            Some(old) => {
                let history = old.metadata();
                let mut same = resource.clone();
                let metadata = same.metadata_mut();
                metadata.resource_version.clone_from(&history.resource_version);
                metadata.generation = history.generation;
                metadata.creation_timestamp.clone_from(&history.creation_timestamp);
                if same == **old {
                    return Ok(Vec::new());
                }
                *same.metadata_mut() = history.clone();
                let body_changed = same != **old;
                let generation = history.generation.unwrap_or(1) + u64::from(body_changed);
                (history.creation_timestamp.clone(), generation)
            }
        };
        let written = if old.is_none() { Written::Created } else { Written::Updated };
        let metadata = resource.metadata_mut();
        metadata.resource_version = Some((self.revision + 1).to_string());
        metadata.generation = Some(generation);
        metadata.creation_timestamp = created;
        let object = Arc::new(resource);
        let old = self.resources.insert(key, Arc::clone(&object));
        self.remember(old.as_ref(), (written, &object), stamp);
        Ok(vec![Event::Object { written, object }])
    }

    fn delete(&mut self, key: &Key, expected: Expected, stamp: Stamp<'_>) -> Result<Vec<Event>, Refusal> {
        let old = self.resources.get(key);
        expect(key, old, expected)?;
        let object = self.resources.remove(key).ok_or_else(|| Refusal::NoObject(key.clone()))?;
        self.remember(Some(&object), (Written::Deleted, &object), stamp);
        Ok(vec![Event::Object { written: Written::Deleted, object }])
    }

    fn remember(
        &mut self,
        before: Option<&Arc<Resource>>,
        (change, object): (Written, &Arc<Resource>),
        stamp: Stamp<'_>,
    ) {
        let version = Version {
            revision: self.revision + 1,
            at_ms: stamp.at_ms,
            by: stamp.by.to_owned(),
            change,
            object: Arc::clone(object),
        };
        self.histories.note(before, version);
    }

    // --- tokens and nodes ---------------------------------------------------------------------------------------

    fn create_token(&mut self, token: JoinToken, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        let id = token.id.clone();
        if self.tokens.contains_key(&id) {
            return Err(Refusal::TokenExists(id));
        }
        let remembered = |token: &JoinToken| token.expires_ms.saturating_add(REMEMBER_MS) > at_ms;
        if self.tokens.values().filter(|token| remembered(token)).count() >= TOKENS_MAX {
            return Err(Refusal::TooMany { what: "tokens", max: TOKENS_MAX });
        }
        self.tokens.retain(|_, token| remembered(token));
        self.tokens.insert(id.clone(), token);
        Ok(vec![Event::TokenCreated { id }])
    }

    /// Joining again with the same key and token takes no second use: the answer to the first may have been lost.
    fn admit(&mut self, admission: Admission, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        let Admission { node, role, key, services, token, replace } = admission;
        if self.banned.contains_key(&node) {
            return Err(Refusal::Banned(node));
        }
        let known = self.nodes.get(&node);
        let same = known.is_some_and(|known| known.keys.contains(&key) && known.role == role);
        let repeated =
            same && known.is_some_and(|known| known.token == token.as_ref().map(|token| token.id.clone()));
        let allowed = match &token {
            Some(shown) => self.check_token(shown, role, repeated, at_ms)?.services.clone(),
            None => Vec::new(),
        };
        if let Some(service) =
            services.iter().find(|service| !allowed.is_empty() && !allowed.contains(service))
        {
            return Err(Refusal::Service { node, service: service.clone(), allowed: list(&allowed) });
        }
        // Whoever may administer is never taken for a host, nor a host for one who may.
        let other_kind =
            known.is_some_and(|known| (known.role == Role::Operator) != (role == Role::Operator));
        if other_kind {
            let whose = if role == Role::Operator { "a host" } else { "an operator" };
            return Err(Refusal::OtherKind(node, whose));
        }
        if known.is_some() && !same && !replace {
            return Err(Refusal::NameTaken(node));
        }
        if known.is_none() && self.nodes.len() >= NODES_MAX {
            return Err(Refusal::TooMany { what: "nodes", max: NODES_MAX });
        }
        if repeated {
            return Ok(Vec::new());
        }
        let mut record = Node {
            role,
            keys: vec![key],
            services: allowed,
            token: token.as_ref().map(|token| token.id.clone()),
            joined_ms: at_ms,
        };
        let mut events = Vec::new();
        match known {
            None => {
                events.push(Event::Joined { node: node.clone(), role });
                events.extend(self.draining.remove(&node).map(|_| Event::Undrained { node: node.clone() }));
            }
            Some(known) if same => {
                record.keys.clone_from(&known.keys);
                record.services = join(&known.services, &record.services);
                record.joined_ms = known.joined_ms;
                events.push(Event::Rejoined { node: node.clone() });
            }
            Some(_) => events.push(Event::Replaced { node: node.clone(), role }),
        }
        self.has_shown_itself(&node);
        self.nodes.insert(node, record);
        if let Some(used) = token.and_then(|token| self.tokens.get_mut(&token.id)) {
            used.uses_left -= 1;
            events.push(Event::TokenUsed { id: used.id.clone(), uses_left: used.uses_left });
        }
        Ok(events)
    }

    fn check_token(
        &self,
        shown: &TokenUse,
        role: Role,
        repeated: bool,
        at_ms: u64,
    ) -> Result<&JoinToken, Refusal> {
        let token = self.token(shown).ok_or(Refusal::UnknownToken)?;
        if token.expires_ms <= at_ms {
            return Err(Refusal::TokenExpired { id: shown.id.clone(), role: token.role });
        }
        if token.uses_left == 0 && !repeated {
            return Err(Refusal::TokenUsedUp { id: shown.id.clone(), role: token.role });
        }
        if token.role != role {
            let (allowed, wanted) = (token.role.as_str(), role.as_str());
            return Err(Refusal::TokenRole { id: shown.id.clone(), allowed, wanted });
        }
        Ok(token)
    }

    fn rekey(&mut self, node: NodeName, key: String) -> Result<Vec<Event>, Refusal> {
        let Some(record) = self.nodes.get_mut(&node) else {
            return Err(Refusal::UnknownNode(node));
        };
        if record.keys.first() == Some(&key) {
            return Ok(Vec::new());
        }
        record.keys.retain(|known| *known != key);
        record.keys.insert(0, key);
        record.keys.truncate(NODE_KEYS_MAX);
        self.has_shown_itself(&node);
        Ok(vec![Event::Rekeyed { node }])
    }

    fn ban(&mut self, node: NodeName, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        self.role_of(&node)?;
        if self.banned.contains_key(&node) {
            return Ok(Vec::new());
        }
        if self.banned.len() >= BANNED_MAX {
            return Err(Refusal::TooMany { what: "banned nodes", max: BANNED_MAX });
        }
        self.banned.insert(node.clone(), at_ms);
        Ok(vec![Event::Banned { node }])
    }

    fn unban(&mut self, node: NodeName) -> Vec<Event> {
        match self.banned.remove(&node) {
            Some(_) => vec![Event::Unbanned { node }],
            None => Vec::new(),
        }
    }

    fn drain(&mut self, node: NodeName, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        self.proxy(&node)?;
        if self.draining.contains_key(&node) {
            return Ok(Vec::new());
        }
        self.draining.insert(node.clone(), at_ms);
        Ok(vec![Event::Draining { node }])
    }

    fn undrain(&mut self, node: NodeName) -> Result<Vec<Event>, Refusal> {
        self.proxy(&node)?;
        Ok(match self.draining.remove(&node) {
            Some(_) => vec![Event::Undrained { node }],
            None => Vec::new(),
        })
    }

    /// Refuses what is no proxy.
    fn proxy(&self, node: &NodeName) -> Result<(), Refusal> {
        match self.role_of(node)? {
            Role::Operator => Err(Refusal::UnknownNode(node.clone())),
            Role::Proxy | Role::Control => Ok(()),
        }
    }

    /// Returns what a node does that was let in; refuses the control plane's own.
    fn role_of(&self, node: &NodeName) -> Result<Role, Refusal> {
        match self.nodes.get(node).map(|known| known.role) {
            None => Err(Refusal::UnknownNode(node.clone())),
            Some(Role::Control) => Err(Refusal::IsControl(node.clone())),
            Some(role) => Ok(role),
        }
    }

    /// A ban outlives the record of its node, or leaving would undo it. Others are to spare a host for as long as its
    /// certificates may last.
    fn forget(&mut self, node: NodeName, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        let mut events = match self.role_of(&node)? {
            Role::Proxy => self.drain(node.clone(), at_ms)?,
            Role::Operator | Role::Control => Vec::new(),
        };
        self.nodes.remove(&node);
        let (nodes, spared) = (&self.nodes, |since: u64| since.saturating_add(REMEMBER_MS) > at_ms);
        self.draining.retain(|name, since| nodes.contains_key(name) || spared(*since));
        self.has_shown_itself(&node);
        events.push(Event::Forgotten { node });
        Ok(events)
    }

    /// A node whose key is known again needs no more benefit of the doubt.
    fn has_shown_itself(&mut self, node: &NodeName) {
        if let Some(lapse) = &mut self.lapse {
            lapse.unseen.remove(node);
        }
        self.lapse.take_if(|lapse| lapse.unseen.is_empty());
    }

    // --- certificates -------------------------------------------------------------------------------------------

    fn issue(&mut self, certificates: Vec<Issuance>, at_ms: u64) -> Result<Vec<Event>, Refusal> {
        for (index, issuance) in certificates.iter().enumerate() {
            self.may_hold(&issuance.node, &issuance.subject)?;
            let twice = certificates.iter().skip(index + 1).any(|other| other.serial == issuance.serial);
            if twice || self.issued.contains_key(&issuance.serial) {
                return Err(Refusal::SerialTaken);
            }
        }
        if certificates.is_empty() {
            return Ok(Vec::new());
        }
        self.issued.retain(|_, issued| issued.not_after_ms.saturating_add(REMEMBER_MS) > at_ms);
        self.issued.extend(certificates.iter().map(|issued| (issued.serial.clone(), issued.clone())));
        Ok(vec![Event::Issued { certificates }])
    }

    /// Decides whether `node` may hold a certificate for `subject`: itself always, its services as its token allowed,
    /// control planes for themselves, operators for themselves alone.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn may_hold(&self, node: &NodeName, subject: &Subject) -> Result<(), Refusal> {
        if self.banned.contains_key(node) {
            return Err(Refusal::Banned(node.clone()));
        }
        let known = self.nodes.get(node).ok_or_else(|| Refusal::UnknownNode(node.clone()))?;
        let allowed = match subject {
            Subject::Operator(name) => name == node && known.role == Role::Operator,
            _ if known.role == Role::Operator => false,
            Subject::Node(name) => name == node,
            Subject::Control(name) => name == node && known.role == Role::Control,
            Subject::Service(service) if known.may_run(service) => true,
            Subject::Service(service) => {
                let (node, service, allowed) = (node.clone(), service.clone(), list(&known.services));
                return Err(Refusal::Service { node, service, allowed });
            }
        };
        if allowed { Ok(()) } else { Err(Refusal::Subject { node: node.clone(), subject: subject.clone() }) }
    }
}

fn expect(key: &Key, stored: Option<&Arc<Resource>>, expected: Expected) -> Result<(), Refusal> {
    match (expected, stored) {
        (Expected::Any, _) | (Expected::Absent, None) => Ok(()),
        (Expected::Absent, Some(_)) => Err(Refusal::Exists(key.clone())),
        (Expected::Revision(_), None) => Err(Refusal::NoObject(key.clone())),
        (Expected::Revision(expected), Some(stored)) => {
            let current = stored.metadata().resource_version.as_ref().and_then(|text| text.parse().ok());
            match current.unwrap_or(0) {
                current if current == expected => Ok(()),
                current => Err(Refusal::Conflict { key: key.clone(), expected, current }),
            }
        }
    }
}

/// Joins two lists of allowed services, of which the empty one allows all.
fn join(one: &[ServiceName], other: &[ServiceName]) -> Vec<ServiceName> {
    if one.is_empty() || other.is_empty() {
        return Vec::new();
    }
    let mut services = [one, other].concat();
    services.sort();
    services.dedup();
    services
}

fn list(services: &[ServiceName]) -> String {
    services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
