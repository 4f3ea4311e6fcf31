//! Join tokens and signing requests in, certificates out.
//!
//! A token lets a node in once; from then on the node's key speaks for it: it renews with its certificate, expired or
//! not, as long as it is not banned or forgotten. A name that is taken is given to another key only once whoever bore it
//! is dead, gone or unknown to gossip and silent here; meanwhile the newcomer is told why, and may try again.
//!
//! A serial number is on disk before its certificate leaves.

use data_encoding::{BASE64, HEXLOWER};

use crate::api::wire::{
    Issued, IssuedCertificate, JoinRequest, RenewRequest, SigningRequest, TokenCreated, TokenInfo,
    TokenRequest,
};
use crate::control::authority::{self, Leaf, Proven, Wish};
use crate::control::plane::Plane;
use crate::control::store::SubmitError;
use crate::control::timeline;
use crate::identity::certificate::sha256;
use crate::logic::state::command::{Admission, TokenUse};
use crate::logic::state::record::{Issuance, JoinToken};
use crate::logic::state::{Change, Refusal};
use crate::model::endpoint::Role;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::snapshot::GossipKeys;
use crate::model::token::{ID_CHARS, SECRET_CHARS, Token};
use crate::model::view::Severity;
use crate::net::clock;

/// Most certificates in one request: a host's services, and the host.
pub const REQUESTS_MAX: usize = 128;
/// Most nodes that one token lets in.
pub const USES_MAX: u32 = 100_000;
/// Longest life of a token, seconds: a year.
pub const TTL_MAX_SECONDS: u64 = 365 * 24 * 60 * 60;
/// How many hosts may join with the token that the first start prints.
const FIRST_TOKEN_USES: u32 = 100;
const FIRST_TOKEN_TTL_SECONDS: u64 = 24 * 60 * 60;
const SYMBOLS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why a request was not granted. Where it is a refusal of the state or of the request, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
    /// The certificate it came with does not speak for the node.
    #[error("{0}")]
    Unproven(String),
    /// The state refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(SubmitError),
    /// The authority refused or failed.
    #[error(transparent)]
    Authority(#[from] authority::Error),
}

impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => Self::Refused(refusal),
            SubmitError::Unwritten(_) | SubmitError::Silent => Self::Store(error),
        }
    }
}

/// Who asks for a renewal, by the certificate it holds; maybe an expired one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Whose certificate.
    pub subject: Subject,
    /// The node it was issued to.
    pub node: NodeName,
    /// The fingerprint of its key.
    pub key: String,
    /// When it was issued, Unix milliseconds.
    pub issued_ms: u64,
}

/// A signing request whose signature was checked.
struct Checked {
    subject: Subject,
    proven: Proven,
}

// --- tokens ---------------------------------------------------------------------------------------------------------

/// Makes a token where nobody joined yet and nobody was told how: at a first start, or one after a first start that did not
/// get far. Returns the line to run on other hosts.
pub async fn first_token(plane: &Plane) -> Result<Option<String>, Error> {
    let state = plane.store.state();
    let lonely = state.tokens().is_empty() && state.nodes().values().all(|node| node.role == Role::Control);
    if !lonely {
        return Ok(None);
    }
    let request = TokenRequest {
        role: Role::Proxy,
        services: Vec::new(),
        uses: FIRST_TOKEN_USES,
        ttl_seconds: FIRST_TOKEN_TTL_SECONDS,
    };
    Ok(Some(create_token(plane, request).await?.install))
}

/// Makes a join token. Its secret leaves with the answer and is kept nowhere.
pub async fn create_token(plane: &Plane, request: TokenRequest) -> Result<TokenCreated, Error> {
    if !(1..=USES_MAX).contains(&request.uses) {
        return Err(Error::Request(format!("uses must be 1 to {USES_MAX}, not {}", request.uses)));
    }
    if !(1..=TTL_MAX_SECONDS).contains(&request.ttl_seconds) {
        let reason =
            format!("ttlSeconds must be 1 to {TTL_MAX_SECONDS} (a year), not {}", request.ttl_seconds);
        return Err(Error::Request(reason));
    }
    let now_ms = clock::wall_ms();
    let mut services = request.services;
    services.sort();
    services.dedup();
    let secret = draw_symbols(SECRET_CHARS);
    let record = JoinToken {
        id: draw_symbols(ID_CHARS),
        secret_hash: HEXLOWER.encode(&sha256(secret.as_bytes())),
        role: request.role,
        services,
        uses_left: request.uses,
        expires_ms: now_ms.saturating_add(request.ttl_seconds.saturating_mul(1000)),
        created_ms: now_ms,
    };
    let (id, info) = (record.id.clone(), info(&record));
    plane.submit(Change::CreateToken(record)).await?;
    let token = Token { pin: plane.authority.pin(), id, secret, controls: vec![plane.advertised.clone()] };
    let token = token.to_string();
    let install = match info.role {
        Role::Proxy | Role::Control => install_line(plane, &token),
        Role::Operator => format!("mesh login {token}"),
    };
    Ok(TokenCreated { token, install, info })
}

