//! The programs that a proxy has got from its control plane, in a folder of its data directory: a service may not write
//! where its program is installed, nor should it.
//!
//! | file | what |
//! |---|---|
//! | `mesh-…` | a program, named by the beginning of its SHA-256 |
//! | `base` | the SHA-256 of the installed program in whose place it runs |
//! | `current` | the name of the program that took over last |
//!
//! Whoever starts the installed program, after a reboot or for any other reason, gets the current one instead, for as long
//! as the installed one is that of `base`: installing another one puts all of this away.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use data_encoding::HEXLOWER;

use crate::api::client::{self, Client};
use crate::identity::certificate::{file_sha256, sha256};
use crate::net::disk::{self, OWN_PROGRAM};

/// The folder, in the data directory.
const FOLDER: &str = "program";
const BASE: &str = "base";
const CURRENT: &str = "current";
/// Others than the owner may write.
const FOREIGN_WRITERS: u32 = 0o022;

/// Why there is no program to start. None was kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not downloaded.
    #[error("its program cannot be downloaded: {0}")]
    Download(#[from] client::Error),
    /// It is another one.
    #[error("what arrived is not what was meant: its SHA-256 is {found} instead of {wanted}")]
    Other {
        /// What arrived.
        found: String,
        /// What was meant.
        wanted: String,
    },
    /// It cannot be kept.
    #[error("{path} cannot be written: {source}")]
    Unwritten {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not start.
    #[error("the control plane's program does not run on this host ({0})")]
    Unfit(String),
}

/// Returns the SHA-256 of the program that this process runs, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn own_sum() -> io::Result<String> {
    file_sha256(Path::new(OWN_PROGRAM))
}

/// Makes sure that a program is the one that was meant.
///
/// # Errors
/// When it is another one.
pub fn check(program: &[u8], wanted: &str) -> Result<(), Error> {
    let found = HEXLOWER.encode(&sha256(program));
    if found == wanted { Ok(()) } else { Err(Error::Other { found, wanted: wanted.to_owned() }) }
}

/// Writes a program, and makes sure that it runs here; removes it if not.
///
/// # Errors
/// When it cannot be written, or does not run.
pub fn write(file: &Path, program: &[u8]) -> Result<(), Error> {
    let unwritten = |source| Error::Unwritten { path: file.to_owned(), source };
    disk::write_file(file, program, 0o755).map_err(unwritten)?;
    let ran = std::process::Command::new(file).arg("version").stdin(Stdio::null()).output();
    let reason = match ran {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => output.status.to_string(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}: the file system of {} may be mounted noexec", file.display())
        }
        Err(error) => error.to_string(),
    };
    _ = fs::remove_file(file);
    Err(Error::Unfit(reason))
}

/// Downloads a program from the control plane and keeps it beside the others of a data directory; returns its file.
///
/// # Errors
/// When it is not what was meant, or cannot be kept, or does not run here.
pub(crate) async fn fetch(client: &Client, data_dir: &Path, wanted: &str) -> Result<PathBuf, Error> {
    let program = client.program().await?;
    check(&program, wanted)?;
    let (data_dir, wanted) = (data_dir.to_owned(), wanted.to_owned());
    let kept = tokio::task::spawn_blocking(move || keep(&data_dir, &program, &wanted)).await;
    kept.map_err(|_| Error::Unfit("writing it was interrupted".to_owned()))?
}

