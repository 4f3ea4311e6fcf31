//! What travels between control, proxies and consoles: one type for each body, JSON with lowerCamel keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::api::problem::FieldProblem;
use crate::logic::plan::Planned;
use crate::logic::state::history::Version;
use crate::model::endpoint::Role;
use crate::model::identity::Subject;
use crate::model::intention::{Action, Mode};
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::{Resource, Revision};
use crate::model::service::Protocol;
use crate::model::snapshot::{GossipPass, Snapshot};

// --- joining and certificates ---------------------------------------------------------------------------------------

/// `POST /v1/join`: a new node, with its token, asks to become a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// `id.secret` of the token.
    pub token: String,
    /// The name it wants.
    pub node: NodeName,
    /// What it wants to be.
    pub role: Role,
    /// The certificates it asks for: its own as a node, and one for each of its services.
    pub requests: Vec<SigningRequest>,
    /// Its Ed25519 public key for signing gossip records, 32 bytes in base64.
    pub gossip_key: String,
}

/// A wish for one certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningRequest {
    /// Whose.
    pub subject: Subject,
    /// PKCS#10 in DER, base64; only its public key is used.
    pub csr: String,
}

/// `POST /v1/renew`, over mutual TLS with the node's current, or expired, certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewRequest {
    /// The certificates it asks for.
    pub requests: Vec<SigningRequest>,
    /// As in [`JoinRequest`].
    pub gossip_key: String,
}

/// The answer to joining and renewing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// One for each request, in order.
    pub certificates: Vec<IssuedCertificate>,
    /// Control's word that this node owns its gossip key.
    #[serde(default)]
    pub gossip_pass: Option<GossipPass>,
    /// What the node needs to start.
    pub snapshot: Snapshot,
}

/// A signed certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedCertificate {
    /// Whose.
    pub subject: Subject,
    /// Leaf, then intermediates, without the root: DER in base64.
    pub chain: Vec<String>,
}

// --- tokens ---------------------------------------------------------------------------------------------------------

/// `POST /v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// What its bearers may become.
    pub role: Role,
    /// Which services they may run; empty means any.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    /// How many nodes may join with it.
    pub uses: u32,
    /// For how long.
    pub ttl_seconds: u64,
}

/// The answer: the only time that the secret is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenCreated {
    /// The whole token, `mesh1.…`.
    pub token: String,
    /// The line that downloads from this control plane and joins with the token.
    pub install: String,
    /// What is known of it from now on.
    pub info: TokenInfo,
}

/// `GET /v1/tokens`: what control knows of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// Its public part.
    pub id: String,
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

// --- resources ------------------------------------------------------------------------------------------------------

/// `GET /v1/resources/{plural}`, and one line of a watch is one [`ResourceEvent`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceList {
    /// The revision it shows.
    pub revision: Revision,
    /// The objects, sorted by key.
    pub items: Vec<Resource>,
}

/// A change of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceEvent {
    /// The revision that made it.
    pub revision: Revision,
    /// What happened.
    pub change: ChangeKind,
    /// The object as it is, or was before it was deleted.
    pub object: Resource,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named for what they say")]
pub enum ChangeKind {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// The answer to `PUT` and `DELETE /v1/resources/{plural}/{namespace}/{name}` (`?dryRun=true` writes nothing).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteResult {
    /// The revision in force now.
    pub revision: Revision,
    /// What was done.
    pub change: ChangeKind,
    /// The object as stored.
    pub object: Resource,
    /// Doubts that did not stop the write.
    pub warnings: Vec<String>,
}

/// `POST /v1/apply` (`?dryRun=true` writes nothing): objects to be written together, all of them or none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    /// The objects. One that says a `resourceVersion` is written over that version only.
    pub objects: Vec<Resource>,
    /// When given, not empty: every stored object with all these labels that is not among `objects` is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<BTreeMap<String, String>>,
    /// Objects to be removed: `httproutes/default/web`. Those that are not there hold up nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// The answer to `POST /v1/apply`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResult {
    /// The revision in force now.
    pub revision: Revision,
    /// What became of each object, in the order of the request; then those that were removed.
    pub changes: Vec<Applied>,
    /// Those to be removed that were not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Doubts that did not stop the write.
    pub warnings: Vec<FieldProblem>,
    /// With `plan`: what changes for the traffic of the last hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What a change does to the traffic of the last hours.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Since when calls are remembered, Unix milliseconds; `None` when there were none.
    pub since_ms: Option<u64>,
    /// What changes, the worst first.
    pub changes: Vec<Planned>,
}

/// What became of one object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// What was done.
    pub change: ChangeKind,
    /// The object as stored, or as it was before it was removed.
    pub object: Resource,
    /// With `dryRun`: the object as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Resource>,
}

/// `GET /v1/resources/{plural}/{namespace}/{name}/history`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The versions that are kept, the oldest first.
    pub versions: Vec<Version>,
}

/// `GET` and `PUT /v1/defaults`: what holds where no intention says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// What happens to calls that no intention speaks of.
    pub action: Action,
    /// Whether calls are refused at all.
    #[serde(default)]
    pub mode: Mode,
}

// --- proxies and control --------------------------------------------------------------------------------------------

/// `POST /v1/ack`: a proxy took a snapshot, or kept its old one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The revision it speaks of.
    pub revision: Revision,
    /// Why it was refused; `None` when it is in force.
    pub refused: Option<String>,
}

/// `GET /v1/authority`: who signs, and what has been signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityInfo {
    /// The trust domain.
    pub mesh: String,
    /// What every host trusts.
    pub root: AuthorityCertificate,
    /// Whether the root's key is on the control plane's host; not when the root was brought along.
    pub has_root_key: bool,
    /// What signs.
    pub intermediate: AuthorityCertificate,
    /// Certificates that are valid now, by the kind of who holds them: `control`, `node`, `operator`, `service`.
    pub valid: BTreeMap<String, usize>,
    /// The nodes whose certificates are refused everywhere.
    pub banned: Vec<NodeName>,
}

/// A certificate that signs others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityCertificate {
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// Beginning of validity, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of validity, Unix milliseconds.
    pub not_after_ms: u64,
    /// It, DER in base64.
    pub certificate: String,
}

/// `GET /v1/status`: who answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The mesh.
    pub mesh: String,
    /// The control plane that answers.
    pub node: NodeName,
    /// Version of its executable.
    pub build: String,
    /// The newest revision.
    pub revision: Revision,
    /// Its clock, Unix milliseconds.
    pub now_ms: u64,
    /// End of the root certificate's validity, Unix milliseconds.
    pub root_not_after_ms: u64,
    /// End of the intermediate's validity, Unix milliseconds.
    pub intermediate_not_after_ms: u64,
}

// --- a proxy's own admin API ----------------------------------------------------------------------------------------

/// `GET /services` of a proxy: one service of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// What it is called in the mesh.
    pub name: ServiceName,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whose calls leave with its identity; nobody's in particular when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether it was added while the proxy ran, and is not in its configuration.
    pub added: bool,
    /// Whether its certificate is there, so that it is announced.
    pub certificate: bool,
}