/// Returns the line that makes another host a member: it trusts this control plane's serving key and nothing else.
fn install_line(plane: &Plane, token: &str) -> String {
    let (pin, host) = (plane.authority.serving_pin(), &plane.advertised);
    format!("curl -fsSLk --pinnedpubkey 'sha256//{pin}' https://{host}/install.sh | sh -s -- --join {token}")
}

/// Returns what is known of every token, the newest first.
pub fn list_tokens(plane: &Plane) -> Vec<TokenInfo> {
    let state = plane.store.state();
    let mut tokens: Vec<_> = state.tokens().values().map(info).collect();
    tokens.sort_by(|a, b| b.created_ms.cmp(&a.created_ms).then_with(|| a.id.cmp(&b.id)));
    tokens
}

fn info(token: &JoinToken) -> TokenInfo {
    TokenInfo {
        id: token.id.clone(),
        role: token.role,
        services: token.services.clone(),
        uses_left: token.uses_left,
        expires_ms: token.expires_ms,
        created_ms: token.created_ms,
    }
}

fn draw_symbols(count: usize) -> String {
    let symbol = |_| char::from(SYMBOLS[usize::from(rand::random::<u8>() & 31)]);
    (0..count).map(symbol).collect()
}

// --- joining and renewing -------------------------------------------------------------------------------------------

/// Lets a node in by its token, and gives it its certificates.
pub async fn join(plane: &Plane, request: JoinRequest) -> Result<Issued, Error> {
    let outcome = admit(plane, &request).await;
    if let Err(error) = &outcome {
        timeline::note(
            &plane.collector.events,
            Severity::Warning,
            "join",
            &request.node,
            format!("refused: {error}"),
        );
    }
    outcome
}

async fn admit(plane: &Plane, request: &JoinRequest) -> Result<Issued, Error> {
    let gossip_key = gossip_key(request.role, &request.gossip_key)?;
    let token = parse_shown(&request.token)?;
    // Signatures are checked for bearers of a token only: others could keep us busy.
    if plane.store.state().token(&token).is_none() {
        return Err(Refusal::UnknownToken.into());
    }
    let checked = check(&request.requests)?;
    let own = own_subject(&request.node, request.role);
    let Some(key) = checked.iter().find(|checked| checked.subject == own).map(|own| own.proven.fingerprint())
    else {
        return Err(Error::Request(format!(
            "the request asks for no certificate for {own}, the node itself"
        )));
    };
    let admission = Admission {
        node: request.node.clone(),
        role: request.role,
        key,
        services: services(&checked),
        token: Some(token),
        replace: plane.is_gone(&request.node),
    };
    plane.submit(Change::Admit(admission)).await?;
    issue(plane, &request.node, &checked, gossip_key.as_ref()).await
}

/// Gives a node that is in the mesh new certificates, for the old key or for new ones.
pub async fn renew(plane: &Plane, holder: &Holder, request: RenewRequest) -> Result<Issued, Error> {
    let node = &holder.node;
    let outcome = prolong(plane, holder, request).await;
    if let Err(error) = &outcome {
        let message = format!("renewal refused: {error}");
        timeline::note(&plane.collector.events, Severity::Error, "certificate", node, message);
    }
    outcome
}

async fn prolong(plane: &Plane, holder: &Holder, request: RenewRequest) -> Result<Issued, Error> {
    let node = &holder.node;
    let state = plane.store.state();
    if state.banned().contains_key(node) {
        return Err(Refusal::Banned(node.clone()).into());
    }
    let record = state.nodes().get(node).ok_or_else(|| Error::Unproven(removed(&holder.subject, node)))?;
    let own = own_subject(node, record.role);
    if holder.subject != own {
        return Err(Error::Unproven(format!(
            "only {own} may renew certificates of {node}, not {}",
            holder.subject
        )));
    }
    let is_known = record.keys.contains(&holder.key);
    if !is_known && !state.may_have_forgotten(node, holder.issued_ms) {
        let reason =
            format!("this certificate's key does not speak for {node} any more: {}", remedy(&holder.subject));
        return Err(Error::Unproven(reason));
    }
    let gossip_key = gossip_key(record.role, &request.gossip_key)?;
    let checked = check(&request.requests)?;
    for wish in &checked {
        state.may_hold(node, &wish.subject)?;
    }
    if !is_known {
        plane.submit(Change::Rekey { node: node.clone(), key: holder.key.clone() }).await?;
    }
    if let Some(next) = checked.iter().find(|wish| wish.subject == own).map(|own| own.proven.fingerprint())
        && next != holder.key
    {
        plane.submit(Change::Rekey { node: node.clone(), key: next }).await?;
    }
    issue(plane, node, &checked, gossip_key.as_ref()).await
}

