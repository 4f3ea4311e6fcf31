//! A snapshot of the control plane in one file: all that another one needs to go on in its place. The word of the command
//! line is `snapshot`; here that is what proxies are given, so this is a backup.
//!
//! The file is three lines: what it is and the version of its form, the content as JSON, and the SHA-256 of the two lines
//! before. The content is the state at one revision, the rows beside it (the intermediate certificate and the serving key
//! with their private keys, the gossip key), and the files of the root: **whoever reads it can be the mesh.**

use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::control::root::{self, RootFiles};
use crate::control::store;
use crate::identity::certificate::sha256;
use crate::logic::state::State;
use crate::model::endpoint::Role;
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::net::disk::{self, Db};

/// The version of the form. A newer one is refused.
const FORM: u32 = 1;
const TITLE: &str = "mesh control snapshot ";
const SUM: &str = "sha256 ";

/// Why a backup cannot be taken. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rows of the store.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The files of the root.
    #[error(transparent)]
    Root(#[from] root::Error),
    /// The state has no JSON.
    #[error("the state cannot be written down: {0}")]
    Content(#[from] serde_json::Error),
}

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is something else.
    #[error("it is no snapshot of a control plane: 'mesh snapshot save' makes one")]
    Foreign,
    /// It is of a newer form, or its store is.
    #[error(
        "it was made by a newer mesh ({what} {found}, this one knows {known}): use that version, or one after it"
    )]
    Newer {
        /// The version of what.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// Its end is missing.
    #[error("it is cut short: its last line is not its checksum; copy it again, or use an older one")]
    Short,
    /// Its content is not what was written.
    #[error(
        "it is damaged: its content does not have the checksum in its last line; copy it again, or use an older one"
    )]
    Damaged,
    /// Its content is whole and makes no sense.
    #[error("its content cannot be used: {0}")]
    Content(String),
}

/// All that a control plane is.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backup {
    /// When it was taken, Unix milliseconds.
    pub taken_ms: u64,
    /// By which control plane.
    pub node: NodeName,
    /// By which version of the program.
    pub build: String,
    /// The version of what is kept in the store.
    store_format: u32,
    /// What is remembered.
    pub state: State,
    /// The rows beside it: key → value in base64.
    rows: BTreeMap<String, String>,
    /// The files of the root.
    pub root: RootFiles,
}

impl std::fmt::Debug for Backup {
    /// Leaves the content out: it holds keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("taken_ms", &self.taken_ms).finish_non_exhaustive()
    }
}

/// What is in a backup, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The trust domain.
    pub mesh: String,
    /// The revision it shows.
    pub revision: Revision,
    /// When it was taken, Unix milliseconds.
    pub taken_ms: u64,
    /// By which control plane.
    pub node: NodeName,
    /// By which version of the program.
    pub build: String,
    /// Objects by kind.
    pub objects: BTreeMap<String, usize>,
    /// Hosts that were let in.
    pub proxies: usize,
    /// Operators that were let in.
    pub operators: usize,
    /// Join tokens.
    pub tokens: usize,
    /// Banned nodes.
    pub banned: Vec<NodeName>,
    /// SHA-256 of the root certificate, hexadecimal.
    pub root: String,
    /// Whether the root's private key is in it; not when the root was brought along.
    pub has_root_key: bool,
}

impl Backup {
    /// Takes a backup of `state` and of what lies beside it in `db` and `data_dir`. Blocks.
    pub fn take(
        state: &State,
        db: &Db,
        data_dir: &Path,
        node: &NodeName,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let mut rows = BTreeMap::new();
        for (key, value) in store::rows_beside(db)? {
            rows.insert(String::from_utf8_lossy(&key).into_owned(), BASE64.encode(&Zeroizing::new(value)));
        }
        Ok(Self {
            taken_ms: now_ms,
            node: node.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            store_format: store::FORMAT,
            state: state.clone(),
            rows,
            root: RootFiles::read(data_dir)?,
        })
    }

    /// Returns the file.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut file = Zeroizing::new(format!("{TITLE}{FORM}\n").into_bytes());
        serde_json::to_writer(&mut *file, self)?;
        file.push(b'\n');
        let sum = HEXLOWER.encode(&sha256(&file));
        file.extend_from_slice(format!("{SUM}{sum}\n").as_bytes());
        Ok(file)
    }

    /// Reads a file: its form, its checksum, its content.
    ///
    /// # Errors
    /// Why it is not to be used.
    pub fn parse(file: &[u8]) -> Result<Self, Unfit> {
        let title = file.strip_prefix(TITLE.as_bytes()).ok_or(Unfit::Foreign)?;
        let end = title.iter().position(|byte| *byte == b'\n').ok_or(Unfit::Short)?;
        let (form, rest) = title.split_at(end);
        let form = std::str::from_utf8(form).ok().and_then(|form| form.parse().ok()).ok_or(Unfit::Damaged)?;
        newer("form", form, FORM)?;
        let body = rest.strip_prefix(b"\n").ok_or(Unfit::Short)?;
        let last = body.strip_suffix(b"\n").and_then(|body| body.iter().rposition(|byte| *byte == b'\n'));
        let (content, sum) = body.split_at(last.ok_or(Unfit::Short)? + 1);
        let sum = sum.strip_prefix(SUM.as_bytes()).and_then(|sum| HEXLOWER.decode(sum.trim_ascii_end()).ok());
        let whole = file.get(..file.len() - body.len() + content.len()).ok_or(Unfit::Short)?;
        if sum.ok_or(Unfit::Short)? != sha256(whole) {
            return Err(Unfit::Damaged);
        }
        let backup: Self =
            serde_json::from_slice(content).map_err(|error| Unfit::Content(error.to_string()))?;
        newer("store", backup.store_format, store::FORMAT)?;
        backup.root.check().map_err(|error| Unfit::Content(error.to_string()))?;
        match backup.state.mesh() {
            Some(_) => Ok(backup),
            None => Err(Unfit::Content("no mesh was founded in it".to_owned())),
        }
    }

    /// Returns the rows beside the state.
    ///
    /// # Errors
    /// When one of them is not base64.
    pub fn rows(&self) -> Result<Vec<disk::Row>, Unfit> {
        let row = |(key, value): (&String, &String)| {
            let value = BASE64.decode(value.as_bytes());
            let value = value.map_err(|error| Unfit::Content(format!("the row {key}: {error}")))?;
            Ok((key.clone().into_bytes(), value))
        };
        self.rows.iter().map(row).collect()
    }

    /// Returns what is in it, without its secrets.
    pub fn summary(&self) -> Summary {
        let mut objects = BTreeMap::new();
        for key in self.state.resources().keys() {
            *objects.entry(key.kind.plural().to_owned()).or_default() += 1;
        }
        let count = |role| self.state.nodes().values().filter(|node| node.role == role).count();
        Summary {
            mesh: self.state.mesh().map(|mesh| mesh.trust_domain.to_string()).unwrap_or_default(),
            revision: self.state.revision(),
            taken_ms: self.taken_ms,
            node: self.node.clone(),
            build: self.build.clone(),
            objects,
            proxies: count(Role::Proxy),
            operators: count(Role::Operator),
            tokens: self.state.tokens().len(),
            banned: self.state.banned().keys().cloned().collect(),
            root: self.root.fingerprint(),
            has_root_key: self.root.key.is_some(),
        }
    }
}

fn newer(what: &'static str, found: u32, known: u32) -> Result<(), Unfit> {
    if found > known { Err(Unfit::Newer { what, found, known }) } else { Ok(()) }
}
