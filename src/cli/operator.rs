//! What a person who administers the mesh from elsewhere holds: an operator's certificate, in a file of their own.
//!
//! It is got with a token by `mesh login`, lasts a day, and is renewed by whatever command is run after half of that, for as
//! long as the operator is not removed (`mesh leave NAME`).

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::api::client::Client;
use crate::api::wire::{Issued, JoinRequest, RenewRequest, SigningRequest};
use crate::cli::exit::{Exit, refuse};
use crate::identity::certificate::{Certificate, sha256};
use crate::identity::key::Key;
use crate::identity::svid::Svid;
use crate::identity::verifier::prove;
use crate::identity::wallet::Wallet;
use crate::model::endpoint::Role;
use crate::model::identity::{Subject, TrustDomain};
use crate::model::name::NodeName;
use crate::model::snapshot::Snapshot;
use crate::model::token::Token;
use crate::net::{clock, disk};

const FOLDER: &str = "mesh";
const FILE: &str = "operator.json";

/// The content of the file. Binary parts are in base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    trust_domain: TrustDomain,
    controls: Vec<String>,
    name: NodeName,
    bundle: Vec<String>,
    chain: Vec<String>,
    key: String,
}

/// An operator's certificate with all that is needed to use it.
#[derive(Clone)]
pub(crate) struct Operator {
    name: NodeName,
    controls: Vec<String>,
    bundle: Vec<Vec<u8>>,
    trust_domain: TrustDomain,
    svid: Arc<Svid>,
}

/// Returns the file, which need not exist; `None` for a user without a home.
pub(crate) fn path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join(FOLDER).join(FILE))
}

/// Removes the file; returns whether it was there.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn forget() -> anyhow::Result<bool> {
    let Some(path) = path() else { return Ok(false) };
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

impl Operator {
    /// Becomes the operator of that name, by a token, and keeps what proves it.
    ///
    /// # Errors
    /// When the token is refused, or whoever answers is not the mesh that it pins. Nothing is kept then.
    pub(crate) async fn join(token: &Token, name: NodeName) -> anyhow::Result<Self> {
        let key = Arc::new(Key::generate()?);
        let subject = Subject::Operator(name.clone());
        let request = JoinRequest {
            token: format!("{}.{}", token.id, token.secret),
            node: name.clone(),
            role: Role::Operator,
            requests: vec![SigningRequest { subject, csr: BASE64.encode(&key.request()?) }],
            gossip_key: String::new(),
        };
        let issued = Client::pinned(token).join(&request).await?;
        let bundle = bundle(&issued.snapshot)?;
        let is_pinned =
            |root: &Vec<u8>| Certificate::parse(root).is_ok_and(|root| sha256(&root.public) == token.pin);
        if !bundle.iter().any(is_pinned) {
            bail!("the control plane's bundle lacks the root that the token pins");
        }
        let svid = Arc::new(Svid::new(chain(&issued)?, key)?);
        let trust_domain = issued.snapshot.trust_domain;
        let joined = Self { name, controls: token.controls.clone(), bundle, trust_domain, svid };
        joined.check()?;
        joined.keep()?;
        Ok(joined)
    }

