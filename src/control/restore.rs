//! A backup put in the place of what a data directory holds.
//!
//! The file is first placed in the directory, under a name of its own, and removed when all of it is in place: whatever
//! interrupts this, the next start of the control plane begins by doing it again. What was there before is kept as a backup
//! beside it.
//!
//! Revisions go on: the restored state continues after the newest revision that the lost one may have made, so that no
//! number ever means two things to a proxy, a watcher or a writer (as `etcdctl snapshot restore --bump-revision` has it).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use crate::control::backup::{self, Backup, Summary, Unfit};
use crate::control::collector::{MEMORY_ROW, Memory};
use crate::control::root::{self, ROOT_DIR, RootFiles};
use crate::control::{store, timeline};
use crate::logic::state::{Change, Command, Refusal, State};
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::view::EventView;
use crate::net::disk::{self, Db, Row};

/// The folder of the store, in the data directory.
pub const STORE_DIR: &str = "store";
/// The backup that is to be put in place.
const PENDING_FILE: &str = "restore.pending";
/// What was there before the last one was.
pub const BEFORE_FILE: &str = "before-restore.snapshot";
/// How many revisions a mesh that is lost may have made after its last backup. A write a minute makes half as many a year.
const LOST_REVISIONS_MAX: Revision = 1_000_000;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not to be used. Nothing was changed.
    #[error("the snapshot cannot be restored: {0}")]
    Unfit(#[from] Unfit),
    /// What is there is another mesh. Nothing was changed.
    #[error("{dir} holds the mesh {there}, and the snapshot is of {ours}{why}: give an empty --data-dir")]
    OtherMesh {
        /// The data directory.
        dir: PathBuf,
        /// Its mesh.
        there: String,
        /// The backup's.
        ours: String,
        /// What differs, if not the name.
        why: &'static str,
    },
    /// The store. Everything is as it was, or will be restored at the next start.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// What was there cannot be kept. Nothing was changed.
    #[error("what is there cannot be kept before the snapshot takes its place: {0}")]
    Keep(#[from] backup::Error),
    /// The files of the root.
    #[error(transparent)]
    Root(#[from] root::Error),
    /// The state in it does not go on.
    #[error("the snapshot cannot be restored: {0}")]
    Refused(#[from] Refusal),
    /// A file of the data directory.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Places a backup in a data directory, which is made when missing: it is restored when the control plane starts, or by
/// [`carry_out`]. Blocks.
pub fn place(data_dir: &Path, file: &[u8]) -> Result<(), Error> {
    let path = data_dir.join(PENDING_FILE);
    let placed = disk::make_dir(data_dir).and_then(|()| disk::write_file(&path, file, 0o600));
    placed.and_then(|()| own_like(data_dir, &path)).map_err(|source| Error::File { path, source })
}

/// Takes back what [`place`] did.
pub fn take_back(data_dir: &Path) {
    let _absent = fs::remove_file(data_dir.join(PENDING_FILE));
}

/// Returns the backup that waits in a data directory; `None` when none does. Blocks.
///
/// # Errors
/// When it is not to be used.
pub fn pending(data_dir: &Path) -> Result<Option<Backup>, Error> {
    let path = data_dir.join(PENDING_FILE);
    match fs::read(&path) {
        Ok(file) => Ok(Some(Backup::parse(&zeroize::Zeroizing::new(file))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path, source }),
    }
}

/// Returns whether a data directory holds a mesh, whole or damaged.
pub fn is_used(data_dir: &Path) -> bool {
    [STORE_DIR, ROOT_DIR].iter().any(|folder| data_dir.join(folder).exists())
}

/// Decides whether a backup may take the place of a mesh: of none but itself.
///
/// # Errors
/// When it is of another one.
pub fn fits(backup: &Backup, data_dir: &Path, there: &State) -> Result<(), Error> {
    let (Some(theirs), Some(ours)) = (there.mesh(), backup.state.mesh()) else { return Ok(()) };
    let other = |why| Error::OtherMesh {
        dir: data_dir.to_owned(),
        there: theirs.trust_domain.to_string(),
        ours: ours.trust_domain.to_string(),
        why,
    };
    if theirs.trust_domain != ours.trust_domain {
        return Err(other(""));
    }
    match RootFiles::read(data_dir) {
        Ok(root) if root.fingerprint() != backup.root.fingerprint() => Err(other(" with another root")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Restores the backup that waits in a data directory; returns what was in it, and the revision that it goes on at; `None`
/// when none waits. Nobody may have the store open. Blocks.
pub fn carry_out(data_dir: &Path, now_ms: u64) -> Result<Option<(Summary, Revision)>, Error> {
    let Some(backup) = pending(data_dir)? else { return Ok(None) };
    let mut rows = backup.rows()?;
    let dir = data_dir.join(STORE_DIR);
    let (db, there) = open(&dir, now_ms)?;
    fits(&backup, data_dir, &there)?;
    if there.mesh().is_some() {
        keep(&there, &db, data_dir, &backup.node, now_ms)?;
    }
    let after = match there.mesh() {
        Some(_) => there.revision(),
        None => backup.state.revision() + LOST_REVISIONS_MAX,
    };
    let summary = backup.summary();
    let Backup { mut state, root, taken_ms, .. } = backup;
    let did = state.apply(Command::new(now_ms, Change::Resume { taken_ms, after }))?;
    tell(&mut rows, did.iter().filter_map(|event| timeline::entry(event, now_ms)));
    root.write(data_dir)?;
    store::replace(&db, &state, rows)?;
    drop(db);
    own_like(data_dir, data_dir).map_err(|source| Error::File { path: data_dir.to_owned(), source })?;
    let path = data_dir.join(PENDING_FILE);
    fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
    tracing::warn!(mesh = summary.mesh, taken_ms, revision = state.revision(), "restored from a snapshot");
    Ok(Some((summary, state.revision())))
}

/// Puts events on the timeline that is among the rows.
fn tell(rows: &mut Vec<Row>, events: impl Iterator<Item = EventView>) {
    let place = rows.iter().position(|(key, _)| key == MEMORY_ROW);
    let row = place.map(|place| rows.swap_remove(place).1);
    let mut memory: Memory = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
    memory.events.extend(events);
    rows.push((MEMORY_ROW.to_vec(), serde_json::to_vec(&memory).unwrap_or_default()));
}

/// Opens the store; one that is damaged, or of a newer version, is set aside.
fn open(dir: &Path, now_ms: u64) -> Result<(Db, State), Error> {
    let opened = Db::open(dir, store::FORMAT).map_err(store::Error::from);
    match opened.and_then(|db| store::read(&db, dir).map(|state| (db, state))) {
        Ok(found) => Ok(found),
        Err(
            store::Error::Damaged { .. }
            | store::Error::Disk(disk::Error::Corrupt { .. } | disk::Error::Newer { .. }),
        ) => {
            let aside = dir.with_file_name(format!("{STORE_DIR}.aside-{now_ms}"));
            tracing::warn!(aside = %aside.display(), "the store there cannot be read: set aside");
            fs::rename(dir, aside).map_err(|source| Error::File { path: dir.to_owned(), source })?;
            Ok((Db::open(dir, store::FORMAT)?, State::default()))
        }
        Err(store::Error::Disk(error)) => Err(error.into()),
        Err(error @ store::Error::Thread(_)) => {
            Err(Error::File { path: dir.to_owned(), source: io::Error::other(error) })
        }
    }
}

/// Keeps what is there as a backup, unless this restoration has begun before, and has done so then.
fn keep(there: &State, db: &Db, data_dir: &Path, node: &NodeName, now_ms: u64) -> Result<(), Error> {
    let path = data_dir.join(BEFORE_FILE);
    let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    if written(&path) >= written(&data_dir.join(PENDING_FILE)) {
        return Ok(());
    }
    let file = Backup::take(there, db, data_dir, node, now_ms)?.to_bytes()?;
    disk::write_file(&path, &file, 0o600).map_err(|source| Error::File { path, source })
}

/// Gives `path`, and what is below it, to whoever owns the data directory: root restores for the service's own user.
fn own_like(data_dir: &Path, path: &Path) -> io::Result<()> {
    let owner = fs::metadata(data_dir)?;
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) != (owner.uid(), owner.gid()) {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            own_like(data_dir, &entry?.path())?;
        }
    }
    Ok(())
}
