//! The only file that knows `sled`: a small map of bytes on disk where whatever was acknowledged stays.
//!
//! Known traps of sled 0.34, and what is done about them here:
//! - `flush` only starts the write-back: every write is followed by `fdatasync` on a handle of our own.
//! - A crash while it writes a snapshot of its index leaves `snap.*.generating`, which it then refuses to open: such
//!   files are removed first. A damaged `snap.*` is moved aside once; the log it summarises is complete without it.
//! - A damaged log makes it panic while opening: caught, and told as [`Error::Corrupt`]; a new map never takes its place.
//! - A full disk can leave it unopenable: writes are refused while there is still [`FREE_MIN`] left.
//!
//! Rows carry a CRC-32, all checked when the map is opened. Every call blocks: not for data-plane threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

/// What the name of a file ends in that is being written, until it is whole.
pub const PARTIAL: &str = ".partial";
/// Writes are refused when the file system has less left, bytes.
pub const FREE_MIN: u64 = 32 << 20;
const CACHE_BYTES: u64 = 16 << 20;
/// How often sled starts writing back on its own; every write of ours is followed by a sync anyway.
const FLUSH_EVERY_MS: u64 = 500;
/// A process that was just killed, or a map that was just closed, lets go of its lock within this time.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);
const CHECKSUM_BYTES: usize = 4;
const FORMAT_ROW: &[u8] = b"\0format";
/// A file that is there once the map was made: an empty map beside it has lost everything, and is not a new one.
const MARK_FILE: &str = "initialised";
/// The file that says that the map is open; no other one takes its place while it is.
const LOCK_FILE: &str = "lock";

/// Why the map cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error(
        "{0} is in use by another process: stop that one first, or give this one a --data-dir of its own"
    )]
    Locked(PathBuf),
    /// It may not be written by this user.
    #[error(
        "{dir} cannot be written ({source}): check its owner and mode, and that the file system is not read-only, or choose another --data-dir"
    )]
    Denied {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was written by a newer mesh.
    #[error(
        "{dir} was written by a newer mesh (format {found}, this one knows {known}): run that version, or restore a snapshot made by this one"
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The format known.
        known: u32,
    },
    /// It is damaged.
    #[error(
        "{dir} is damaged ({reason}): move it aside and put a copy of it in its place; without one, start anew with an empty directory"
    )]
    Corrupt {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file system is nearly full. Nothing was written; try again when there is room.
    #[error("less than 32 MiB are left on the file system of {0}: nothing was written; make room")]
    Full(PathBuf),
    /// It is not there any more, though it is open. Nothing was written.
    #[error(
        "{0} was removed or replaced while this process ran: nothing was written; put it back from a copy and start this process again"
    )]
    Gone(PathBuf),
    /// The system refused. After a failed write it is unknown whether it lasts: the process should end.
    #[error("cannot use {dir}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Changes that happen together or not at all.
#[derive(Default)]
pub struct Batch(sled::Batch);

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key, seal(value));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

impl std::fmt::Debug for Batch {
    /// Tells nothing: rows may be keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

/// A row: its key, its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// An open map: rows of bytes, sorted by key.
pub struct Db {
    map: sled::Db,
    /// The log of `map`, to sync it.
    log: File,
    dir: PathBuf,
    /// Held as long as the map is open; released after it.
    lock: File,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the map in `dir`, which is made, with mode 0700, when missing; checks every row.
    ///
    /// `format` is the version of what the caller keeps in it: a map of a newer one is refused.
    pub fn open(dir: &Path, format: u32) -> Result<Self, Error> {
        // The directory that it is in holds secrets too.
        dir.parent()
            .map_or(Ok(()), make_dir)
            .and_then(|()| make_dir(dir))
            .map_err(|source| refused(dir, source))?;
        let lock = lock(dir)?;
        let mut partial = false;
        for path in snapshots(dir).map_err(|source| refused(dir, source))? {
            if path.extension().is_some_and(|extension| extension == "generating") {
                fs::remove_file(&path).map_err(|source| refused(dir, source))?;
                partial = true;
            }
        }
        if partial {
            tracing::warn!("removed an unfinished index snapshot: the last run ended in the middle of one");
        }
        let map = match open_map(dir) {
            Err(Error::Corrupt { .. }) if set_snapshots_aside(dir)? => open_map(dir),
            outcome => outcome,
        }?;
        let log = OpenOptions::new().read(true).write(true).open(dir.join("db"));
        let log = log.map_err(|source| refused(dir, source))?;
        let db = Self { map, log, dir: dir.to_owned(), lock };
        db.check_format(format)?;
        db.scan(&[])?;
        Ok(db)
    }

    fn check_format(&self, known: u32) -> Result<(), Error> {
        let mark = self.dir.join(MARK_FILE);
        match self.get(FORMAT_ROW)? {
            None if self.map.is_empty() && !mark.exists() => {
                self.put(FORMAT_ROW, &known.to_be_bytes())?;
                File::create(&mark).and_then(|file| file.sync_all()).map_err(|source| self.io(source))?;
                File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|source| self.io(source))
            }
            None => Err(self.corrupt("rows that were written are missing")),
            Some(row) => {
                let found = row.try_into().map(u32::from_be_bytes);
                match found.map_err(|_| self.corrupt("the row with its format is not one"))? {
                    found if found > known => Err(Error::Newer { dir: self.dir.clone(), found, known }),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Returns a row; `None` when there is none.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row = self.map.get(key).map_err(|error| told(&self.dir, error))?;
        row.map(|row| self.unseal(key, &row)).transpose()
    }

    /// Returns every row whose key begins with `prefix`, sorted by key; an empty prefix returns all of the caller's.
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for row in self.map.scan_prefix(prefix) {
            let (key, value) = row.map_err(|error| told(&self.dir, error))?;
            if &*key != FORMAT_ROW {
                rows.push((key.to_vec(), self.unseal(&key, &value)?));
            }
        }
        Ok(rows)
    }

    /// Writes a row; it is on disk when this returns.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put(key, value);
        self.batch(batch)
    }