    /// Reads what was kept; `None` when nobody has logged in.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub(crate) fn load() -> anyhow::Result<Option<Self>> {
        let Some(path) = path() else { return Ok(None) };
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let read = || -> anyhow::Result<Self> {
            let kept: Kept = serde_json::from_slice(&text)?;
            let key = Zeroizing::new(BASE64.decode(kept.key.as_bytes())?);
            let svid = Svid::new(decode(&kept.chain)?, Arc::new(Key::from_pkcs8(&key)?))?;
            Ok(Self {
                name: kept.name,
                controls: kept.controls,
                bundle: decode(&kept.bundle)?,
                trust_domain: kept.trust_domain,
                svid: Arc::new(svid),
            })
        };
        read()
            .map(Some)
            .with_context(|| format!("{} is damaged: log in again with 'mesh login TOKEN'", path.display()))
    }

    /// Returns a client that speaks as this operator, to the control plane at `host:port` or to those known; renews the
    /// certificate first when that is due.
    ///
    /// # Errors
    /// When the certificate has expired and is not renewed.
    pub(crate) async fn client(mut self, control: Option<String>) -> anyhow::Result<Client> {
        let controls = control.map_or_else(|| self.controls.clone(), |control| vec![control]);
        let now_ms = clock::wall_ms();
        let life_ms = self.svid.not_after_ms.saturating_sub(self.svid.not_before_ms);
        if now_ms >= self.svid.not_before_ms + life_ms / 2
            && let Err(error) = self.renew(&controls).await
            && now_ms >= self.svid.not_after_ms
        {
            let text = "your operator's certificate has expired and was not renewed; 'mesh login TOKEN' makes a new one";
            return Err(error.context(text));
        }
        Ok(self.speaking(controls))
    }

    fn speaking(&self, controls: Vec<String>) -> Client {
        let controls = watch::Sender::new(controls).subscribe();
        let wallet = watch::Sender::new(Arc::new(self.wallet())).subscribe();
        Client::with_wallet(controls, wallet, Subject::Operator(self.name.clone()))
    }

    async fn renew(&mut self, controls: &[String]) -> anyhow::Result<()> {
        let key = self.svid.key().clone();
        let subject = Subject::Operator(self.name.clone());
        let request = RenewRequest {
            requests: vec![SigningRequest { subject, csr: BASE64.encode(&key.request()?) }],
            gossip_key: String::new(),
        };
        let issued = self.speaking(controls.to_vec()).renew(&request).await?;
        let svid = Arc::new(Svid::new(chain(&issued)?, key)?);
        let renewed = Self { svid, bundle: bundle(&issued.snapshot)?, ..self.clone() };
        renewed.check()?;
        renewed.keep()?;
        *self = renewed;
        Ok(())
    }

    fn wallet(&self) -> Wallet {
        Wallet {
            trust_domain: self.trust_domain.clone(),
            bundle: self.bundle.iter().cloned().map(Into::into).collect(),
            svids: [(self.svid.id.subject.clone(), self.svid.clone())].into(),
            banned: [].into(),
        }
    }

    /// Checks that the certificate is this operator's and would be accepted.
    fn check(&self) -> anyhow::Result<()> {
        if self.svid.id.subject != Subject::Operator(self.name.clone()) {
            bail!("the control plane issued a certificate for {}", self.svid.id.subject);
        }
        prove(&self.svid, &self.wallet(), clock::wall_ms())
            .context("the control plane issued a certificate that would be refused")
    }

    fn keep(&self) -> anyhow::Result<()> {
        let path = path().ok_or_else(|| {
            refuse(Exit::Refused, "there is nowhere to keep the certificate: HOME is not set".to_owned())
        })?;
        let encode = |parts: &[Vec<u8>]| parts.iter().map(|part| BASE64.encode(part)).collect();
        let kept = Kept {
            trust_domain: self.trust_domain.clone(),
            controls: self.controls.clone(),
            name: self.name.clone(),
            bundle: encode(&self.bundle),
            chain: self.svid.chain().iter().map(|der| BASE64.encode(der)).collect(),
            key: BASE64.encode(self.svid.key().pkcs8()),
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&kept)?);
        let write = || {
            path.parent().map_or(Ok(()), disk::make_dir)?;
            disk::write_file(&path, &text, 0o600)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns the operator's name.
    pub(crate) fn name(&self) -> &NodeName {
        &self.name
    }

    /// Returns the control planes that it talks to, `host:port`.
    pub(crate) fn controls(&self) -> &[String] {
        &self.controls
    }
}

fn bundle(snapshot: &Snapshot) -> anyhow::Result<Vec<Vec<u8>>> {
    decode(&snapshot.bundle)
}

fn chain(issued: &Issued) -> anyhow::Result<Vec<Vec<u8>>> {
    let [certificate] = issued.certificates.as_slice() else {
        return Err(anyhow!("the control plane did not issue one certificate"));
    };
    decode(&certificate.chain)
}

fn decode(parts: &[String]) -> anyhow::Result<Vec<Vec<u8>>> {
    parts.iter().map(|part| Ok(BASE64.decode(part.as_bytes())?)).collect()
}