/// Keeps a program beside the others of a data directory; returns its file.
///
/// # Errors
/// As [`write`].
pub fn keep(data_dir: &Path, program: &[u8], sum: &str) -> Result<PathBuf, Error> {
    let folder = data_dir.join(FOLDER);
    let file = folder.join(format!("mesh-{}", sum.get(..16).unwrap_or(sum)));
    let prepare = || {
        disk::make_dir(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        if !folder.join(BASE).exists() {
            disk::write_file(&folder.join(BASE), own_sum()?.as_bytes(), 0o600)?;
        }
        Ok(())
    };
    prepare().map_err(|source| Error::Unwritten { path: folder.clone(), source })?;
    write(&file, program)?;
    Ok(file)
}

/// Returns whether a program is one that a data directory keeps.
pub fn is_kept(data_dir: &Path, program: &Path) -> bool {
    let folder = data_dir.join(FOLDER).canonicalize();
    folder.is_ok_and(|folder| program.parent() == Some(folder.as_path()))
}

/// Returns the program that is to run in the place of this one, which is the installed one; `None` when this one is.
pub fn current(data_dir: &Path) -> Option<PathBuf> {
    let folder = data_dir.join(FOLDER);
    let name = fs::read_to_string(folder.join(CURRENT)).ok()?;
    let file = folder.join(name.trim());
    // Whoever could have put it there could have started it just as well.
    let is_trusted = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| {
            let owner = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
            owner && found.mode() & FOREIGN_WRITERS == 0
        })
    };
    let is_whole = is_kept(data_dir, &file.canonicalize().ok()?) && is_trusted(&folder) && is_trusted(&file);
    let is_base = || Some(fs::read_to_string(folder.join(BASE)).ok()?.trim() == own_sum().ok()?);
    (is_whole && !is_same(&file) && is_base() == Some(true)).then_some(file)
}

/// Returns whether a file is this very program.
fn is_same(file: &Path) -> bool {
    let place = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    place(file) == place(Path::new(OWN_PROGRAM))
}

/// Notes that this process is the proxy of a data directory: by one of its programs, which the next start gets too, or by
/// the installed one, and then the others are put away.
pub(crate) fn settle(data_dir: &Path) {
    let folder = data_dir.join(FOLDER);
    let Ok(entries) = fs::read_dir(&folder) else { return };
    let programs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    let Some(own) = programs.iter().find(|file| is_same(file)) else {
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(%error, path = %folder.display(), "programs that are not used any more are left");
        }
        return;
    };
    let name = own.file_name().unwrap_or_default().to_string_lossy();
    if let Err(error) = disk::write_file(&folder.join(CURRENT), name.as_bytes(), 0o600) {
        tracing::warn!(%error, "the next start will be of the installed program, not of this one");
    }
    let old = |file: &&PathBuf| {
        *file != own && !matches!(file.file_name(), Some(name) if name == BASE || name == CURRENT)
    };
    for file in programs.iter().filter(old) {
        _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use crate::identity::certificate::sha256;
    use crate::proxy::program::{Error, check, current, is_kept, keep, own_sum, settle};

    const PROGRAM: &[u8] = b"#!/bin/sh\nexit 0\n";

    fn sum(program: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(&sha256(program))
    }

    #[test]
    fn a_kept_program_is_current_once_it_took_over_and_until_another_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let file = keep(folder.path(), PROGRAM, &sum(PROGRAM)).unwrap();
        assert!(is_kept(folder.path(), &file.canonicalize().unwrap()));
        assert_eq!(current(folder.path()), None, "it has not taken over");

        fs::write(file.with_file_name("current"), file.file_name().unwrap().as_encoded_bytes()).unwrap();
        assert_eq!(current(folder.path()), Some(file.clone()));

        fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(current(folder.path()), None, "anybody could have written it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(file.with_file_name("current"), "../../bin/sh").unwrap();
        assert_eq!(current(folder.path()), None, "it is none of the kept ones");
        fs::write(file.with_file_name("base"), sum(b"another")).unwrap();
        assert_eq!(current(folder.path()), None, "another one was installed");
    }

    #[test]
    fn the_installed_program_puts_the_others_away() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), PROGRAM, &sum(PROGRAM)).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("program/base")).unwrap(), own_sum().unwrap());

        settle(folder.path());

        assert!(!folder.path().join("program").exists());
    }

    #[test]
    fn what_is_not_what_was_meant_or_does_not_run_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let broken = b"#!/bin/sh\nexit 3\n";

        assert!(matches!(check(PROGRAM, &sum(broken)), Err(Error::Other { .. })));
        assert!(matches!(keep(folder.path(), broken, &sum(broken)), Err(Error::Unfit(_))));
        let left: Vec<_> = fs::read_dir(folder.path().join("program")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