    /// Removes a row; it is gone from disk when this returns.
    pub fn remove(&self, key: &[u8]) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.remove(key);
        self.batch(batch)
    }

    /// Makes all changes of a batch; they are on disk when this returns.
    pub fn batch(&self, batch: Batch) -> Result<(), Error> {
        let space = rustix::fs::fstatvfs(&self.log).map_err(|error| self.io(error.into()))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < FREE_MIN {
            return Err(Error::Full(self.dir.clone()));
        }
        if self.is_gone() {
            return Err(Error::Gone(self.dir.clone()));
        }
        self.map.apply_batch(batch.0).map_err(|error| told(&self.dir, error))?;
        self.map.flush().map_err(|error| told(&self.dir, error))?;
        self.log.sync_data().map_err(|source| self.io(source))
    }

    /// Returns whether the directory is another one by now, or none: what is written would not be found again.
    fn is_gone(&self) -> bool {
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(self.dir.join(LOCK_FILE)).map(place);
        there.ok() != self.lock.metadata().map(place).ok()
    }

    fn unseal(&self, key: &[u8], row: &[u8]) -> Result<Vec<u8>, Error> {
        let damaged =
            || self.corrupt(&format!("the row {:?} has a wrong checksum", String::from_utf8_lossy(key)));
        let (checksum, value) = row.split_at_checked(CHECKSUM_BYTES).ok_or_else(damaged)?;
        if checksum == crc32fast::hash(value).to_be_bytes() { Ok(value.to_vec()) } else { Err(damaged()) }
    }

    fn corrupt(&self, reason: &str) -> Error {
        Error::Corrupt { dir: self.dir.clone(), reason: reason.to_owned() }
    }

    /// Says that the system refused, here.
    pub fn io(&self, source: io::Error) -> Error {
        Error::Io { dir: self.dir.clone(), source }
    }
}

fn seal(value: &[u8]) -> Vec<u8> {
    let mut row = crc32fast::hash(value).to_be_bytes().to_vec();
    row.extend_from_slice(value);
    row
}

/// The program of this process, even when its file has been replaced or removed.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Returns how much room is left on the file system of a path, bytes.
pub fn room(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Makes a directory for its owner alone. Those above it, where they are missing, are for everybody to pass: others may have
/// directories of theirs beside it.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), fs::create_dir_all)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Writes a file whole or not at all; it is on disk when this returns.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(PARTIAL);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&partial, path)) {
        // On a full disk it would take the room that others need.
        _ = fs::remove_file(&partial);
        return Err(error);
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(dir.join(LOCK_FILE));
    let file = file.map_err(|source| refused(dir, source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(dir.to_owned())),
        Err(error) => Err(refused(dir, error.into())),
    }
}

fn snapshots(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Moves index snapshots out of the way; returns whether there were any.
fn set_snapshots_aside(dir: &Path) -> Result<bool, Error> {
    let found = snapshots(dir).map_err(|source| refused(dir, source))?;
    for path in &found {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::rename(path, dir.join(format!("damaged.{name}"))).map_err(|source| refused(dir, source))?;
    }
    if !found.is_empty() {
        tracing::warn!("set a damaged index snapshot aside; reading the whole log");
    }
    Ok(!found.is_empty())
}

fn open_map(dir: &Path) -> Result<sled::Db, Error> {
    let mut waited = Duration::ZERO;
    loop {
        let config =
            sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS));
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let Ok(opened) = opened else {
            let reason = "its log is cut short or overwritten".to_owned();
            return Err(Error::Corrupt { dir: dir.to_owned(), reason });
        };
        match opened {
            Ok(map) => return Ok(map),
            // Our own lock is held: a map that is being closed in this process still has its file open.
            Err(sled::Error::Io(error)) if is_lock(&error) => {
                if waited >= LOCK_WAIT {
                    return Err(Error::Locked(dir.to_owned()));
                }
                std::thread::sleep(LOCK_RETRY);
                waited += LOCK_RETRY;
            }
            Err(error) => return Err(told(dir, error)),
        }
    }
}

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn refused(dir: &Path, source: io::Error) -> Error {
    let dir = dir.to_owned();
    match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(
            rustix::io::Errno::ACCESS
            | rustix::io::Errno::PERM
            | rustix::io::Errno::ROFS
            | rustix::io::Errno::NOTDIR
            | rustix::io::Errno::EXIST,
        ) => Error::Denied { dir, source },
        Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Error::Full(dir),
        _ => Error::Io { dir, source },
    }
}

fn told(dir: &Path, error: sled::Error) -> Error {
    let corrupt = |reason: String| Error::Corrupt { dir: dir.to_owned(), reason };
    match error {
        sled::Error::Io(source)
            if [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData].contains(&source.kind()) =>
        {
            corrupt(source.to_string())
        }
        sled::Error::Io(source) => refused(dir, source),
        error @ (sled::Error::Corruption { .. }
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::CollectionNotFound(_)) => corrupt(error.to_string()),
    }
}
