//! A proxy's membership: how a host becomes a node of the mesh, and what of that it keeps on its own disk, so that it
//! starts and serves while every control plane is away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::client::{self, Client};
use crate::api::wire::{Issued, JoinRequest, RenewRequest, SigningRequest};
use crate::gossip::pass::{self, Signer};
use crate::identity::certificate::{Certificate, sha256};
use crate::identity::key::{self, Key};
use crate::identity::renewer::{Issuer, Unissued, Wish};
use crate::identity::svid::{self, Svid};
use crate::identity::vault::{self, Vault};
use crate::identity::verifier::{Distrust, prove};
use crate::identity::wallet::Wallet;
use crate::logic::bans;
use crate::model::endpoint::Role;
use crate::model::identity::Subject;
use crate::model::name::NodeName;
use crate::model::snapshot::{BanList, GossipPass, Snapshot};
use crate::model::token::Token;
use crate::net::clock;

const MEMBERSHIP_ROW: &str = "membership";
const SNAPSHOT_ROW: &str = "snapshot";
const PEERS_ROW: &str = "peers";
const BANS_ROW: &str = "bans";
/// How long the start waits for control's word on a membership: without it, the membership is good.
const ASK_MAX: Duration = Duration::from_secs(3);

/// Why this host is no member. What was on disk is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused, or is damaged.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// It never joined, and was not told how to.
    #[error(
        "this host has not joined a mesh yet: start it with --join TOKEN, from 'mesh token create' on the control plane"
    )]
    NoToken,
    /// The state on disk is another node's.
    #[error(
        "the data directory belongs to the node {kept}, not {wanted}: start with --node {kept}, or give this node a \
         --data-dir of its own"
    )]
    OtherNode {
        /// Whose it is.
        kept: NodeName,
        /// Who starts.
        wanted: NodeName,
    },
    /// The token is of another mesh than the state on disk.
    #[error(
        "this host is a member of the mesh {0}, and the token is of another one: leave out --join, or use another \
         --data-dir to join that mesh"
    )]
    OtherMesh(String),
    /// The control plane refused, or is not there.
    #[error("joining the mesh failed: {0}{advice}", advice = advice(.0))]
    Join(#[from] client::Error),
    /// It was told to end before it had joined, or could tell whether it still is a member.
    #[error("told to end before this host had joined: {0}")]
    Stopped(String),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// No gossip key could be made.
    #[error(transparent)]
    Signer(#[from] pass::Error),
    /// What control issued makes no SVID.
    #[error("the control plane issued an unusable certificate: {0}")]
    Svid(#[from] svid::Error),
    /// What control issued does not come from the mesh it says it is of.
    #[error("the control plane issued a certificate that would be refused: {0}")]
    Distrusted(#[from] Distrust),
    /// What control issued cannot be read.
    #[error("the control plane's answer cannot be used: {0}")]
    Answer(&'static str),
}

/// Says what to do about a control plane that does not answer; whoever refuses says so itself.
fn advice(error: &client::Error) -> &'static str {
    match error {
        client::Error::Unreachable(_) | client::Error::TimedOut | client::Error::Broken(_) => {
            "; is 'mesh control' running there, and TCP port 7443 open from here? 'mesh check --pre --join TOKEN' tries the way"
        }
        client::Error::WrongPin(_) | client::Error::Problem(_) => "",
    }
}

const NO_PASS: Error = Error::Answer("it gave no gossip pass");

/// The row that says who this is.
#[derive(Serialize, Deserialize)]
struct Kept {
    node: NodeName,
    /// PKCS#8 of the gossip key, base64.
    signer: String,
    pass: GossipPass,
    /// The id of the token that it joined with; empty in rows of older versions.
    #[serde(default)]
    token: String,
}

/// What makes this host a node.
#[derive(Debug)]
pub struct Membership {
    /// This node.
    pub node: NodeName,
    /// Control's word on the gossip key.
    pub pass: GossipPass,
    /// The last snapshot taken.
    pub snapshot: Snapshot,
    /// The last list of bans that was heard of, from control or from another member.
    pub bans: Option<BanList>,
    /// The certificates held, expired ones too.
    pub svids: Vec<Arc<Svid>>,
    signer: Zeroizing<Vec<u8>>,
    token: String,
}

impl Membership {
    /// Returns which node it was at an earlier start; `None` when this host never joined.
    ///
    /// # Errors
    /// When the disk is damaged.
    pub fn kept_node(vault: &Vault) -> Result<Option<NodeName>, Error> {
        Ok(vault.get::<Kept>(MEMBERSHIP_ROW)?.map(|kept| kept.node))
    }

    /// Reads the membership of an earlier start; `None` when this host never joined.
    ///
    /// # Errors
    /// When the disk is damaged, or belongs to another node or, if a token is given, another mesh.
    pub fn load(vault: &Vault, node: &NodeName, token: Option<&Token>) -> Result<Option<Self>, Error> {
        let (Some(kept), Some(snapshot)) =
            (vault.get::<Kept>(MEMBERSHIP_ROW)?, vault.get::<Snapshot>(SNAPSHOT_ROW)?)
        else {
            return Ok(None);
        };
        if kept.node != *node {
            return Err(Error::OtherNode { kept: kept.node, wanted: node.clone() });
        }
        if token.is_some_and(|token| !pins(&snapshot, &token.pin)) {
            return Err(Error::OtherMesh(snapshot.trust_domain.to_string()));
        }
        let signer = Zeroizing::new(decode(&kept.signer)?);
        Ok(Some(Self {
            node: kept.node,
            pass: kept.pass,
            bans: bans::newest(snapshot.bans.clone(), vault.get(BANS_ROW)?),
            snapshot,
            svids: vault.svids()?,
            signer,
            token: kept.token,
        }))
    }

    /// Joins with a token as a proxy that speaks for `subjects`, and keeps what it was given.
    ///
    /// # Errors
    /// When the token is refused, or its control plane is not there or not the one that it pins. Nothing is kept then.
    pub async fn join(
        vault: &Vault,
        node: &NodeName,
        subjects: &BTreeSet<Subject>,
        token: &Token,
    ) -> Result<Self, Error> {
        let signer = Signer::generate()?;
        let mut keys = Vec::new();
        let mut requests = Vec::new();
        for subject in subjects {
            let key = Arc::new(Key::generate()?);
            requests.push(SigningRequest { subject: subject.clone(), csr: BASE64.encode(&key.request()?) });
            keys.push(key);
        }
        let request = JoinRequest {
            token: format!("{}.{}", token.id, token.secret),
            node: node.clone(),
            role: Role::Proxy,
            requests,
            gossip_key: signer.public_key_base64(),
        };
        let issued = Client::pinned(token).join(&request).await?;
        if !pins(&issued.snapshot, &token.pin) {
            return Err(Error::Answer("its bundle lacks the root that the token pins"));
        }
        let chains = chains(&issued, subjects.len())?;
        let svids = chains.into_iter().zip(keys).map(|(chain, key)| Ok(Arc::new(Svid::new(chain, key)?)));
        let svids = svids.collect::<Result<Vec<_>, Error>>()?;
        if !svids.iter().map(|svid| &svid.id.subject).eq(subjects) {
            return Err(Error::Answer("it issued certificates for somebody else"));
        }
        let signer = Zeroizing::new(signer.to_pkcs8()?);
        let pass = issued.gossip_pass.ok_or(NO_PASS)?;
        let kept = Kept {
            node: node.clone(),
            signer: BASE64.encode(&signer),
            pass: pass.clone(),
            token: token.id.clone(),
        };
        let (node, token) = (node.clone(), token.id.clone());
        let joined = Self {
            node,
            pass,
            bans: issued.snapshot.bans.clone(),
            snapshot: issued.snapshot,
            svids,
            signer,
            token,
        };
        let wallet = joined.wallet()?;
        joined.svids.iter().try_for_each(|svid| prove(svid, &wallet, clock::wall_ms()))?;
        vault.put_svids(&joined.svids)?;
        keep_snapshot(vault, &joined.snapshot)?;
        vault.put(MEMBERSHIP_ROW, &kept)?;
        Ok(joined)
    }

    /// Returns whether it is the outcome of this token: a node that was removed does not come back by what let it in.
    pub fn came_by(&self, token: &Token) -> bool {
        self.token == token.id
    }

    /// Asks the control planes, first those that `token` names, whether this node is still a member; returns why not.
    /// While none of them answers, it is.
    ///
    /// # Errors
    /// When what is on disk cannot be read.
    pub async fn refusal(&self, token: &Token) -> Result<Option<String>, Error> {
        let own = Subject::Node(self.node.clone());
        if !self.svids.iter().any(|svid| svid.id.subject == own) {
            return Ok(Some("its own certificate is not on disk".to_owned()));
        }
        let controls = token.controls.iter().chain(&self.snapshot.controls).cloned().collect();
        let (controls, wallet) = (watch::Sender::new(controls), watch::Sender::new(Arc::new(self.wallet()?)));
        let client = Client::with_wallet(controls.subscribe(), wallet.subscribe(), own);
        // Renewing nothing changes nothing, and is judged as any renewal: expired certificates may, removed nodes may not.
        let request = RenewRequest { requests: Vec::new(), gossip_key: self.signer()?.public_key_base64() };
        let answer = timeout(ASK_MAX, client.renew(&request)).await;
        Ok(match answer {
            Ok(Err(client::Error::Problem(problem))) if matches!(problem.status, 401 | 403 | 404) => {
                Some(problem.to_string())
            }
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        })
    }

    /// Returns the key that signs what this node says of itself.
    pub fn signer(&self) -> Result<Signer, Error> {
        Ok(Signer::from_pkcs8(&self.signer)?)
    }

    /// Returns all that is needed to prove and judge.
    pub fn wallet(&self) -> Result<Wallet, Error> {
        Ok(Wallet {
            trust_domain: self.snapshot.trust_domain.clone(),
            bundle: roots(&self.snapshot)?.into_iter().map(Into::into).collect(),
            svids: self.svids.iter().map(|svid| (svid.id.subject.clone(), svid.clone())).collect(),
            banned: bans::in_force(&self.snapshot, self.bans.as_ref()).iter().cloned().collect(),
        })
    }
}

/// Keeps a snapshot: it is in force after a restart.
pub fn keep_snapshot(vault: &Vault, snapshot: &Snapshot) -> Result<(), Error> {
    Ok(vault.put(SNAPSHOT_ROW, snapshot)?)
}

/// Keeps a list of bans: it is in force after a restart, as long as no later snapshot says otherwise.
pub fn keep_bans(vault: &Vault, list: &BanList) -> Result<(), Error> {
    Ok(vault.put(BANS_ROW, list)?)
}

/// Keeps the gossip addresses of members that were seen.
pub fn keep_peers(vault: &Vault, peers: &[SocketAddr]) -> Result<(), Error> {
    Ok(vault.put(PEERS_ROW, &peers)?)
}

/// Returns the gossip addresses kept.
pub fn peers(vault: &Vault) -> Result<Vec<SocketAddr>, Error> {
    Ok(vault.get(PEERS_ROW)?.unwrap_or_default())
}

/// Control as the issuer of this node's certificates. The gossip pass comes with each answer.
#[derive(Debug)]
pub struct ControlIssuer {
    /// The way to control, as this node.
    pub client: Client,
    /// The public gossip key, base64.
    pub gossip_key: String,
    /// The vault that keeps the pass.
    pub vault: Arc<Vault>,
    /// Where new passes go.
    pub passes: watch::Sender<GossipPass>,
}

impl Issuer for ControlIssuer {
    async fn issue(&self, wishes: Vec<Wish>) -> Result<Vec<Vec<Vec<u8>>>, Unissued> {
        let count = wishes.len();
        let request =
            |wish: Wish| SigningRequest { subject: wish.subject, csr: BASE64.encode(&wish.request) };
        let request = RenewRequest {
            requests: wishes.into_iter().map(request).collect(),
            gossip_key: self.gossip_key.clone(),
        };
        let issued = self.client.renew(&request).await.map_err(|error| Unissued(error.to_string()))?;
        let pass = issued.gossip_pass.clone().ok_or_else(|| Unissued(NO_PASS.to_string()))?;
        self.keep_pass(pass).await.map_err(|error| Unissued(error.to_string()))?;
        chains(&issued, count).map_err(|error| Unissued(error.to_string()))
    }
}

impl ControlIssuer {
    async fn keep_pass(&self, pass: GossipPass) -> Result<(), Error> {
        let (vault, renewed) = (self.vault.clone(), pass.clone());
        let written = tokio::task::spawn_blocking(move || {
            let kept = vault.get::<Kept>(MEMBERSHIP_ROW)?;
            kept.map_or(Ok(()), |kept| vault.put(MEMBERSHIP_ROW, &Kept { pass: renewed, ..kept }))
        });
        written.await.map_err(|_| Error::Answer("the disk was not reached"))??;
        self.passes.send_replace(pass);
        Ok(())
    }
}

/// Returns the roots of a snapshot: DER.
pub fn roots(snapshot: &Snapshot) -> Result<Vec<Vec<u8>>, Error> {
    snapshot.bundle.iter().map(|der| decode(der)).collect()
}

fn decode(text: &str) -> Result<Vec<u8>, Error> {
    BASE64.decode(text.as_bytes()).map_err(|_| Error::Answer("it is not base64"))
}

/// Returns whether one of a snapshot's roots has the pinned key.
fn pins(snapshot: &Snapshot, pin: &[u8; 32]) -> bool {
    let root = |der: &String| Certificate::parse(&decode(der).ok()?).ok();
    snapshot.bundle.iter().filter_map(root).any(|root| sha256(&root.public) == *pin)
}

/// Returns the chains that were issued: DER, leaf first.
fn chains(issued: &Issued, count: usize) -> Result<Vec<Vec<Vec<u8>>>, Error> {
    if issued.certificates.len() != count {
        return Err(Error::Answer("it did not issue as many certificates as were asked for"));
    }
    let chain = |certificate: &crate::api::wire::IssuedCertificate| {
        certificate.chain.iter().map(|der| decode(der)).collect::<Result<Vec<_>, _>>()
    };
    issued.certificates.iter().map(chain).collect()
}
