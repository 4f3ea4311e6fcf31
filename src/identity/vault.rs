//! What a proxy keeps on disk: its certificates with their keys, and whatever else must survive a restart. Rows of JSON in
//! a [`Db`], in a directory for its owner alone. Every call blocks: not for data-plane threads.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::identity::key::{self, Key};
use crate::identity::svid::{self, Svid};
use crate::model::identity::Subject;
use crate::net::disk::{self, Batch, Db};

/// The folder of the vault, in a proxy's data directory.
pub const STATE_DIR: &str = "state";
/// The version of what is kept. A newer one is refused; an older one is read.
const FORMAT: u32 = 1;
const SVID_PREFIX: &str = "svid/";

/// Why something cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The map below: nothing was changed, but for [`disk::Error::Io`].
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A row is whole but not what it should be: forget it, and fetch anew what it held.
    #[error("what is kept as {key} cannot be read: {reason}")]
    Row {
        /// The row.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It was closed, so that another process can have it. Nothing was changed.
    #[error("it is in the hands of another process")]
    Lent,
    /// A value cannot be written as JSON. Nothing was changed.
    #[error("{key} cannot be kept: {reason}")]
    Value {
        /// The row.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An SVID as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Leaf, then intermediates: DER in base64.
    chain: Vec<String>,
    /// PKCS#8 in base64.
    key: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// An open vault. Shared by reference.
#[derive(Debug)]
pub struct Vault {
    /// `None` while another process has it.
    db: RwLock<Option<Db>>,
    dir: PathBuf,
}

impl Vault {
    /// Opens the vault in `dir`, or makes it. Only its owner can read it afterwards, whatever it was before.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self { db: RwLock::new(Some(open(dir)?)), dir: dir.to_owned() })
    }

    /// Closes it, so that another process can open it: everything is on disk, and what is under way has ended. Until
    /// [`Self::reopen`], nothing can be read or written.
    pub fn close(&self) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens it again, unless it is open.
    ///
    /// # Errors
    /// When another process still has it, or has changed it so that this version cannot read it.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if db.is_none() {
            *db = Some(open(&self.dir)?);
        }
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&Db) -> Result<T, disk::Error>) -> Result<T, Error> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        Ok(work(db.as_ref().ok_or(Error::Lent)?)?)
    }

    /// Returns what is kept under `key`; `None` when nothing is.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let row = self.with(|db| db.get(key.as_bytes()))?.map(Zeroizing::new);
        row.map(|row| serde_json::from_slice(&row).map_err(|error| unreadable(key, &error))).transpose()
    }

    /// Keeps a value; it is on disk when this returns.
    pub fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let row = json(key, value)?;
        self.with(|db| db.put(key.as_bytes(), &row))
    }

    /// Forgets a value; it is gone from disk when this returns.
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        self.with(|db| db.remove(key.as_bytes()))
    }

    /// Keeps SVIDs, each in place of an older one of the same identity: all of them or none.
    pub fn put_svids(&self, svids: &[Arc<Svid>]) -> Result<(), Error> {
        let mut batch = Batch::default();
        for svid in svids {
            let key = svid_key(&svid.id.subject);
            let kept = Kept {
                chain: svid.chain().iter().map(|der| BASE64.encode(der)).collect(),
                key: BASE64.encode(svid.key().pkcs8()),
            };
            batch.put(key.as_bytes(), &json(&key, &kept)?);
        }
        self.with(|db| db.batch(batch))
    }

    /// Forgets an SVID.
    pub fn remove_svid(&self, subject: &Subject) -> Result<(), Error> {
        self.remove(&svid_key(subject))
    }

    /// Returns the SVIDs that are kept, expired ones too, sorted by identity.
    pub fn svids(&self) -> Result<Vec<Arc<Svid>>, Error> {
        let rows = self.with(|db| db.scan(SVID_PREFIX.as_bytes()))?;
        let read = |(key, row): (Vec<u8>, Vec<u8>)| {
            let row = Zeroizing::new(row);
            read_svid(&row)
                .map_err(|reason| Error::Row { key: String::from_utf8_lossy(&key).into_owned(), reason })
        };
        let mut svids = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        svids.sort_by(|a, b| a.id.subject.cmp(&b.id.subject));
        Ok(svids)
    }
}

fn open(dir: &Path) -> Result<Db, Error> {
    let db = Db::open(dir, FORMAT)?;
    close_to_others(dir).map_err(|source| disk::Error::Denied { dir: dir.to_owned(), source })?;
    Ok(db)
}

fn svid_key(subject: &Subject) -> String {
    format!("{SVID_PREFIX}{subject}")
}

fn read_svid(row: &[u8]) -> Result<Arc<Svid>, String> {
    let kept: Kept = serde_json::from_slice(row).map_err(|error| error.to_string())?;
    let decode = |text: &String| BASE64.decode(text.as_bytes()).map_err(|error| error.to_string());
    let chain = kept.chain.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let pkcs8 = Zeroizing::new(decode(&kept.key)?);
    let key = Key::from_pkcs8(&pkcs8).map_err(|error: key::Error| error.to_string())?;
    let svid = Svid::new(chain, Arc::new(key)).map_err(|error: svid::Error| error.to_string())?;
    Ok(Arc::new(svid))
}

/// Writes a value as JSON, in memory that is wiped: it may hold a key.
fn json<T: Serialize>(key: &str, value: &T) -> Result<Zeroizing<Vec<u8>>, Error> {
    let row = serde_json::to_vec(value);
    row.map(Zeroizing::new).map_err(|error| Error::Value { key: key.to_owned(), reason: error.to_string() })
}

fn unreadable(key: &str, error: &serde_json::Error) -> Error {
    Error::Row { key: key.to_owned(), reason: error.to_string() }
}

fn close_to_others(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}