async fn issue(
    plane: &Plane,
    node: &NodeName,
    wishes: &[Checked],
    gossip_key: Option<&[u8; 32]>,
) -> Result<Issued, Error> {
    let now_ms = clock::wall_ms();
    let mut certificates = Vec::with_capacity(wishes.len());
    let mut issuances = Vec::with_capacity(wishes.len());
    for Checked { subject, proven } in wishes {
        let Leaf { chain, serial, not_after_ms } =
            plane.authority.sign(&Wish { node, subject, hosts: &[], now_ms }, proven)?;
        issuances.push(Issuance { serial, subject: subject.clone(), node: node.clone(), not_after_ms });
        let chain = chain.iter().map(|der| BASE64.encode(der)).collect();
        certificates.push(IssuedCertificate { subject: subject.clone(), chain });
    }
    let gossip_pass = gossip_key.map(|key| plane.authority.pass(node, key, now_ms)).transpose()?;
    plane.submit(Change::Issue(issuances)).await?;
    let mut snapshot = plane.publisher.newest().snapshot.clone();
    if gossip_pass.is_none() {
        snapshot.gossip = GossipKeys { ring: Vec::new(), seeds: Vec::new() };
    }
    Ok(Issued { certificates, gossip_pass, snapshot })
}

/// Returns what the holder of a certificate of a removed node is told.
pub fn removed(subject: &Subject, node: &NodeName) -> String {
    let kind = if matches!(subject, Subject::Operator(_)) { "operator" } else { "node" };
    format!("{kind} {node} was removed from the mesh: {}", remedy(subject))
}

fn remedy(subject: &Subject) -> &'static str {
    match subject {
        Subject::Operator(_) => {
            "use 'mesh login TOKEN' with a new token, from 'mesh token create --role operator'"
        }
        Subject::Control(_) => "start the control plane again on its own data directory",
        Subject::Node(_) | Subject::Service(_) => {
            "start the proxy with --join TOKEN of a new token, from 'mesh token create'"
        }
    }
}

/// Returns the identity of a node itself.
pub fn own_subject(node: &NodeName, role: Role) -> Subject {
    match role {
        Role::Proxy => Subject::Node(node.clone()),
        Role::Control => Subject::Control(node.clone()),
        Role::Operator => Subject::Operator(node.clone()),
    }
}

fn services(checked: &[Checked]) -> Vec<ServiceName> {
    checked.iter().filter_map(|checked| checked.subject.service().cloned()).collect()
}

fn check(requests: &[SigningRequest]) -> Result<Vec<Checked>, Error> {
    if requests.len() > REQUESTS_MAX {
        let reason = format!("{} certificates were asked for; {REQUESTS_MAX} at most", requests.len());
        return Err(Error::Request(reason));
    }
    let check_one = |request: &SigningRequest| {
        let csr = BASE64.decode(request.csr.as_bytes());
        let csr =
            csr.map_err(|_| Error::Request(format!("the request for {} is not base64", request.subject)))?;
        let proven = authority::prove(&request.subject, &csr)?;
        Ok(Checked { subject: request.subject.clone(), proven })
    };
    requests.iter().map(check_one).collect()
}

/// Returns the key that a node speaks with; operators do not speak, and get no keys of the gossip.
fn gossip_key(role: Role, text: &str) -> Result<Option<[u8; 32]>, Error> {
    match role {
        Role::Proxy | Role::Control => decode_gossip_key(text).map(Some),
        Role::Operator => Ok(None),
    }
}

fn decode_gossip_key(text: &str) -> Result<[u8; 32], Error> {
    let key = BASE64.decode(text.as_bytes()).ok().and_then(|key| key.try_into().ok());
    key.ok_or_else(|| Error::Request("gossipKey is not 32 bytes in base64".to_owned()))
}

/// Reads `id.secret`. What has another shape belongs to no token, and is not told apart from one.
fn parse_shown(text: &str) -> Result<TokenUse, Error> {
    let shown = text.split_once('.').filter(|(id, secret)| {
        let symbols = |text: &str| text.bytes().all(|byte| SYMBOLS.contains(&byte));
        id.len() == ID_CHARS && secret.len() == SECRET_CHARS && symbols(id) && symbols(secret)
    });
    let (id, secret) = shown.ok_or(Refusal::UnknownToken)?;
    Ok(TokenUse { id: id.to_owned(), secret_hash: HEXLOWER.encode(&sha256(secret.as_bytes())) })
}
